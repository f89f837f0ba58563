"""Parts of pictures cut out so that gradients flow back to them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


def window_of(
    pictures: Tensor, matrix: Tensor, side_px: int, beyond: Literal["border", "reflection"]
) -> Tensor:
    """(B, 3, H, W) and affine matrices (B, 2, 3), as affine_grid takes -> (B, 3, side, side).

    In float32, whatever the training's precision: positions in bf16 are off by a quarter of a
    pixel. `beyond` is what there is to be seen beyond the border.
    """
    with torch.autocast(pictures.device.type, enabled=False):
        grid = nn.functional.affine_grid(
            matrix.float(), [len(pictures), 3, side_px, side_px], align_corners=False
        )
        return nn.functional.grid_sample(
            pictures.float(), grid, padding_mode=beyond, align_corners=False
        )
