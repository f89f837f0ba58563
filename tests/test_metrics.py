"""The formulas behind the published figures, against hand-computed values and torchmetrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)
from torchmetrics.image.kid import poly_mmd

from models.errors import InvalidDataset
from models.evaluation import metrics
from models.evaluation.data import upscale_test_pictures
from models.evaluation.protocols import upscale_table
from models.features import VGG16


def noisy_pair(seed: int, height: int = 40, width: int = 33) -> tuple[metrics.Plane, metrics.Plane]:
    """A plane with structure, and the same with noise."""
    random = np.random.default_rng(seed)
    plane = 128 + 100 * np.sin(np.linspace(0, 9, height))[:, None] * np.cos(
        np.linspace(0, 5, width)
    )
    return plane, plane + random.normal(0, 1 + seed % 40, plane.shape)


@pytest.mark.parametrize(
    ("colour", "y"),
    [((0, 0, 0), 16), ((255, 255, 255), 235), ((255, 0, 0), 81.481), ((0, 0, 255), 40.966)],
)
def test_luma_is_limited_range(colour: tuple[int, int, int], y: float):
    """Y runs from 16 for black to 235 for white, with BT.601's share of each primary."""
    assert metrics.luma(np.array([[colour]], np.uint8))[0, 0] == pytest.approx(y)


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_fidelity_agrees_with_torchmetrics(seed: int):
    """PSNR and SSIM are those of torchmetrics for a peak of 255."""
    answer, target = noisy_pair(seed)
    x, y = (torch.from_numpy(plane)[None, None] for plane in (answer, target))
    expected = float(peak_signal_noise_ratio(x, y, data_range=255.0))
    assert metrics.psnr(answer, target) == pytest.approx(expected)
    _, everywhere = structural_similarity_index_measure(
        x, y, data_range=255.0, return_full_image=True
    )
    inside = float(everywhere[..., 5:-5, 5:-5].mean())  # the rest looks at mirrored pixels
    assert metrics.ssim(answer, target) == pytest.approx(inside, abs=1e-6)


def test_equal_planes():
    """Equal planes have an infinite PSNR and a similarity of one."""
    plane, _ = noisy_pair(1)
    assert metrics.psnr(plane, plane) == float("inf")
    assert metrics.ssim(plane, plane) == pytest.approx(1)
    assert metrics.psnr(plane, plane + 1) == pytest.approx(48.1308, abs=1e-4)


def test_fidelity_of_bytes():
    """Pictures of 8 bits, of any shape, have the PSNR of their numbers: no difference wraps."""
    dark, light = (np.full((4, 5, 3), level, np.uint8) for level in (0, 255))
    assert metrics.psnr(dark, light) == metrics.psnr(light, dark) == 0


@pytest.mark.parametrize(("folder", "published_db"), [("Set5", 28.43)])
def test_bicubic_reproduces_the_published_figure(shared: Path, folder: str, published_db: float):
    """Bicubic enlargement of Set5 has the 28.43 dB that SRGAN's table gives it."""
    low, high = upscale_test_pictures(shared / "data" / "sr_bench", folder, scale=4)
    table = upscale_table(
        {"unchanged": lambda picture: picture.repeat(4, 0).repeat(4, 1)}, folder, low, high
    )
    bicubic = dict(zip(table.protocols, table.rows["bicubic (Pillow)"], strict=True))
    assert bicubic["PSNR"] == pytest.approx(published_db, abs=0.02)
    assert table.rows["unchanged"][0] < bicubic["PSNR"] - 1


def test_kernel_distance_by_hand():
    """The unbiased estimate leaves out each sample's kernel with itself, as torchmetrics' does."""
    x, y = torch.randn(7, 5).double(), torch.randn(4, 5).double() + 0.5

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a @ b / 5 + 1) ** 3)

    by_hand = (
        sum(kernel(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / 42
        + sum(kernel(y[i], y[j]) for i in range(4) for j in range(4) if i != j) / 12
        - 2 * sum(kernel(a, b) for a in x for b in y) / 28
    )
    assert metrics.kernel_distance(x, y).value == pytest.approx(by_hand)
    assert metrics.kernel_distance(y, x) == pytest.approx(metrics.kernel_distance(x, y))
    assert metrics.kernel_distance(x[:4], y).value == pytest.approx(float(poly_mmd(x[:4], y)))


def test_kernel_distance_is_unbiased_and_knows_its_error():
    """Samples of one distribution are at distance zero on average; others spread by the error."""

    def drawn(shift: float) -> tuple[Any, Any]:
        pairs = [(torch.randn(12, 6), torch.randn(20, 6) + shift) for _ in range(100)]
        values, errors = zip(*(metrics.kernel_distance(x, y) for x, y in pairs), strict=True)
        return np.array(values), np.array(errors)

    equal, conservative = drawn(0)
    assert abs(equal.mean()) < 4 * equal.std() / 100**0.5
    assert conservative.mean() > equal.std()
    different, errors = drawn(0.5)
    assert different.mean() > 3 * equal.std()
    assert errors.mean() == pytest.approx(different.std(), rel=0.3)


def test_kernel_distance_needs_pictures():
    """Two pictures are too few for a kernel distance, which is said."""
    with pytest.raises(InvalidDataset, match="three pictures on each side, not 2 and 5"):
        metrics.kernel_distance(torch.randn(2, 8), torch.randn(5, 8))


def test_descriptors(monkeypatch: pytest.MonkeyPatch):
    """A descriptor has 512 numbers of mean square one, whatever the picture's size."""
    monkeypatch.setattr(metrics, "KID_PX", 32)
    pictures = [np.random.default_rng(0).integers(0, 256, (n, 40, 3), np.uint8) for n in (32, 50)]
    descriptors = metrics.embed(pictures, VGG16((metrics.KID_LAYER,)))
    assert descriptors.shape == (2, 512)
    torch.testing.assert_close(descriptors.square().mean(1), torch.ones(2).double())


def test_perceptual_distance():
    """The perceptual distance is zero for equal pictures and grows with what is done to one."""
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (32, 32, 3), np.uint8)
    features = VGG16(metrics.PERCEPTUAL_LAYERS)

    def damaged(strength: int) -> float:
        noise = random.integers(-strength, strength + 1, picture.shape)
        other = (picture + noise).clip(0, 255).astype(np.uint8)
        return metrics.perceptual_distance(other, picture, features)

    assert damaged(0) == 0
    assert 0 < damaged(10) < damaged(80)
