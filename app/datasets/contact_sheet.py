"""A picture of the pictures in a dataset, to see at a glance whether it is what one meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from models import images
from models.images import Pixels

COLUMNS = 12
_CELL_PX, _GAP_PX, _GREY = 96, 4, 235


def contact_sheet(rows: Iterable[Sequence[Path]], limits: images.Limits) -> bytes:
    """Return a PNG with a row for each part, of at most `COLUMNS` of its pictures.

    Raises ImageError for a picture that does not decode.
    """
    lines = [_line([_cell(path, limits) for path in row[:COLUMNS]]) for row in rows]
    sheet = np.concatenate([*lines, _blank(_GAP_PX, lines[0].shape[1])])
    return images.encode(images.Picture(sheet, None, "png"), "png")


def _line(cells: list[Pixels]) -> Pixels:
    cells += [_blank(_CELL_PX, _CELL_PX)] * (COLUMNS - len(cells))
    gap = _blank(_CELL_PX, _GAP_PX)
    line = np.concatenate([part for cell in cells for part in (gap, cell)] + [gap], axis=1)
    return np.concatenate([_blank(_GAP_PX, line.shape[1]), line])


def _cell(path: Path, limits: images.Limits) -> Pixels:
    picture = images.decode(path.read_bytes(), limits).rgb
    factor = _CELL_PX / max(picture.shape[:2])
    height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
    top, left = (_CELL_PX - height) // 2, (_CELL_PX - width) // 2
    cell = _blank(_CELL_PX, _CELL_PX)
    cell[top : top + height, left : left + width] = images.resize(picture, height, width)
    return cell


def _blank(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), _GREY, np.uint8)
