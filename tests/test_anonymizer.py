"""What the face generators are told, and what they are not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data

from models.errors import MissingFeatures
from models.faces import geometry
from models.faces.alignment import Alignment
from models.faces.confidence import FaceConfidence
from models.faces.detection import open_detector
from models.faces.embedding import MobileFaceNet, load_embedding
from models.faces.windows import window_of
from models.families.anonymizer.conditions import (
    Asked,
    code_of,
    face_mask,
    pack_identity,
    pack_surroundings,
)
from models.families.anonymizer.identity import IdentityObjective, eight_bit
from models.families.anonymizer.networks import IdentityTransformer, build_generator
from models.families.anonymizer.painter import FaceConfig
from models.families.anonymizer.surroundings import SurroundingsObjective
from models.families.anonymizer.terms import AnonymizerConfig, augmented_window
from models.images import Limits, decode, to_tensor

LANDMARKS = torch.tensor(geometry.LANDMARKS)


def faces(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 128, 128) * 2 - 1


def test_surroundings_hold_nothing_of_the_face():
    """Without a passcode the generator's input, so its answer, is the same whoever's face it is."""
    x = faces(1)
    inside = face_mask(x).bool()
    other = torch.where(inside, faces(1), x)
    code = torch.randn(1, 7)
    packed, packed_other = (pack_surroundings(face, LANDMARKS[None], code) for face in (x, other))
    assert not torch.equal(x, other)
    assert torch.equal(packed, packed_other)
    assert packed.shape == (1, 9 + 7, 128, 128)


def test_the_mask_covers_every_landmark_with_room():
    """The erased ellipse reaches well beyond eyes, nose and mouth."""
    mask = face_mask(faces(1))[0, 0]
    for x, y in LANDMARKS.round().int().tolist():
        assert mask[y - 12 : y + 13, x - 12 : x + 13].all()
    assert 0.3 < mask.mean() < 0.5


@torch.no_grad()
def test_a_painted_face_fades_out_without_a_seam():
    """Whoever is painted: at the rim of the hole is what is around it, in the middle a face."""
    painter = build_generator(FaceConfig(condition="surroundings", base_channels=4, blocks=1))
    colour = torch.tensor([-0.5, 0.1, 0.6])[:, None, None]
    x = colour.expand(1, 3, 128, 128)
    painted = painter(pack_surroundings(x, LANDMARKS[None], torch.randn(1, 32)))
    strayed = (painted - colour).abs().amax(1, keepdim=True)
    assert strayed[~face_mask(x).bool()].max() == 0
    rim = face_mask(x) * (1 - face_mask(x, 0.98))
    assert strayed[rim.bool()].max() < 0.05
    assert strayed[face_mask(x, 0.8).bool()].mean() > 0.2


BITS = torch.rand(1, 16, generator=torch.Generator().manual_seed(3)) < 0.5


def identity(**changes: object) -> IdentityTransformer:
    """An untrained generator with a passcode."""
    torch.manual_seed(1)
    sizes = {"code_length": 16, "base_channels": 8, "blocks": 2, "finder_blocks": 1} | changes
    generator = build_generator(FaceConfig(condition="identity", **sizes)).eval()
    assert isinstance(generator, IdentityTransformer)
    return generator


@torch.no_grad()
def test_what_is_around_the_face_stays():
    """With a passcode the generator makes the face anew and no pixel of its surroundings."""
    x = faces(1)
    answer = identity()(pack_identity(x, BITS))
    changed = (answer != x).any(1)[0]
    inside = face_mask(x)[0, 0].bool()
    assert changed[inside].all()
    assert not changed[~inside].any()


@torch.no_grad()
def test_a_face_is_hidden_faintly():
    """Whose face it was changes a pixel by `strength` of the difference, and by few levels."""
    generator = identity(strength=0.05)
    x = faces(1)
    other = torch.where(face_mask(x).bool(), faces(1), x)
    new, new_other = (generator(pack_identity(face, BITS)) for face in (x, other))
    assert not torch.equal(new, new_other)
    assert ((new - new_other).abs() <= 0.05 * (x - other).abs() + 1e-6).all()
    painted = generator(pack_identity(x, BITS, Asked.PAINTED))
    assert (new - painted).abs().max() <= 0.05 * math.log(5) / 2 + 1e-6


@torch.no_grad()
def test_signs_are_parities_of_the_bits():
    """One bit of the passcode turns half of the signs, so what is hidden looks like noise."""
    generator, x = identity(), faces(1)
    other = BITS.clone()
    other[0, 5] = ~other[0, 5]
    one, two = (generator._signs(x, code_of(bits, x)) for bits in (BITS, other))
    assert set(one.unique().tolist()) == {-1.0, 1.0}
    assert 0.4 < (one != two).float().mean() < 0.6
    assert one.mean().abs() < 0.1


@torch.no_grad()
def test_signs_are_those_of_any_precision():
    """A training in bf16 hides faces under the same signs as the service, however long the code."""
    torch.manual_seed(0)
    generator, x, bits = identity(code_length=1024), faces(1), torch.rand(1, 1024) < 0.5
    signs = generator._signs(x, code_of(bits, x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(generator._signs(x, code_of(bits, x)), signs)


@torch.no_grad()
def test_the_way_back():
    """The passcode that hid a face finds it, before any training, to about a level of 256."""
    generator, x = identity(strength=0.15), eight_bit(faces(1) * 0.5)
    new = eight_bit(generator(pack_identity(x, BITS)))
    torch.nn.init.constant_(generator.finder.tail.bias, 20.0)  # of the share of what is found
    torch.nn.init.zeros_(generator.finder.tail.bias.view(4, 16)[:3])
    found = generator(pack_identity(new, BITS, Asked.OLD))
    assert (found - x).abs().mean() < 3 / 255
    stranger = generator(pack_identity(new, ~BITS, Asked.OLD))
    assert (stranger - x).abs().mean() > 0.1


def test_the_code_reaches_the_answer():
    """Another code paints another face, in spite of normalisation by the picture's statistics."""
    torch.manual_seed(0)
    config = FaceConfig(condition="surroundings", code_length=16, base_channels=8, blocks=2)
    generator = build_generator(config).eval()
    x = faces(1)
    packed = [pack_surroundings(x, LANDMARKS[None], code) for code in torch.randn(2, 1, 16)]
    with torch.no_grad():
        one, other = (generator(each) for each in packed)
    assert packed[0].shape[1] == config.channels_in
    assert (one - other).abs().mean() > 1e-3


