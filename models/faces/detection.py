"""Where the faces of a picture are: one interface to detectors, and how to look closely.

A detector looks at pictures of moderate size. A large photo is seen reduced and again in pieces at
full detail, where faces of `MIN_FACE_PX` are still found; what several looks find counts once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray

from models import images
from models.images import Pixels

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels of the picture."""

CONFIDENT = 0.97
"""A face below it is uncertain: in 120 pictures of facades, horses and landscapes none is above."""
LOWEST = 0.6
"""Faces of less confidence are dropped."""
MIN_FACE_PX = 20

_OVERVIEW_PX = 1280  # longer side of the whole picture as first seen
_ENLARGED_PX = 160  # a shorter side below it is enlarged, at most three times
_PIECE_PX = 1280
_SAME = 0.4  # intersection over union from which two boxes are one face's
_PART = 0.7  # of a box, from which on it may be a part of another
_INSIDE = 0.1  # of a face that the picture's border cuts; with less it is none


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face.

    Attributes:
        box: may reach beyond the picture.
        landmarks: (5, 2), x and y in pixels: the eye on the picture's left, the other eye, nose,
            the mouth's corners in the same order.
        confidence: 0..1.
    """

    box: Box
    landmarks: NDArray[np.float64]
    confidence: float

    @property
    def uncertain(self) -> bool:
        """Whether it may well be no face."""
        return self.confidence < CONFIDENT


@dataclass(frozen=True, slots=True)
class Look:
    """A part of a picture as a detector sees it.

    Attributes:
        left, top, right, bottom: the part, in pixels of the picture.
        scale: pixels of what is seen to a pixel of the picture.
        turns: quarter turns counterclockwise.
    """

    left: int
    top: int
    right: int
    bottom: int
    scale: float = 1.0
    turns: int = 0

    def take(self, rgb: Pixels) -> Pixels:
        """Return what is seen of a whole picture uint8 (H, W, 3)."""
        part = rgb[self.top : self.bottom, self.left : self.right]
        # A copy: NumPy calls a side of one pixel contiguous whatever its stride, torch does not.
        return np.rot90(images.resize(part, *self._size), self.turns).copy()

    def place(self, face: Face) -> Face:
        """Turn a face in pixels of what is seen into one in pixels of the picture."""
        corners = self._to_picture(np.array(face.box).reshape(2, 2))
        left, top = corners.min(axis=0).tolist()
        right, bottom = corners.max(axis=0).tolist()
        landmarks = self._to_picture(face.landmarks)
        return Face((left, top, right, bottom), landmarks, face.confidence)

    def cuts(self, face: Face, height: int, width: int) -> bool:
        """Tell whether the look ends within a placed face, but not the picture of that size."""
        left, top, right, bottom = face.box
        return (
            (left < self.left + 1 and self.left > 0)
            or (top < self.top + 1 and self.top > 0)
            or (right > self.right - 1 and self.right < width)
            or (bottom > self.bottom - 1 and self.bottom < height)
        )

    @property
    def _size(self) -> tuple[int, int]:
        """Height and width of what is seen before it is turned."""
        height, width = self.bottom - self.top, self.right - self.left
        return max(1, round(height * self.scale)), max(1, round(width * self.scale))

    def _to_picture(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (N, 2) points of what is seen."""
        height, width = self._size
        x, y = points.T
        for turn in reversed(range(self.turns)):
            x, y = (height if turn % 2 else width) - y, x
        return np.stack((x, y), axis=1) / self.scale + (self.left, self.top)


Search: TypeAlias = Generator[Look, list[Face], list[Face]]


class Detector(ABC):
    """Finds faces; the same picture always has the same ones, in the same order."""

    def __call__(self, rgb: Pixels) -> list[Face]:
        """Return the faces of a picture uint8 (H, W, 3) of any size, the surest first."""
        searching = search(*rgb.shape[:2])
        step: Look | list[Face] = next(searching)
        while isinstance(step, Look):
            step = go_on(searching, self.look(step.take(rgb)))
        return step

    @abstractmethod
    def look(self, rgb: Pixels) -> list[Face]:
        """Return the upright faces of a picture of moderate size, uint8 (H, W, 3)."""


def search(height: int, width: int) -> Search:
    """Yield what to look at in a picture of that size; take the faces seen, return all at last.

    Where no face is sure, a sure one is looked for in the picture turned: it may lie on its side.
    """
    found: list[tuple[Look, Face]] = []
    for look in _looks(height, width):
        found += [(look, look.place(face)) for face in (yield look)]
    if all(face.uncertain for _, face in found):
        overview = _overview(height, width)
        for turns in (1, 2, 3):
            look = replace(overview, turns=turns)
            found += [(look, look.place(face)) for face in (yield look) if not face.uncertain]
    return _without_doubles(found, height, width)


