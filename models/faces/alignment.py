"""A face upright in the middle of a square, and back into the picture without a seam."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models import images
from models.faces import geometry
from models.faces.detection import Box, Face
from models.faces.geometry import BOX, CENTRE_PX, FACE_PX, RADII_PX
from models.images import Pixels

Points = NDArray[np.float64]
"""(N, 2), x and y in pixels from the top left corner of the top left pixel."""

LANDMARKS: Points = np.array(geometry.LANDMARKS)

_FADED = 1.25  # radii at which nothing is left of the pasted face
_FADED_PX = 5.0  # the same, from the border of the square
_ERASED = 0.98  # radii within which a generator of new faces sees nothing, by less than a pixel
_SPREAD = 1.05  # radii from where on pixels may stand for others: hardly mixed with the face
_SHOWN_ONCE = 1.15  # radii within which nothing may be seen again beyond the border
_STRIP_PX = 2**18  # pixels pasted at a time


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """Where a face's square of FACE_PX lies in a picture: turned and scaled, not sheared.

    Attributes:
        matrix: (2, 3), point in the square -> point in the picture.
        size: height and width of the picture.
    """

    matrix: Points
    size: tuple[int, int]

    @classmethod
    def of_face(cls, face: Face, size: tuple[int, int]) -> Alignment:
        """Return the one of its landmarks, or of its box where those would leave some of it out."""
        try:
            alignment = cls.of_landmarks(face.landmarks, size)
        except ValueError:
            return cls.of_box(face.box, size)
        return alignment if alignment.covers(face.box) else cls.of_box(face.box, size)

    @classmethod
    def of_landmarks(cls, landmarks: Points, size: tuple[int, int]) -> Alignment:
        """Return the least-squares fit of five landmarks (Umeyama 1991, equations 40 to 42).

        Raises ValueError where all of them lie in one point, or are not finite.
        """
        source, target = LANDMARKS - LANDMARKS.mean(axis=0), landmarks - landmarks.mean(axis=0)
        if not np.isfinite(target).all() or np.ptp(target, axis=0).max() < 1e-3:
            raise ValueError("the landmarks do not span a face")
        u, strengths, vt = np.linalg.svd(target.T @ source)
        signs = np.array([1.0, np.sign(np.linalg.det(u @ vt))])  # no mirroring
        rotation = (u * signs) @ vt
        scale = (strengths * signs).sum() / np.square(source).sum()
        offset = landmarks.mean(axis=0) - scale * rotation @ LANDMARKS.mean(axis=0)
        return cls(np.column_stack((scale * rotation, offset)), size)

    @classmethod
    def of_box(cls, box: Box, size: tuple[int, int]) -> Alignment:
        """Return an upright one for a box whose landmarks nobody knows; it holds the whole box."""
        left, top, right, bottom = box
        scale = max((right - left) / (BOX[2] - BOX[0]), (bottom - top) / (BOX[3] - BOX[1]), 1e-2)
        offset = (
            (left + right) / 2 - scale * (BOX[0] + BOX[2]) / 2,
            (top + bottom) / 2 - scale * (BOX[1] + BOX[3]) / 2,
        )
        return cls(np.array([(scale, 0, offset[0]), (0, scale, offset[1])]), size)

    @property
    def landmarks(self) -> Points:
        """Where in the picture a face has its landmarks if it lies as this says."""
        return self._to_picture(*LANDMARKS.T)

    @property
    def scale(self) -> float:
        """Pixels of the picture to a pixel of the square."""
        return float(np.hypot(*self.matrix[:, 0]))

    @property
    def region(self) -> tuple[int, int, int, int]:
        """The (left, top, right, bottom) of all pixels that `paste` may touch; may be empty."""
        return self._bounds(0)

    def to_square(self, points: Points) -> Points:
        """Map points of the picture into the square."""
        mapped = np.linalg.solve(self.matrix[:, :2], (points - self.matrix[:, 2]).T).T
        return np.asarray(mapped, np.float64)

    def covers(self, box: Box) -> bool:
        """Tell whether the face within a box lies where `paste` leaves nothing of the picture."""
        left, top, right, bottom = box
        x, y = (left + right) / 2, (top + bottom) / 2
        middles = np.array([(left, y), (right, y), (x, top), (x, bottom)])
        inner = (x, y) + 0.9 * (middles - (x, y))  # boxes are wider than faces
        return bool((face_radius(*self.to_square(inner).T) <= 1).all())

    def crop(self, rgb: Pixels) -> Pixels:
        """Return uint8 (FACE_PX, FACE_PX, 3): antialiased, mirrored beyond the picture.

        Where that would show the face beside itself, it is the nearest other colour around it: a
        generator that is to know nothing of the face is given all that lies outside its ellipse.
        Within two pixels of the border, which pasting looks at, it is the colour of the border.
        """
        left, top, right, bottom = self._bounds(2 * self.scale + 2)
        if right <= left or bottom <= top:
            raise ValueError("the face lies outside the picture")
        part, factors = _reduced(rgb[top:bottom, left:right], self.scale)
        centres = np.arange(FACE_PX) + 0.5
        x, y = np.meshgrid(centres, centres)
        corner, size = np.array((left, top)), np.array((right - left, bottom - top))
        points = self._to_picture(x, y) - corner
        mirrored = _mirrored(points, size)
        shown = self.to_square((mirrored + corner).reshape(-1, 2)).reshape(points.shape)
        beyond_px = np.linalg.norm(mirrored - points, axis=-1) / 2
        radius = face_radius(x, y)
        again = face_radius(shown[..., 0], shown[..., 1]) <= _SHOWN_ONCE
        again &= (radius > _ERASED) & (beyond_px > 0)
        near = beyond_px <= 2 * max(1.0, self.scale)
        held = np.where((again & near)[..., None], points.clip(0, size), points)
        square = _sampled(part, held * factors)
        unseen = again & ~near
        return _filled(square, unseen, ~unseen & (radius > _SPREAD))

    def paste(self, rgb: Pixels, face: Pixels) -> Pixels:
        """Return a copy of the picture with a face uint8 (FACE_PX, FACE_PX, 3) blended in."""
        pasted = rgb.copy()
        self.paste_into(pasted, face)
        return pasted

    def paste_into(self, rgb: Pixels, face: Pixels) -> None:
        """Blend a face into the picture itself, at its place, by a mask that fades out."""
        left, top, right, bottom = self.region
        reduced, factors = _reduced(face, 1 / self.scale)
        rows = max(1, _STRIP_PX // max(1, right - left))
        for start in range(top, bottom, rows):
            end = min(start + rows, bottom)
            x, y = np.meshgrid(np.arange(left, right) + 0.5, np.arange(start, end) + 0.5)
            points = self.to_square(np.stack((x, y), axis=-1).reshape(-1, 2)).reshape(*x.shape, 2)
            weight = _weight(points[..., 0], points[..., 1])[..., None]
            part = rgb[start:end, left:right]
            mixed = part * (1 - weight) + _sampled(reduced, points * factors) * weight
            rgb[start:end, left:right] = np.rint(mixed)

    def _to_picture(self, x: Points, y: Points) -> Points:
        points: Points = np.stack((x, y), axis=-1) @ self.matrix[:, :2].T + self.matrix[:, 2]
        return points

    def _bounds(self, margin: float) -> tuple[int, int, int, int]:
        """Return the box of pixels around the square, within the picture."""
        ends = np.array([0.0, FACE_PX])
        corners = self._to_picture(*np.meshgrid(ends, ends)).reshape(-1, 2)
        height, width = self.size
        left, top = np.floor(corners.min(axis=0) - margin).clip(0, (width, height)).astype(int)
        right, bottom = np.ceil(corners.max(axis=0) + margin).clip(0, (width, height)).astype(int)
        return int(left), int(top), int(right), int(bottom)


def _reduced(rgb: Pixels, times: float) -> tuple[Pixels, Points]:
    """Make a picture smaller by `times`, if that is above 1; return by how much, in x and y."""
    height, width = rgb.shape[:2]
    times = max(1.0, times)
    small = images.resize(rgb, math.ceil(height / times), math.ceil(width / times))
    return small, np.array((small.shape[1] / width, small.shape[0] / height))


def _sampled(rgb: Pixels, points: Points) -> Pixels:
    """Return the colours uint8 (h, w, 3) at points (h, w, 2), bicubic, mirrored at the borders."""
    height, width = rgb.shape[:2]
    grid = torch.from_numpy(points / (width, height) * 2 - 1).float()
    source = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float()
    answer = torch.nn.functional.grid_sample(
        source, grid[None], mode="bicubic", padding_mode="reflection", align_corners=False
    )
    levels = answer[0].clamp_(0, 255).round_().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())


def _filled(square: Pixels, unseen: NDArray[np.bool_], shown: NDArray[np.bool_]) -> Pixels:
    """Give the unseen pixels of a square (h, w, 3) the colour of the nearest shown one."""
    if not unseen.any():
        return square
    filled = square.copy()
    if not shown.any():
        filled[unseen] = 127
        return filled
    bordered = np.pad(shown, 1, constant_values=True)
    inner = bordered[:-2, 1:-1] & bordered[2:, 1:-1] & bordered[1:-1, :-2] & bordered[1:-1, 2:]
    rim, holes = np.argwhere(shown & ~inner), np.argwhere(unseen)
    distances = torch.cdist(torch.from_numpy(holes).float(), torch.from_numpy(rim).float())
    filled[unseen] = square[tuple(rim[distances.argmin(dim=1)].T)]
    return filled


def _mirrored(points: Points, size: NDArray[np.int64]) -> Points:
    """Return where `_sampled` looks for points (h, w, 2) of a picture of size (width, height)."""
    twice = 2.0 * size
    wrapped = np.mod(points, twice)
    return np.asarray(np.minimum(wrapped, twice - wrapped), np.float64)


def face_radius(x: Points, y: Points) -> Points:
    """Return how far points of the square are from the face's centre; 1 on its ellipse."""
    radius: Points = np.hypot((x - CENTRE_PX[0]) / RADII_PX[0], (y - CENTRE_PX[1]) / RADII_PX[1])
    return radius


def _weight(x: Points, y: Points) -> Points:
    """Return the pasted face's share at points of the square: 1 on the face, 0 at the border."""
    outwards = (_FADED - face_radius(x, y)) / (_FADED - 1)
    inwards = np.minimum(np.minimum(x, FACE_PX - x), np.minimum(y, FACE_PX - y)) / _FADED_PX
    share = np.minimum(outwards, inwards).clip(0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float64)  # no edge where it begins
