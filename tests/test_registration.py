"""A known face found in a picture more exactly than a detector can."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from PIL import Image

from models.faces.alignment import Alignment
from models.faces.registration import difference, moved
from models.images import Pixels

SIZE = (600, 512)
TRUE = Alignment(np.array([(1.9, 0.1, 145.0), (-0.1, 1.9, 60.0)]), SIZE)


@pytest.fixture(scope="module")
def portrait() -> Pixels:
    """Rear Admiral Grace Hopper, as matplotlib brings her."""
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return np.asarray(image.convert("RGB"))


def off_px(alignment: Alignment) -> float:
    """How far the square's landmarks are from where they belong, in its own pixels."""
    return float(np.abs(alignment.landmarks - TRUE.landmarks).max() / TRUE.scale)


@pytest.mark.parametrize(("hidden", "contrast", "light"), [(0, 1, 0), (8, 1, 0), (8, 0.8, 20)])
@pytest.mark.parametrize(
    "by", [(3, -2, 0, 0), (0, 0, 0.05, 0), (0, 0, 0, 0.05), (-2, 2, -0.03, 0.03)]
)
def test_steps_lead_to_the_place(
    portrait: Pixels, by: tuple[float, ...], hidden: int, contrast: float, light: int
) -> None:
    """From as far off as a detector is, to a tenth of a pixel, in any light, with codes or not."""
    right, down, scale, turn = by
    linear = TRUE.matrix[:, :2] @ np.array([(1 + scale, -turn), (turn, 1 + scale)])
    centre = TRUE.matrix[:, :2] @ (64, 70) + TRUE.matrix[:, 2]
    offset = centre - linear @ (64, 70) + (right * TRUE.scale, down * TRUE.scale)
    alignment = Alignment(np.column_stack((linear, offset)), SIZE)
    known = TRUE.crop(portrait)
    blocks = np.random.default_rng(0).integers(-1, 2, (150, 128, 1)) * hidden
    noise = blocks.repeat(4, 0).repeat(4, 1)
    picture = np.clip(contrast * portrait + light + noise, 0, 255).astype(np.uint8)
    assert off_px(alignment) > 1
    before = difference(alignment.crop(picture), known)
    for step in range(6):
        alignment = moved(alignment, alignment.crop(picture), known, smooth=step < 2)
    assert off_px(alignment) < 0.1
    assert difference(alignment.crop(picture), known) < before


def test_another_face_leads_nowhere_far(portrait: Pixels) -> None:
    """What lies on no place moves a square by some pixels a step at most."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    alignment = moved(TRUE, TRUE.crop(portrait), noise)
    assert off_px(alignment) < 8
    assert np.isfinite(alignment.matrix).all()
