"""A new face has the tone of what is seen around it, whoever it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoint import load_generator
from models.evaluation.face_protocols import portraits
from models.faces.detection import open_detector
from models.faces.geometry import LANDMARKS
from models.families.anonymizer.conditions import (
    code_of,
    face_mask,
    pack_surroundings,
)
from models.families.anonymizer.networks import build_generator
from models.families.anonymizer.painter import FaceConfig
from models.families.anonymizer.tone import toned, tones
from models.families.anonymizer.toning import ToneObjective
from models.images import to_tensor
from models.pictures import Pictures, rgb_of

SIZES = {"condition": "surroundings", "base_channels": 4, "blocks": 1}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([32, 128]))
def test_a_picture_takes_the_tones_that_are_wanted(seed: int, side: int):
    """Whatever was painted, its cells come near to the wanted colours, and stay in range."""
    torch.manual_seed(seed)
    painted = torch.rand(1, 3, side, side) * 1.2 - 0.6
    wanted = (torch.rand(1, 3, 1, 1) - 0.5) + 0.2 * torch.rand(1, 3, 2, 2)
    answer = toned(painted, wanted)
    assert answer.abs().max() <= 1
    assert (tones(answer) - wanted).abs().mean() < 0.08


def test_a_picture_of_its_own_tones_stays():
    """A painted face that has the right tone already is left alone."""
    painted = torch.rand(2, 3, 128, 128) * 1.6 - 0.8
    torch.testing.assert_close(toned(painted, tones(painted)), painted, atol=1e-5, rtol=0)


def test_the_tone_is_learned_beside_a_painter():
    """A painter trained without a tone is adopted and stays, whatever its strength would be."""
    objective = ToneObjective(FaceConfig(**SIZES, tone_channels=4))
    painter = build_generator(FaceConfig(**SIZES, strength=0.2))
    adopted = objective.generators["surroundings"]
    assert objective.adopt("surroundings", painter.config, painter.state_dict())
    own = adopted.state_dict()
    assert all(torch.equal(own[name], value) for name, value in painter.state_dict().items())
    trained = {name for name, value in adopted.named_parameters() if value.requires_grad}
    assert trained == {name for name in own if name.startswith("tone.")} != set()
    wider = FaceConfig(**SIZES | {"base_channels": 8})
    assert not objective.adopt("surroundings", wider, {})


@torch.no_grad()
def test_dark_faces_stay_dark(shared: Path, root: Path):
    """The shipped painter gives each held-out portrait a face about as dark, whoever is painted."""
    painter = load_generator(root / "models/weights/face-surroundings.safetensors").module
    photos = Pictures(shared / "data", ["faces/synthetic_sd3_cc0"])
    found = portraits(
        [("", rgb_of(photos[i])) for i in range(0, len(photos), 10)],
        open_detector(torch.device("cpu")),
    )
    x = torch.stack([to_tensor(portrait.alignment.crop(portrait.rgb)) for portrait in found])
    code = code_of(torch.rand(len(x), 32) < 0.5, x)
    landmarks = torch.tensor(LANDMARKS).expand(len(x), -1, -1)
    painted = painter(pack_surroundings(x, landmarks, code))
    core = face_mask(x, 0.75)
    before, after = ((face * core).sum((1, 2, 3)) / core.sum() / 3 for face in (x, painted))
    dark = before.argsort()[: len(x) // 2]
    assert (after - before)[dark].mean() < 0.1
    assert np.corrcoef(before, after)[0, 1] > 0.6
