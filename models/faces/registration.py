"""Where a known face lies in a picture, to a tenth of a pixel of its square."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.faces.alignment import Alignment, Points, face_radius
from models.faces.geometry import CENTRE_PX, FACE_PX
from models.images import Pixels

_FAR = 8.0  # levels of 256 from which a difference counts less: there is more than the face
_MOST_PX, _MOST = 4.0, 0.05  # of one step: shift; scale and turn


def moved(alignment: Alignment, seen: Pixels, known: Pixels, *, smooth: bool = False) -> Alignment:
    """Return the alignment by which what is seen in the square comes to lie on what is known.

    One step of Lucas and Kanade (1981) for squares that turn, scale and shift, in another light and
    contrast, over the face's ellipse and its lightness, with Huber's weights. Some smooth steps
    and twice as many others find a face that lies a few pixels off.

    Args:
        alignment: by which `seen` was cut out.
        seen: uint8 (128, 128, 3).
        known: the same face, where it ought to lie.
        smooth: look at no details, which a long step would leap over.
    """
    light = _light(known, smooth)
    down, across = np.gradient(light)
    x, y = (at - centre for at, centre in zip(_centres(), CENTRE_PX, strict=True))
    face = on_face()
    turned = (across * x + down * y, down * x - across * y)
    lit = (light, np.ones_like(light))  # out of place, a face is painted in another tone
    slopes = np.stack((*turned, across, down, *lit), axis=-1)[face]
    off = (_light(seen, smooth) - light)[face]
    weights = np.minimum(1, _FAR / np.maximum(np.abs(off), 1e-9)) ** 0.5
    solved = np.linalg.lstsq(slopes * weights[:, None], off * weights, rcond=None)[0]
    scale, turn = solved[:2].clip(-_MOST, _MOST)
    shift = solved[2:4].clip(-_MOST_PX, _MOST_PX)
    # The square at p shows what is known at p + d(p), so it has to go back by d.
    back = np.array([(1 - scale, turn), (-turn, 1 - scale)])
    offset = np.array(CENTRE_PX) - back @ CENTRE_PX - shift
    linear, start = alignment.matrix[:, :2], alignment.matrix[:, 2]
    matrix = np.column_stack((linear @ back, linear @ offset + start))
    return Alignment(matrix, alignment.size)


def difference(seen: Pixels, known: Pixels) -> float:
    """Return the mean absolute difference over the face's ellipse, in levels of 256."""
    face = on_face()
    return float(np.abs(seen[face].astype(int) - known[face]).mean())


def _light(face: Pixels, smooth: bool) -> Points:
    """Return the lightness, (128, 128)."""
    light = torch.from_numpy(face.mean(axis=2))[None]
    for _ in range(2 if smooth else 0):
        padded = torch.nn.functional.pad(light, (2,) * 4, mode="replicate")
        light = torch.nn.functional.avg_pool2d(padded, 5, stride=1)
    return np.asarray(light[0].numpy())


def on_face() -> NDArray[np.bool_]:
    """Return the pixels of the square, (128, 128), that lie on the face's ellipse."""
    return np.asarray(face_radius(*_centres()) <= 1)


def _centres() -> tuple[Points, Points]:
    """Return x and y of the centres of the square's pixels, (128, 128)."""
    y, x = np.mgrid[0:FACE_PX, 0:FACE_PX] + 0.5
    return x, y
