"""CIELAB: lightness and chroma, apart and joined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import images, lab

BYTE = st.integers(0, 255)


def pixel(*rgb: int) -> torch.Tensor:
    """One pixel, (3, 1, 1) in [-1, 1]."""
    return images.to_tensor(np.array([[rgb]], np.uint8))


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0.0, 0.0)),
    ],
)
def test_known_colours(rgb: tuple[int, int, int], expected: tuple[float, float, float]):
    """Primaries, white and grey have the L*, a*, b* of the tables for sRGB and D65."""
    lightness, chroma = lab.split(pixel(*rgb))
    measured = [(lightness.item() + 1) * 50, *(chroma.flatten() * lab.CHROMA_SCALE).tolist()]
    assert measured == pytest.approx(expected, abs=0.02)


@given(BYTE, BYTE, BYTE)
def test_apart_and_joined_again(red: int, green: int, blue: int):
    """Every 8-bit colour comes back from its lightness and chroma."""
    colour = pixel(red, green, blue)
    assert images.to_rgb(lab.join(*lab.split(colour))).ravel().tolist() == [red, green, blue]


@given(BYTE, st.floats(-2, 2), st.floats(-2, 2))
def test_lightness_is_kept(level: int, a: float, b: float):
    """Whatever chroma is asked for, also one that sRGB has not, the lightness stays."""
    lightness, _ = lab.split(pixel(level, level, level))
    joined = lab.join(lightness, torch.tensor([a, b])[:, None, None])
    assert joined.abs().max() <= 1
    again, _ = lab.split(joined)
    assert again.item() == pytest.approx(lightness.item(), abs=1e-4)


def test_many_at_once():
    """Leading dimensions are kept, and pixels do not see one another."""
    batch = torch.rand(2, 3, 4, 5) * 2 - 1
    lightness, chroma = lab.split(batch)
    assert lightness.shape == (2, 1, 4, 5)
    assert chroma.shape == (2, 2, 4, 5)
    single = lab.join(*lab.split(batch[1, :, :1, :1]))
    assert torch.allclose(lab.join(lightness, chroma)[1, :, :1, :1], single, atol=1e-6)