def test_eight_bits():
    """In training the inverse sees what a file holds."""
    x = faces(1)
    y = eight_bit(x)
    levels = (y + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert (y - x).abs().max() <= 1 / 255 + 1e-6


def test_window_is_differentiable():
    """The embedding's view of a face passes gradients to all of the face."""
    x = faces(2).requires_grad_()
    window = augmented_window(x)
    assert window.shape == (2, 3, 112, 112)
    window.sum().backward()
    assert (x.grad[:, :, 30:100, 30:100] != 0).float().mean() > 0.99


@torch.no_grad()
def test_a_window_is_that_of_any_precision():
    """A training in bf16 judges faces where one in float32 does, not a part of a pixel away."""
    x, matrix = faces(2), torch.tensor([[[0.8, 0.1, 0.03], [-0.1, 0.8, 0.07]]]).expand(2, 2, 3)
    window = window_of(x, matrix, 112, "reflection")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(window_of(x, matrix, 112, "reflection"), window)


def test_confidence_tells_a_face():
    """The detector's networks are sure of an aligned face, not of noise, and say where to mend."""
    with get_sample_data("grace_hopper.jpg") as file:
        hopper = decode(file.read(), Limits()).rgb
    face = open_detector(torch.device("cpu"))(hopper)[0]
    crop = Alignment.of_landmarks(face.landmarks, hopper.shape[:2]).crop(hopper)
    confidence = FaceConfidence()
    assert confidence(to_tensor(crop)[None]).min() > 0.9
    noise = faces(4).requires_grad_()
    doubted = confidence(noise)
    assert doubted.shape == (8,)
    assert doubted.max() < 0.5
    doubted.sum().backward()
    assert (noise.grad[::2, :, 40:100, 40:90] != 0).float().mean() > 0.99


def test_confidence_at_borders():
    """Every second face is looked at as in a tight portrait, beyond whose borders nothing is."""
    pictures = faces(100).requires_grad_()
    FaceConfidence()(pictures).sum().backward()
    whole, tight = ((g != 0).any(1).float() for g in (pictures.grad[::2], pictures.grad[1::2]))
    for side in (np.s_[:, 36:92, 25], np.s_[:, 36:92, 100], np.s_[:, 32, 36:92]):
        assert whole[side].mean() > 0.9
        assert 0.3 < tight[side].mean() < 0.95
    assert tight[:, 36:92, 36:92].mean() > 0.98


@pytest.mark.parametrize("condition", ["identity", "surroundings"])
def test_both_trainings_record_their_embedding(condition: str):
    """Either generator is trained by terms that all have a weight, and says by which embedding."""
    objective = tiny(condition)
    assert list(objective.generators) == [condition]
    assert "MobileFaceNet" in objective.conventions["embedding"]
    batch = {"face": faces(2), "landmarks": LANDMARKS.expand(2, -1, -1)}
    terms, fakes = objective.generator_step(batch)
    assert terms.keys() == objective.weights.keys()
    if condition == "surroundings":
        assert objective.discriminator_step(batch, fakes)["face"].isfinite()


def test_codes_that_share_most_bits():
    """A painter is trained to tell such codes apart, also where a batch is a single face."""
    objective = tiny("surroundings")
    for count in (1, 3, 4):
        batch = {"face": faces(count), "landmarks": LANDMARKS.expand(count, -1, -1)}
        terms, fakes = objective.generator_step(batch)
        assert len(fakes["face"]) == 2 * count + (count + 1) // 2
        assert 0 <= terms["apart"] < 1.001


def tiny(condition: str) -> IdentityObjective | SurroundingsObjective:
    config = FaceConfig(condition=condition, code_length=4, base_channels=4, blocks=1)
    kind = IdentityObjective if condition == "identity" else SurroundingsObjective
    return kind(config, AnonymizerConfig(patch_channels=4), MobileFaceNet())


def test_identity_adopts_a_painter():
    """The training with a passcode starts from a painter of its size, which it leaves alone."""
    objective, painter = tiny("identity"), tiny("surroundings").generators["surroundings"]
    adopted = objective.generators["identity"].painter
    assert objective.adopt("identity", painter.config, painter.state_dict())
    for name, value in adopted.state_dict().items():
        assert torch.equal(value, painter.state_dict()[name])
    assert not any(value.requires_grad for value in adopted.parameters())
    wider = painter.config.model_copy(update={"base_channels": 8})
    assert not objective.adopt("identity", wider, {})


def test_missing_embedding(tmp_path: Path):
    """Without the embedding's weights the error says how to name them."""
    with pytest.raises(MissingFeatures, match="--features"):
        load_embedding(None)
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(MissingFeatures, match="no MobileFaceNet"):
        load_embedding(path)


def test_embedding_tells_people_apart(shared: Path):
    """MobileFaceNet as read from ONNX puts a face near itself mirrored and far from others."""
    from models.pictures import read_picture, signed

    network = load_embedding(shared / "weights" / "MobileFaceNet.onnx")
    assert isinstance(network, MobileFaceNet)
    paths = sorted((shared / "data/faces/synthetic_gan").iterdir())[::400]
    x = torch.stack([signed(read_picture(path)) for path in paths])
    torch.manual_seed(0)
    one, mirrored = (network(augmented_window(face)) for face in (x, x.flip(3)))
    likeness = one @ mirrored.T
    same = likeness.diagonal()
    others = likeness[~torch.eye(len(x), dtype=torch.bool)]
    assert same.min() > 0.6
    assert others.mean() < 0.3
    assert same.min() > others.max()