def go_on(searching: Search, seen: list[Face]) -> Look | list[Face]:
    """Return what to look at next or, at the end, all faces: no future can hold a StopIteration."""
    try:
        return searching.send(seen)
    except StopIteration as ended:
        return cast("list[Face]", ended.value)


def open_detector(device: torch.device, yunet: Path | None = None) -> Detector:
    """Return MTCNN on `device`, or the YuNet of an ONNX file, which runs on the CPU."""
    if yunet is not None:
        from models.faces.yunet import YuNet

        return YuNet(yunet)
    from models.faces.mtcnn import MTCNN

    return MTCNN(device)


def look_around(box: Box, height: int, width: int) -> Look:
    """Return the look at a box within a picture of that size, and as much again around it."""
    left, top, right, bottom = box
    across, down = (right - left) / 2, (bottom - top) / 2
    part = Look(
        max(0, math.floor(left - across)),
        max(0, math.floor(top - down)),
        min(width, math.ceil(right + across)),
        min(height, math.ceil(bottom + down)),
    )
    overview = _overview(part.bottom - part.top, part.right - part.left)
    return replace(part, scale=overview.scale)


def overlap(a: Box, b: Box) -> tuple[float, float]:
    """Return the intersection of two boxes over their union, and over the smaller one."""
    box, boxes = np.array(a), np.array([b])
    common, area, areas = _common(box, boxes), _area(box), _area(boxes)
    [of_both], [of_smaller] = common / (area + areas - common), common / np.minimum(area, areas)
    return float(of_both), float(of_smaller)


def _common(box: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4,), (N, 4) -> (N,), the area that a box has in common with each of others."""
    ends = np.minimum(box[2:], boxes[:, 2:])
    sides = (ends - np.maximum(box[:2], boxes[:, :2])).clip(0)
    area: NDArray[np.float64] = sides[:, 0] * sides[:, 1]
    return area


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 4) -> (...), never 0."""
    across, down = np.moveaxis(boxes[..., 2:] - boxes[..., :2], -1, 0)
    area: NDArray[np.float64] = np.maximum(across * down, 1e-9)
    return area


def _in_ellipse(box: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell whether the middles of a box's sides lie in the ellipse within each of others."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    middles = np.array([(box[0], y), (box[2], y), (x, box[1]), (x, box[3])])
    centres, radii = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    radius = np.linalg.norm((middles[None] - centres[:, None]) / radii[:, None], axis=2)
    inside: NDArray[np.bool_] = (radius <= 1).all(axis=1)
    return inside


def _looks(height: int, width: int) -> Iterator[Look]:
    """Yield the whole picture and, where that is reduced, overlapping pieces in full detail."""
    overview = _overview(height, width)
    yield overview
    if overview.scale < 1:
        # As wide as two of the smallest faces of the overview: each face is whole in some piece.
        shared_px = math.ceil(2 * MIN_FACE_PX / overview.scale)
        for top, bottom in _spans(height, shared_px):
            for left, right in _spans(width, shared_px):
                yield Look(left, top, right, bottom)


def _overview(height: int, width: int) -> Look:
    enlarged = min(3.0, max(1.0, _ENLARGED_PX / min(height, width)))
    return Look(0, 0, width, height, min(enlarged, _OVERVIEW_PX / max(height, width)))


def _spans(length: int, shared_px: int) -> list[tuple[int, int]]:
    """Cut a side into equal parts of about _PIECE_PX that share at least `shared_px`."""
    count = max(1, math.ceil((length - shared_px) / (_PIECE_PX - shared_px)))
    part = min(length, math.ceil((length + (count - 1) * shared_px) / count))
    starts = [round(k * (length - part) / max(1, count - 1)) for k in range(count)]
    return [(start, start + part) for start in starts]


def _without_doubles(found: list[tuple[Look, Face]], height: int, width: int) -> list[Face]:
    """Keep one of what several looks have found: of two, the one that is cut goes, or is less sure.

    One within another's box goes only where it is a part of that face: a cut one, or one in the
    ellipse that a new face covers. In the box's corner it is somebody else's.
    """
    picture = (0.0, 0.0, float(width), float(height))
    inside = [(look, face) for look, face in found if overlap(face.box, picture)[1] > _INSIDE]
    ordered = sorted(
        ((look.cuts(face, height, width), face) for look, face in inside),
        key=lambda pair: (pair[0], -pair[1].confidence),
    )
    kept: list[Face] = []
    boxes = np.empty((len(ordered), 4))  # of those kept
    for is_cut, face in ordered:
        box, others = np.array(face.box), boxes[: len(kept)]
        common, area = _common(box, others), _area(box)
        is_same = common / (area + _area(others) - common) >= _SAME
        is_part = common / area >= _PART
        if not is_cut:
            is_part &= _in_ellipse(box, others)
        if not (is_same | is_part).any():
            boxes[len(kept)] = box
            kept.append(face)
    return sorted(kept, key=lambda face: (-face.confidence, face.box))
