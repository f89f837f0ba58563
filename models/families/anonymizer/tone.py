"""The tone of a face: guessed from what is seen around it, and given to the painted one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.blocks import conv
from models.families.anonymizer.conditions import face_mask

_CELLS = 2  # to a side of the square; finer ones would take from the code whose face it is
_SEEN = 32  # pixels to a side, of the picture that it is guessed from
_LEAST_SEEN = 0.05  # share of a pixel that must be known for its colour to count
_WHOLE = 0.85  # of the mask's radii, in which a face does not fade yet
_BESIDE = 0.01  # what a pixel beside the face counts, for cells without any
_DARKEST = 0.02  # in [0, 1], so that a ratio of tones is finite


class ToneNet(nn.Module):
    """(B, 4, H, W), a picture in [-1, 1] without its face and the mask -> (B, 3, 2, 2), its tones.

    A painter whose layers are normalised paints most faces in the tone of most people. This one
    looks at ears, neck, hair and light, and at nothing of the code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            conv(4, channels, 3),
            nn.ReLU(),
            conv(channels, channels, 3, 2),
            nn.ReLU(),
            conv(channels, 2 * channels, 3, 2),
            nn.ReLU(),
            conv(2 * channels, 2 * channels, 3, 2),
            nn.ReLU(),
        )
        self.guess = nn.Sequential(
            nn.Linear(2 * channels * (_SEEN // 8) ** 2, 4 * channels),
            nn.ReLU(),
            nn.Linear(4 * channels, 3 * _CELLS**2),
        )

    def forward(self, surroundings: Tensor) -> Tensor:
        small = nn.functional.adaptive_avg_pool2d(surroundings, _SEEN)
        known = 1 - small[:, 3:]
        seen = small[:, :3] / known.clamp(min=_LEAST_SEEN) * (known > _LEAST_SEEN)
        y = self.guess(self.look(torch.cat((seen, known), dim=1)).flatten(1))
        guessed: Tensor = y.view(-1, 3, _CELLS, _CELLS)
        return guessed


def tones(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 3, 2, 2): the mean colour of the face in each cell, where it has one."""
    share = face_mask(pictures, _WHOLE).float() + _BESIDE
    whole, part = (
        nn.functional.adaptive_avg_pool2d(x, _CELLS) for x in (share, pictures.float() * share)
    )
    return part / whole


def toned(painted: Tensor, wanted: Tensor) -> Tensor:
    """Give a painted picture (B, 3, H, W) the tones (B, 3, 2, 2) that are wanted; [-1, 1].

    Means are matched as in colour transfer (Reinhard et al. 2001), cell by cell and by a factor, as
    another light does it.
    """
    now, then = (((t + 1) / 2).clamp(_DARKEST, 1) for t in (tones(painted), wanted.float()))
    factor = nn.functional.interpolate((then / now).log(), painted.shape[2:], mode="bicubic").exp()
    return ((painted + 1) * factor - 1).clamp(max=1)
