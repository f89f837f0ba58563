"""How a generator sees a picture, and how its answer becomes one."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- the name PyTorch's users know it by

from models import images, lab
from models.family import Config, channels
from models.images import Pixels

CHROMA_PX = 256
"""Side of the square that has as many pixels as chroma is made for."""

_LUMA = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
_STRIP_ROWS = 64
_LONGEST = 4  # sides of the square, whose shape is then 16 to 1
_WINDOW_PX, _FLAT = 5, 1e-5  # the guided filter's window; variance that tells nothing


class View(Protocol):
    """Pictures are uint8 (H, W, 3).

    Attributes:
        small: whether the generator never sees more of a picture than it can take in one piece.
    """

    small: bool

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size in which the generator sees a picture of this one."""
        ...

    def look(self, rgb: Pixels) -> Pixels:
        """Return the picture in that size."""
        ...

    def to_tensor(self, seen: Pixels) -> Tensor:
        """Return what the generator takes, (C, h, w) in [-1, 1]."""
        ...

    def to_rgb(self, answer: Tensor, seen: Pixels, rgb: Pixels) -> Pixels:
        """Return what an answer (C', scale * h, scale * w) means for `rgb`, looked at as `seen`."""
        ...


def view_of(config: Config) -> View:
    """Return a generator's view, which its numbers of channels and its `view_px` tell."""
    taken, given = channels(config)
    if given == 2:
        return ChromaView(getattr(config, "view_px", None) or CHROMA_PX)
    if view_px := getattr(config, "view_px", None):
        return ReducedView(view_px, grey=taken == 1)
    return PictureView(grey=taken == 1)


class PictureView:
    """The whole picture, in colour or, with `grey`, its luma (BT.601); the answer is a picture."""

    small = False

    def __init__(self, *, grey: bool = False) -> None:
        self._grey = grey

    def size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def look(self, rgb: Pixels) -> Pixels:
        return rgb

    def to_tensor(self, seen: Pixels) -> Tensor:
        tensor = images.to_tensor(seen)
        return (tensor * _LUMA).sum(0, keepdim=True) if self._grey else tensor

    def to_rgb(self, answer: Tensor, seen: Pixels, rgb: Pixels) -> Pixels:
        return images.to_rgb(answer.expand(3, -1, -1))


class SmallView:
    """Base of the views that show a small copy of what has more pixels than a square of a side."""

    small = True

    def __init__(self, side_px: int) -> None:
        self._side_px = side_px

    def size(self, height: int, width: int) -> tuple[int, int]:
        # Networks pad a short side, so the area alone would not bound what a thin picture costs.
        factor = min(
            1.0,
            self._side_px / math.sqrt(height * width),
            _LONGEST * self._side_px / max(height, width),
        )
        return max(1, round(height * factor)), max(1, round(width * factor))

    def look(self, rgb: Pixels) -> Pixels:
        return images.resize(rgb, *self.size(*rgb.shape[:2]))


class ReducedView(SmallView):
    """A small copy, in which things are as large as where the generator learned them.

    The answer is enlarged. Detail that the copy lacks comes from the picture, as much of it as the
    answer has kept of the copy around there: the slope of the local regression of one on the
    other, as in the guided filter (He et al. 2013, equation 5; enlarged as in He and Sun 2015).
    """

    def __init__(self, side_px: int, *, grey: bool = False) -> None:
        super().__init__(side_px)
        self._copy = PictureView(grey=grey)

    def to_tensor(self, seen: Pixels) -> Tensor:
        return self._copy.to_tensor(seen)

    def to_rgb(self, answer: Tensor, seen: Pixels, rgb: Pixels) -> Pixels:
        answered = self._copy.to_rgb(answer, seen, seen)
        if seen is rgb:
            return answered
        height, width = rgb.shape[:2]
        painted, blurred, kept = (
            images.resize(each, height, width) for each in (answered, seen, _kept(seen, answered))
        )
        for top in range(0, height, _STRIP_ROWS):  # a large picture in floats fills the memory
            rows = slice(top, top + _STRIP_ROWS)
            detail = rgb[rows].astype(np.float32) - blurred[rows]
            shown = painted[rows] + detail * (kept[rows, :, None] / np.float32(255))
            painted[rows] = np.rint(shown.clip(0, 255))
        return painted


class ChromaView(SmallView):
    """The lightness of a small copy; the answer is chroma, which joins the picture's own lightness.

    Eyes see colour far less sharply than lightness, so the answer may be small, and the picture of
    any size, as Colorful Image Colorization has it (Zhang, Isola and Efros 2016).
    """

    def to_tensor(self, seen: Pixels) -> Tensor:
        return lab.split(images.to_tensor(seen))[0]

    def to_rgb(self, answer: Tensor, seen: Pixels, rgb: Pixels) -> Pixels:
        height, width = rgb.shape[:2]
        rows = F.interpolate(answer[None].float(), (answer.shape[1], width), mode="bilinear")[0]
        painted = images.canvas(height, width)
        for top in range(0, height, _STRIP_ROWS):  # a large picture in floats fills the memory
            strip = rgb[top : top + _STRIP_ROWS]
            lightness, _ = lab.split(images.to_tensor(strip))
            chroma = _rows_between(rows, top, len(strip), height)
            painted[top : top + _STRIP_ROWS] = images.to_rgb(lab.join(lightness, chroma))
        return painted


def _kept(before: Pixels, after: Pixels) -> Pixels:
    """Return how much of the local contrast of (H, W, 3) is left, (H, W); 255 is all of it.

    All of it, too, where there was none to begin with.
    """
    pair = torch.from_numpy(np.stack([before.mean(2), after.mean(2)])[:, None] / 255)

    def local(values: Tensor) -> Tensor:
        padded = F.pad(values, (_WINDOW_PX // 2,) * 4, mode="replicate")
        return F.avg_pool2d(padded, _WINDOW_PX, stride=1)

    mean = local(pair)
    variance = local(pair[:1] ** 2) - mean[:1] ** 2
    covariance = local(pair[:1] * pair[1:]) - mean[:1] * mean[1:]
    slope = local(((covariance + _FLAT) / (variance + _FLAT)).clamp(0, 1))
    return np.asarray((255 * slope[0, 0]).round().byte().numpy())


def _rows_between(rows: Tensor, top: int, count: int, height: int) -> Tensor:
    """Return `count` rows from `top` on of (C, h, W) enlarged to (C, height, W), bilinearly."""
    known = rows.shape[1]
    place = ((torch.arange(top, top + count) + 0.5) * known / height - 0.5).clamp(0, known - 1)
    above = place.floor().long()
    below = (above + 1).clamp(max=known - 1)
    return torch.lerp(rows[:, above], rows[:, below], (place - above).float()[:, None])
