"""What every family promises, asserted for each of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models.blocks import (
    NearestConv,
    PatchGAN,
    as_displayed,
    local_mean,
    norm_layer,
    parameter_count,
)
from models.checkpoint import Header, load_generator, save_generator, skeleton
from models.errors import InvalidCheckpoint
from models.families import FAMILIES, family
from models.families.srgan.networks import SRDiscriminator
from models.family import Family

# Every kind of generator there is, as small as it can be.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("pix2pix", {"base_channels": 4, "depth": 5}),
    ("pix2pix", {"base_channels": 4, "depth": 6, "statistics": "running"}),
    ("pix2pix", {"base_channels": 4, "depth": 5, "upsampling": "nearest"}),
    ("pix2pix", {"base_channels": 4, "depth": 5, "norm": "instance", "channels_in": 1}),
    ("pix2pix", {"base_channels": 4, "depth": 5, "channels_in": 1, "channels_out": 2}),
    ("cyclegan", {"base_channels": 4, "blocks": 1}),
    ("cyclegan", {"base_channels": 4, "blocks": 2, "upsampling": "transposed", "dropout": 0.5}),
    ("cyclegan", {"base_channels": 4, "blocks": 1, "norm": "batch"}),
    ("cyclegan", {"base_channels": 4, "blocks": 1, "clip": 2.0}),
    ("cyclegan", {"base_channels": 4, "blocks": 1, "undertone_px": 9}),
    ("srgan", {"channels": 8, "blocks": 1, "scale": 2}),
    ("srgan", {"channels": 8, "blocks": 2, "scale": 4, "value_range": "signed"}),
    ("srgan", {"architecture": "srresnet", "channels": 8, "blocks": 1, "output": "tanh"}),
    ("srgan", {"architecture": "srresnet", "channels": 8, "blocks": 1, "batch_norm": False}),
    ("srgan", {"architecture": "rrdb", "channels": 8, "blocks": 1, "growth": 4}),
    ("srgan", {"architecture": "rrdb", "channels": 8, "blocks": 1, "scale": 2, "unshuffle": 2}),
    ("srgan", {"architecture": "compact", "channels": 8, "blocks": 2}),
    ("style", {"base_channels": 4, "blocks": 1}),
    ("style", {"base_channels": 8, "blocks": 1, "value_range": "byte"}),
    ("anonymizer", {"base_channels": 4, "blocks": 1, "code_length": 3, "strength": 0.5}),
    ("anonymizer", {"base_channels": 4, "blocks": 1, "condition": "surroundings"}),
    (
        "anonymizer",
        {"base_channels": 4, "blocks": 1, "condition": "surroundings", "tone_channels": 4},
    ),
]


@pytest.fixture(params=VARIANTS, ids=lambda v: f"{v[0]}-{'-'.join(map(str, v[1].values()))}")
def built(request: pytest.FixtureRequest) -> tuple[Family, Any, nn.Module]:
    """A family, a configuration and its generator, whose normalisations are not the identity."""
    family_id, hyperparameters = request.param
    kind = family(family_id)
    config = kind.generator_config(**hyperparameters)
    generator = kind.build_generator(config)
    for layer in generator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    return kind, config, generator.eval().requires_grad_(False)


def pictures(kind: Family, config: Any, height: int, width: int, count: int = 1) -> Tensor:
    """Random (count, C, H, W) in [-1, 1], padded to a size the generator takes."""
    channels = getattr(config, "channels_in", 3)
    x = torch.rand(count, channels, height, width) * 2 - 1
    padded_height, padded_width = kind.size_rule(config).padded(height, width)
    return nn.functional.pad(x, (0, padded_width - width, 0, padded_height - height))


def test_every_family_has_a_variant():
    """The assertions here hold every family there is."""
    assert {family_id for family_id, _ in VARIANTS} == set(FAMILIES)


@pytest.mark.parametrize("size", [(1, 1), (17, 40), (33, 24)])
def test_output_size(built: tuple[Family, Any, nn.Module], size: tuple[int, int]):
    """Padded by its size rule, a picture of any size gives one of `scale` times that size."""
    kind, config, generator = built
    x = pictures(kind, config, *size)
    answer = generator(x)
    scale = kind.scale(config)
    channels = getattr(config, "channels_out", 3)
    assert answer.shape == (1, channels, scale * x.shape[2], scale * x.shape[3])
    assert answer.isfinite().all()


def test_batch_equals_singles(built: tuple[Family, Any, nn.Module]):
    """In evaluation mode an answer does not depend on the rest of the batch."""
    kind, config, generator = built
    x = pictures(kind, config, 32, 32, count=3)
    singles = torch.cat([generator(one[None]) for one in x])
    torch.testing.assert_close(generator(x), singles, atol=1e-5, rtol=0)


def test_deterministic(built: tuple[Family, Any, nn.Module]):
    """In evaluation mode the same picture gives the same bits."""
    kind, config, generator = built
    x = pictures(kind, config, 32, 32)
    assert torch.equal(generator(x), generator(x))


def test_save_and_load(built: tuple[Family, Any, nn.Module], tmp_path: Path):
    """A saved generator loads in evaluation mode and answers the same bits."""
    kind, config, generator = built
    header = Header(family=kind.id, generator=config.model_dump(), name="tiny", card={})
    path = tmp_path / "tiny.safetensors"
    save_generator(path, generator, header)
    loaded = load_generator(path)
    assert (loaded.family, loaded.config) == (kind, config)
    assert not loaded.module.training
    x = pictures(kind, config, 32, 32)
    assert torch.equal(loaded.module(x), generator(x))


def test_unknown_hyperparameter():
    """A family refuses a hyperparameter that it does not know."""
    for kind in FAMILIES.values():
        with pytest.raises(ValueError, match="wings"):
            kind.generator_config(wings=2)


def test_unknown_family():
    """The error for an unknown family lists the known ones."""
    with pytest.raises(InvalidCheckpoint, match="anonymizer, cyclegan, pix2pix, srgan, style"):
        family("vae")


def test_serving_imports_no_losses(root: Path):
    """What serves never loads the losses, the perceptual network or the training loop."""
    program = """
