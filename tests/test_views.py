"""How generators see pictures of any size, and what their answers mean for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812 -- the name PyTorch's users know it by

from models import images, lab
from models.families.pix2pix.networks import UNetConfig
from models.views import CHROMA_PX, ChromaView, PictureView, view_of

RANDOM = np.random.default_rng(0)


def photo(height: int, width: int) -> np.ndarray:
    """Random uint8 (H, W, 3)."""
    return RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_channels_tell_the_view():
    """Two channels out of one are chroma; one channel in is a grey picture."""
    assert isinstance(view_of(UNetConfig(channels_in=1, channels_out=2)), ChromaView)
    assert isinstance(view_of(UNetConfig()), PictureView)
    assert view_of(UNetConfig(channels_in=1)).to_tensor(photo(3, 4)).shape == (1, 3, 4)
    with pytest.raises(ValueError, match="channels_in 1"):
        UNetConfig(channels_out=2)


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_chroma_is_made_small(height: int, width: int):
    """Of a large picture as many pixels as a square has, in its shape; a small one stays."""
    seen_height, seen_width = ChromaView().size(height, width)
    assert 1 <= seen_height <= height
    assert 1 <= seen_width <= width
    if height * width <= CHROMA_PX**2:
        assert (seen_height, seen_width) == (height, width)
    elif min(seen_height, seen_width) > 20:
        assert seen_height * seen_width == pytest.approx(CHROMA_PX**2, rel=0.06)
        assert seen_height / seen_width == pytest.approx(height / width, rel=0.06)


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (150, 70), (131, 600)])
def test_painted_in_strips(size: tuple[int, int]):
    """A picture painted strip by strip is the one painted whole, its lightness unchanged."""
    view, rgb = ChromaView(), photo(*size)
    chroma = torch.rand(2, *view.size(*size)) - 0.5
    lightness, _ = lab.split(images.to_tensor(rgb))
    enlarged = F.interpolate(chroma[None], size, mode="bilinear")[0]
    whole = images.to_rgb(lab.join(lightness, enlarged))
    painted = view.to_rgb(chroma, rgb)
    assert np.abs(painted.astype(int) - whole).max() <= 1
    again, _ = lab.split(images.to_tensor(painted))
    assert (again - lightness).abs().max() * 50 < 0.5  # of 100, what rounding to 8 bits makes


def test_no_chroma_is_grey():
    """Chroma of zero paints nothing, whatever colours the picture came with."""
    painted = ChromaView().to_rgb(torch.zeros(2, 5, 7), photo(5, 7))
    assert np.ptp(painted.astype(int), axis=2).max() <= 1
