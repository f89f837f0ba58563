"""The weak ways to hide a face, for comparison: of these, recognisers undo blur and pixels well.

All are sized relative to the face: a large one is hidden no less than a small one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from models import images
from models.faces.detection import Box
from models.images import Pixels

_CELLS = 10  # over the longer side of what is hidden
_AROUND = 0.25  # of the face's box, on each side, is hidden with it: hair, ears and chin
_GREY = 127


def hidden_region(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the (left, top, right, bottom) to be hidden of a picture, for the box of a face."""
    left, top, right, bottom = box
    across, down = _AROUND * (right - left), _AROUND * (bottom - top)
    return (
        min(max(0, math.floor(left - across)), width),
        min(max(0, math.floor(top - down)), height),
        max(min(width, math.ceil(right + across)), 0),
        max(min(height, math.ceil(bottom + down)), 0),
    )


def blur(part: Pixels) -> Pixels:
    """Leave smooth transitions between the averages of a few cells, uint8 (h, w, 3)."""
    return images.resize(_cells(part), *part.shape[:2])


def pixelate(part: Pixels) -> Pixels:
    """Leave the averages of a few cells, uint8 (h, w, 3)."""
    cells = _cells(part)
    rows, columns = (
        np.arange(side) * count // side
        for side, count in zip(part.shape[:2], cells.shape[:2], strict=True)
    )
    return np.asarray(cells[rows[:, None], columns])


def solid(part: Pixels) -> Pixels:
    """Leave nothing, uint8 (h, w, 3)."""
    return np.full_like(part, _GREY)


WAYS: Mapping[str, Callable[[Pixels], Pixels]] = {
    "blur": blur,
    "pixelate": pixelate,
    "solid": solid,
}


def _cells(part: Pixels) -> Pixels:
    height, width = part.shape[:2]
    cell = max(height, width) / _CELLS
    return images.resize(part, math.ceil(height / cell), math.ceil(width / cell))