import sys
import app.inference, app.main, models.checkpoint, models.registry
training = {"models." + name for name in ("losses", "features", "data", "training")}
print(training & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "set()", done.stderr


COUNTS = [
    ("cyclegan", {"upsampling": "transposed"}, 11_378_179),
    ("cyclegan", {"upsampling": "transposed", "blocks": 6}, 7_837_699),
    ("pix2pix", {}, 54_413_955),
    ("pix2pix", {"depth": 7}, 41_828_995),
    ("srgan", {}, 1_517_571),
    ("srgan", {"architecture": "srresnet", "blocks": 5, "output": "tanh"}, 734_219),
    ("srgan", {"architecture": "srresnet"}, 1_549_462),
    ("srgan", {"architecture": "rrdb", "blocks": 23}, 16_697_987),
    ("srgan", {"architecture": "rrdb", "blocks": 23, "scale": 2, "unshuffle": 2}, 16_703_171),
    ("srgan", {"architecture": "rrdb", "blocks": 6}, 4_467_779),
    ("srgan", {"architecture": "compact"}, 621_424),
    ("srgan", {"architecture": "compact", "blocks": 32}, 1_213_296),
    ("style", {}, 1_679_235),
]


@pytest.mark.parametrize(("family_id", "hyperparameters", "count"), COUNTS)
def test_generator_parameters(family_id: str, hyperparameters: dict[str, Any], count: int):
    """The full-size generators have the published numbers of parameters."""
    kind = family(family_id)
    generator = skeleton(kind, kind.generator_config(**hyperparameters))
    assert parameter_count(generator) == count


def test_discriminator_parameters():
    """The full-size PatchGANs of pix2pix and CycleGAN have the published numbers of parameters."""
    with torch.device("meta"):
        assert parameter_count(PatchGAN(6, norm="batch")) == 2_768_705
        assert parameter_count(PatchGAN(3, norm="instance")) == 2_764_737


@pytest.mark.parametrize(
    ("layers", "field"), [(0, 1), (1, 16), (2, 34), (3, 70), (4, 142), (5, 286)]
)
def test_patchgan_receptive_field(layers: int, field: int):
    """One PatchGAN logit sees a square of exactly the pixels that the paper says."""
    side = field + 2 ** (layers + 2)
    picture = torch.zeros(1, 1, side, side, requires_grad=True)
    discriminator = PatchGAN(1, 2, layers, norm="none")
    for parameter in discriminator.parameters():
        nn.init.constant_(parameter, 0.1)  # so that no two paths cancel
    logits = discriminator(picture)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert picture.grad is not None
    seen = picture.grad[0, 0].nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [field, field]


def test_super_resolution_discriminator_takes_any_crop():
    """The SRGAN discriminator judges crops of any size with one logit each."""
    discriminator = SRDiscriminator(4, dense=8)
    for side in (16, 33, 96):
        assert discriminator(torch.zeros(2, 3, side, side)).shape == (2, 1)


def test_dropout_sits_in_the_innermost_steps():
    """A U-Net of depth 8 drops values in its three innermost steps up, as the paper's does."""
    kind = family("pix2pix")
    generator = skeleton(kind, kind.generator_config(base_channels=1))
    dropping = [
        index
        for index, step in enumerate(generator.up)
        if any(isinstance(layer, nn.Dropout) for layer in step)
    ]
    assert dropping == [5, 6, 7]


def test_no_spot_stands_out_of_a_clipped_norm():
    """However far a spot is from all others, what a clipped normalisation gives is bounded."""
    features = torch.zeros(1, 2, 64, 64)
    features[:, :, 5, 7] = 1e4
    assert norm_layer("instance", 2)(features).max() > 60
    assert norm_layer("instance", 2, clip=6.0)(features).max() == 6


@pytest.mark.parametrize("norm", ["batch", "instance_affine", "none"])
def test_a_clip_is_in_standard_deviations(norm: str):
    """Normalisations whose answers are not in standard deviations refuse a clip."""
    with pytest.raises(ValidationError, match=f"clip.*{norm}"):
        family("cyclegan").generator_config(norm=norm, clip=6.0)


def test_an_undertone_tells_one_colour_from_another():
    """To instance normalisation a picture is the same in any colour; an undertone is not."""
    kind = family("cyclegan")
    bare = kind.build_generator(kind.generator_config(base_channels=4, blocks=1)).eval()
    config = kind.generator_config(base_channels=4, blocks=1, undertone_px=9)
    toned = kind.build_generator(config).eval()
    picture = torch.rand(1, 3, 16, 16) - 0.5
    greener = picture + torch.tensor([0.0, 0.4, 0.0])[:, None, None]
    torch.testing.assert_close(bare(picture), bare(greener), atol=1e-3, rtol=0)
    assert (toned(greener) - toned(picture))[:, 1].min() > 0.1


def test_an_undertone_is_the_mean_around_a_pixel():
    """Each value is the mean of the square around it, of as much of it as is in the picture."""
    picture = torch.rand(2, 3, 16, 20)
    mean = local_mean(picture, 5)
    torch.testing.assert_close(mean[..., 7, 9], picture[..., 5:10, 7:12].mean((-2, -1)))
    torch.testing.assert_close(mean[..., 0, 19], picture[..., :3, 17:].mean((-2, -1)))
    torch.testing.assert_close(
        local_mean(picture, 255), picture.mean((-2, -1), keepdim=True).expand_as(picture)
    )


@pytest.mark.parametrize(
    "refused", [{"undertone_px": 8}, {"undertone_px": 9, "channels_in": 1}], ids=str
)
def test_an_undertone_fits_the_picture(refused: dict[str, Any]):
    """An undertone has a pixel in its middle and the answer's channels."""
    with pytest.raises(ValidationError, match="undertone_px"):
        family("cyclegan").generator_config(**refused)


def test_enlarging_is_the_same_in_training_and_after():
    """Training computes enlargement and convolution at once, without another answer."""
    layer = NearestConv(3, 5, bias=True)
    picture = torch.randn(2, 3, 1, 7)
    torch.testing.assert_close(layer.train()(picture), layer.eval()(picture))


def test_what_is_displayed_can_come_back():
    """Beyond white, gradient descent sees the clamped value and moves only back inside."""
    raw = torch.tensor([-2.0, -0.5, 0.5, 2.0, 2.0], requires_grad=True)
    shown = as_displayed(raw)
    assert shown.tolist() == [-1, -0.5, 0.5, 1, 1]
    (shown * torch.tensor([-1.0, 1, -1, 1, -1])).sum().backward()
    assert raw.grad is not None
    assert raw.grad.tolist() == [-1, 1, -1, 1, 0]
