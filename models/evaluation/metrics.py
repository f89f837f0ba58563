"""The formulas behind every published figure; `models.evaluation.figures` says what goes into them.

Fidelity is measured on the Y channel in double precision, everything perceptual on VGG16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- the name PyTorch's users know it by

from models import images, lab
from models.errors import InvalidDataset
from models.features import VGG16
from models.images import Pixels

Plane = NDArray[np.float64]

KID_LAYER = "relu5_3"
KID_PX = 256
KID_MIN_PICTURES = 3
PERCEPTUAL_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")

_BT601 = np.array([65.481, 128.553, 24.966]) / 255
_PEAK = 255.0


def luma(rgb: Pixels) -> Plane:
    """Y of ITU-R BT.601 in limited range: uint8 (H, W, 3) -> (H, W) in 16..235, not rounded."""
    plane: Plane = rgb @ _BT601 + 16
    return plane


def psnr(answer: Plane | Pixels, target: Plane | Pixels) -> float:
    """Peak signal-to-noise ratio in dB of arrays of one shape with a peak of 255; inf if equal."""
    error = np.square(np.subtract(answer, target, dtype=np.float64)).mean()
    return float(10 * np.log10(_PEAK**2 / error)) if error else float("inf")


def ssim(answer: Plane, target: Plane) -> float:
    """Structural similarity of (H, W) planes in 0..255, H and W at least 11.

    Wang et al. 2004, equation 13: Gaussian window 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03,
    averaged over the windows that lie inside.
    """
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    window = torch.exp(-offsets.square() / (2 * 1.5**2))
    window /= window.sum()

    def local_mean(plane: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(plane, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))

    x, y = (torch.from_numpy(plane)[None, None] for plane in (answer, target))
    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x = local_mean(x * x) - mean_x.square()
    variance_y = local_mean(y * y) - mean_y.square()
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2)
    return float(similarity.mean())


@torch.no_grad()
def perceptual_distance(answer: Pixels, target: Pixels, features: VGG16) -> float:
    """Distance of VGG16 activations with unit-length channel vectors, 0 for equal pictures.

    Zhang et al. 2018, equation 1 with all weights one and divided by the number of layers:
    squared difference over the channels, mean over positions and `PERCEPTUAL_LAYERS`. uint8
    (H, W, 3) each, sides at least 16.
    """
    seen, wanted = (
        _activations(picture, features, PERCEPTUAL_LAYERS) for picture in (answer, target)
    )
    distances = [
        (F.normalize(seen[layer]) - F.normalize(wanted[layer])).square().sum(1).mean()
        for layer in PERCEPTUAL_LAYERS
    ]
    return float(torch.stack(distances).mean())


@torch.no_grad()
def embed(pictures: Iterable[Pixels], features: VGG16) -> Tensor:
    """uint8 (H, W, 3) pictures -> their (N, 512) float64 descriptors on the CPU, for the KID.

    Each is resized to 256 x 256 px by antialiased bicubic interpolation (Pillow) unless it has
    that size; the activations of VGG16's relu5_3 are averaged over the picture and scaled to a
    mean square of 1. Without the scaling, the kernel's third power would let a few strong
    activations decide, and files of VGG16 weights differ in scale.
    """
    averages = [
        _activations(images.resize(picture, KID_PX, KID_PX), features, (KID_LAYER,))[KID_LAYER]
        .mean((0, 2, 3))
        .double()
        .cpu()
        for picture in pictures
    ]
    descriptors = torch.stack(averages)
    return descriptors / descriptors.square().mean(1, keepdim=True).sqrt()


def _activations(picture: Pixels, features: VGG16, layers: tuple[str, ...]) -> Mapping[str, Tensor]:
    activations: Mapping[str, Tensor] = features(
        images.to_tensor(picture)[None].to(features.mean.device), layers
    )
    return activations


class KernelDistance(NamedTuple):
    """The unbiased estimate, which noise may push below zero, and its standard error."""

    value: float
    standard_error: float


def kernel_distance(x: Tensor, y: Tensor) -> KernelDistance:
    """Squared maximum mean discrepancy of two samples of descriptors, (M, D) and (N, D).

    Binkowski et al. 2018, equation 4 with the kernel (x . y / D + 1)^3 of section 4: zero in
    expectation for samples of one distribution, whatever M and N. All pairs at once instead of
    random subsets, so nothing is drawn. The standard error is the delete-one jackknife's, about
    1.4 times too large where the true distance is zero.

    Raises InvalidDataset for less than three descriptors on a side.
    """
    m, n = len(x), len(y)
    if min(m, n) < KID_MIN_PICTURES:
        raise InvalidDataset(
            f"a kernel distance needs three pictures on each side, not {m} and {n}"
        )

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a.double() @ b.double().T / a.shape[1] + 1) ** 3

    within_x = kernel(x, x).fill_diagonal_(0).sum(1)
    within_y = kernel(y, y).fill_diagonal_(0).sum(1)
    between = kernel(x, y)
    sum_x, sum_y, sum_xy = within_x.sum(), within_y.sum(), between.sum()

    def estimate(xx: Tensor, m: int, yy: Tensor, n: int, xy: Tensor) -> Tensor:
        return xx / (m * (m - 1)) + yy / (n * (n - 1)) - 2 * xy / (m * n)

    without_x = estimate(sum_x - 2 * within_x, m - 1, sum_y, n, sum_xy - between.sum(1))
    without_y = estimate(sum_x, m, sum_y - 2 * within_y, n - 1, sum_xy - between.sum(0))
    variance = (m - 1) * without_x.var(correction=0) + (n - 1) * without_y.var(correction=0)
    return KernelDistance(float(estimate(sum_x, m, sum_y, n, sum_xy)), float(variance.sqrt()))


def chroma_distance(answer: Pixels, target: Pixels) -> float:
    """Mean over pixels of the distance between two pictures' (a*, b*) of CIELAB."""
    ours, theirs = (lab.split(images.to_tensor(picture))[1] for picture in (answer, target))
    return float((ours - theirs).norm(dim=0).mean()) * lab.CHROMA_SCALE


def colourfulness(rgb: Pixels) -> float:
    """M3 of Hasler and Suesstrunk 2003, equation 9: 0 for grey, about 109 for "extremely"."""
    red, green, blue = rgb.astype(np.float64).transpose(2, 0, 1)
    opponents = red - green, (red + green) / 2 - blue
    spread = np.hypot(*(plane.std() for plane in opponents))
    offset = np.hypot(*(plane.mean() for plane in opponents))
    return float(spread + 0.3 * offset)
