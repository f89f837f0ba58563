"""CIELAB (CIE 15:2018, white D65): lightness apart from chroma, and the two joined again."""

from __future__ import annotations

import torch
from torch import Tensor

CHROMA_SCALE = 110.0
"""What a chroma of 1 is in CIELAB's a* and b*."""

_TO_XYZ = (  # linear sRGB (IEC 61966-2-1) to XYZ, relative to the white
    (0.412453 / 0.950456, 0.357580 / 0.950456, 0.180423 / 0.950456),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.088754, 0.119193 / 1.088754, 0.950227 / 1.088754),
)
_EPSILON, _SLOPE = (6 / 29) ** 3, (29 / 6) ** 2 / 3


def split(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Take sRGB (..., 3, H, W) in [-1, 1] apart.

    Returns:
        L* / 50 - 1, (..., 1, H, W) in [-1, 1]; and a*, b* over 110, (..., 2, H, W), the scales of
        Isola et al. 2017.
    """
    xyz = _mixed(_linear((rgb.float() + 1) / 2), rgb.new_tensor(_TO_XYZ, dtype=torch.float32))
    roots = torch.where(xyz > _EPSILON, xyz.clamp(min=_EPSILON) ** (1 / 3), _SLOPE * xyz + 4 / 29)
    x, y, z = torch.split_with_sizes(roots, (1, 1, 1), dim=-3)
    lightness = (116 * y - 16) / 50 - 1
    return lightness, torch.cat((500 * (x - y), 200 * (y - z)), dim=-3) / CHROMA_SCALE


def join(lightness: Tensor, chroma: Tensor) -> Tensor:
    """Return the sRGB, (..., 3, H, W) in [-1, 1], that `split` would take apart into the two.

    A colour that sRGB has not is moved towards the grey of its luminance until sRGB has it, so the
    lightness is always kept.
    """
    y = ((lightness.float() + 1) * 50 + 16) / 116
    a, b = torch.split_with_sizes(chroma.float() * CHROMA_SCALE, (1, 1), dim=-3)
    roots = torch.cat((y + a / 500, y, y - b / 200), dim=-3)
    xyz = torch.where(roots > 6 / 29, roots**3, (roots - 4 / 29) / _SLOPE)
    grey = xyz[..., 1:2, :, :].clamp(0, 1)
    to_linear = torch.linalg.inv(torch.tensor(_TO_XYZ, dtype=torch.float64))
    away = _mixed(xyz, to_linear.to(xyz)) - grey
    room = torch.where(away > 0, 1 - grey, grey) / away.abs().clamp(min=1e-9)
    linear = grey + away * room.amin(dim=-3, keepdim=True).clamp(max=1)
    return _encoded(linear.clamp(0, 1)) * 2 - 1


def _mixed(planes: Tensor, matrix: Tensor) -> Tensor:
    # No matrix product: autocast would take that to bfloat16.
    return (matrix[..., None, None] * planes.unsqueeze(-4)).sum(-3)


def _linear(encoded: Tensor) -> Tensor:
    return torch.where(
        encoded > 0.04045, ((encoded.clamp(min=0) + 0.055) / 1.055) ** 2.4, encoded / 12.92
    )


def _encoded(linear: Tensor) -> Tensor:
    powered = 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, powered, 12.92 * linear)
