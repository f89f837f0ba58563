"""How generators see pictures of any size, and what their answers mean for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812 -- the name PyTorch's users know it by

from models import images, lab
from models.families.cyclegan.networks import ResNetConfig
from models.families.pix2pix.networks import UNetConfig
from models.families.srgan.config import SRConfig
from models.family import same_network
from models.views import CHROMA_PX, ChromaView, PictureView, ReducedView, View, view_of

RANDOM = np.random.default_rng(0)


def photo(height: int, width: int) -> np.ndarray:
    """Random uint8 (H, W, 3)."""
    return RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_configuration_tells_the_view():
    """Two channels out of one are chroma, one channel in is grey, and view_px a smaller copy."""
    assert isinstance(view_of(UNetConfig(channels_in=1, channels_out=2)), ChromaView)
    assert isinstance(view_of(UNetConfig()), PictureView)
    assert view_of(UNetConfig(channels_in=1)).to_tensor(photo(3, 4)).shape == (1, 3, 4)
    assert isinstance(view_of(ResNetConfig(view_px=256)), ReducedView)
    assert not isinstance(view_of(ResNetConfig()), ReducedView)
    with pytest.raises(ValueError, match="channels_in 1"):
        UNetConfig(channels_out=2)


@pytest.mark.parametrize("view", [ChromaView(CHROMA_PX), ReducedView(CHROMA_PX)], ids=type)
@given(height=st.integers(1, 10_000), width=st.integers(1, 10_000))
def test_large_pictures_are_made_small(view: View, height: int, width: int):
    """Of a large picture as many pixels as a square has, in its shape; a small one stays.

    A side has at most four of the square's, as networks pad the other one.
    """
    seen_height, seen_width = view.size(height, width)
    assert 1 <= seen_height <= height
    assert 1 <= seen_width <= width
    assert max(seen_height, seen_width) <= 4 * CHROMA_PX
    if max(height * width / CHROMA_PX, max(height, width) / 4) <= CHROMA_PX:
        assert (seen_height, seen_width) == (height, width)
    elif min(seen_height, seen_width) > 20 and max(seen_height, seen_width) < 4 * CHROMA_PX:
        assert seen_height * seen_width == pytest.approx(CHROMA_PX**2, rel=0.06)
        assert seen_height / seen_width == pytest.approx(height / width, rel=0.06)


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (150, 70), (131, 600)])
def test_painted_in_strips(size: tuple[int, int]):
    """A picture painted strip by strip is the one painted whole, its lightness unchanged."""
    view, rgb = ChromaView(CHROMA_PX), photo(*size)
    chroma = torch.rand(2, *view.size(*size)) - 0.5
    lightness, _ = lab.split(images.to_tensor(rgb))
    enlarged = F.interpolate(chroma[None], size, mode="bilinear")[0]
    whole = images.to_rgb(lab.join(lightness, enlarged))
    painted = view.to_rgb(chroma, view.look(rgb), rgb)
    assert np.abs(painted.astype(int) - whole).max() <= 1
    again, _ = lab.split(images.to_tensor(painted))
    assert (again - lightness).abs().max() * 50 < 0.5  # of 100, what rounding to 8 bits makes


def test_no_chroma_is_grey():
    """Chroma of zero paints nothing, whatever colours the picture came with."""
    rgb = photo(5, 7)
    painted = ChromaView(CHROMA_PX).to_rgb(torch.zeros(2, 5, 7), rgb, rgb)
    assert np.ptp(painted.astype(int), axis=2).max() <= 1


def test_weights_fit_whatever_the_view():
    """Weights fit whatever a generator is shown, and whatever has none in its architecture."""
    assert same_network(ResNetConfig(view_px=256, clip=6.0, undertone_px=9), ResNetConfig())
    assert same_network(UNetConfig(dropout=0.1), UNetConfig())
    assert same_network(SRConfig(batch_norm=False), SRConfig(batch_norm=True))
    ours, theirs = (SRConfig(architecture="srresnet", batch_norm=each) for each in (False, True))
    assert not same_network(ours, theirs)
    assert not same_network(ResNetConfig(blocks=6), ResNetConfig())
    assert not same_network(UNetConfig(), ResNetConfig())


SIZES = [(1, 1), (3, 700), (150, 70), (131, 600), (64, 64)]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_left_alone_comes_back(size: tuple[int, int]):
    """A generator that changes nothing of the small copy leaves all detail of the picture."""
    view, rgb = ReducedView(64), photo(*size)
    seen = view.look(rgb)
    assert np.abs(view.to_rgb(view.to_tensor(seen), seen, rgb).astype(int) - rgb).max() <= 2


@pytest.mark.parametrize("size", SIZES)
def test_what_is_erased_stays_away(size: tuple[int, int]):
    """Detail of the picture does not come back where the generator paints something else."""
    view, rgb = ReducedView(64), photo(*size)
    answer = torch.full((3, *view.size(*size)), 0.5)
    painted = view.to_rgb(answer, view.look(rgb), rgb).astype(int)
    assert np.abs(painted - 191).max() <= np.ptp(rgb) / 10


def test_answers_are_enlarged():
    """What the generator paints comes in the size of the picture."""
    answer = torch.zeros(3, 64, 64)
    answer[:, :, 32:] = 1
    view, rgb = ReducedView(64), np.full((512, 512, 3), 30, np.uint8)
    painted = view.to_rgb(answer, view.look(rgb), rgb)
    assert painted.shape == (512, 512, 3)
    assert np.abs(painted[:, :240].astype(int) - 128).max() <= 1
    assert painted[:, 272:].min() >= 254


def test_small_pictures_are_seen_as_they_are():
    """A picture that needs no copy is answered pixel by pixel."""
    view, rgb = ReducedView(64), photo(64, 60)
    answer = torch.rand(3, 64, 60) * 2 - 1
    assert np.array_equal(view.to_rgb(answer, rgb, rgb), PictureView().to_rgb(answer, rgb, rgb))
