"""How a generator sees a picture, and how its answer becomes one."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- the name PyTorch's users know it by

from models import images, lab
from models.family import Config
from models.images import Pixels

CHROMA_PX = 256
"""Side of the square that has as many pixels as chroma is made for."""

_LUMA = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
_STRIP_ROWS = 64


class View(Protocol):
    """Pictures are uint8 (H, W, 3)."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size in which the generator sees a picture of this one."""
        ...

    def look(self, rgb: Pixels) -> Pixels:
        """Return the picture in that size."""
        ...

    def to_tensor(self, seen: Pixels) -> Tensor:
        """Return what the generator takes, (C, h, w) in [-1, 1]."""
        ...

    def to_rgb(self, answer: Tensor, rgb: Pixels) -> Pixels:
        """Return the picture that an answer (C', scale * h, scale * w) to `rgb` means."""
        ...


def view_of(config: Config) -> View:
    """Return a generator's view, which its numbers of channels tell."""
    if getattr(config, "channels_out", 3) == 2:
        return ChromaView()
    return PictureView(grey=getattr(config, "channels_in", 3) == 1)


class PictureView:
    """The whole picture, in colour or, with `grey`, its luma (BT.601); the answer is a picture."""

    def __init__(self, *, grey: bool = False) -> None:
        self._grey = grey

    def size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def look(self, rgb: Pixels) -> Pixels:
        return rgb

    def to_tensor(self, seen: Pixels) -> Tensor:
        tensor = images.to_tensor(seen)
        return (tensor * _LUMA).sum(0, keepdim=True) if self._grey else tensor

    def to_rgb(self, answer: Tensor, rgb: Pixels) -> Pixels:
        return images.to_rgb(answer.expand(3, -1, -1))


class ChromaView:
    """The lightness of a small copy; the answer is chroma, which joins the picture's own lightness.

    Eyes see colour far less sharply than lightness, so the answer may be small, and the picture of
    any size (Zhang et al. 2016, section 3.3).
    """

    def size(self, height: int, width: int) -> tuple[int, int]:
        factor = min(1.0, CHROMA_PX / math.sqrt(height * width))
        return max(1, round(height * factor)), max(1, round(width * factor))

    def look(self, rgb: Pixels) -> Pixels:
        return images.resize(rgb, *self.size(*rgb.shape[:2]))

    def to_tensor(self, seen: Pixels) -> Tensor:
        return lab.split(images.to_tensor(seen))[0]

    def to_rgb(self, answer: Tensor, rgb: Pixels) -> Pixels:
        height, width = rgb.shape[:2]
        rows = F.interpolate(answer[None].float(), (answer.shape[1], width), mode="bilinear")[0]
        painted = images.canvas(height, width)
        for top in range(0, height, _STRIP_ROWS):  # a large picture in floats fills the memory
            strip = rgb[top : top + _STRIP_ROWS]
            lightness, _ = lab.split(images.to_tensor(strip))
            chroma = _rows_between(rows, top, len(strip), height)
            painted[top : top + _STRIP_ROWS] = images.to_rgb(lab.join(lightness, chroma))
        return painted


def _rows_between(rows: Tensor, top: int, count: int, height: int) -> Tensor:
    """Return `count` rows from `top` on of (C, h, W) enlarged to (C, height, W), bilinearly."""
    known = rows.shape[1]
    place = ((torch.arange(top, top + count) + 0.5) * known / height - 0.5).clamp(0, known - 1)
    above = place.floor().long()
    below = (above + 1).clamp(max=known - 1)
    return torch.lerp(rows[:, above], rows[:, below], (place - above).float()[:, None])
