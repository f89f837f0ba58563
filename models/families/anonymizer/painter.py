"""A painter of faces, steered by a code."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.blocks import conv, local_mean
from models.faces.geometry import LANDMARKS
from models.families.anonymizer.conditions import radius
from models.families.anonymizer.tone import ToneNet, toned
from models.family import Config

SURROUNDINGS = 3 + 1 + len(LANDMARKS)  # picture, mask and landmarks
_MAPPED = 128  # width of the network between code and normalisations
_CELLS = 4  # to a side, whose means say what is seen of light and skin
_RIM = 0.8  # of the mask's radii, from where on a face fades into what is around it
_BLURS = ((9, 3), (5, 2), (3, 1))  # pixels, times: Gaussians of about 4.5, 2 and 0.8 px
_UNSURE = 0.02  # share of known pixels at which a continuation is half of them
_CONTRAST = 0.75  # of a painted face against its own mean over some 31 px
_COLOURED = 0.006  # mean distance from grey above which a picture has colour; 99 % have 0.01


class FaceConfig(Config):
    """Hyperparameters of a `FacePainter` or of an `IdentityTransformer` with one inside.

    Attributes:
        condition: what comes beside the code: the face itself ("identity"), or all around it, a
            mask and five landmarks ("surroundings").
        code_length: values of the code, which are bits of a passcode or of chance.
        base_channels, halvings, blocks: of the painter.
        tone_channels: of the network that guesses a face's tone; 0 leaves tones to the painter.
        finder_channels, finder_blocks: of the network that finds the old face ("identity" alone).
        strength: share of a small difference to the old face that the new one carries, of wide ones
            less ("identity" alone).
    """

    condition: Literal["identity", "surroundings"] = "identity"
    code_length: int = Field(32, ge=1, le=1024)
    base_channels: int = Field(32, ge=1, le=1024)
    halvings: int = Field(2, ge=1, le=4)
    blocks: int = Field(6, ge=1, le=256)
    tone_channels: int = Field(0, ge=0, le=1024)
    finder_channels: int = Field(64, ge=1, le=1024)
    finder_blocks: int = Field(5, ge=1, le=256)
    strength: float = Field(0.07, gt=0, le=1)

    def paints_as(self, other: Config, tone_channels: int) -> bool:
        """Whether `other` is a painter of this size, with such a tone."""
        size = {"code_length", "base_channels", "halvings", "blocks"}
        painter = {**self.model_dump(include=size), "condition": "surroundings"}
        wanted = {**painter, "tone_channels": tone_channels}
        return isinstance(other, FaceConfig) and wanted == other.model_dump(include=set(wanted))

    @property
    def channels_in(self) -> int:
        """All channels: those of the picture, then the code, each value filling a plane."""
        around = 1 if self.condition == "identity" else 1 + len(LANDMARKS)
        return 3 + around + self.code_length


class _Steered(nn.Module):
    """conv - InstanceNorm - scale and shift by the mapped code (AdaIN, Huang and Belongie 2017)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = conv(channels_in, channels_out, 3, bias=False)
        self.norm = nn.InstanceNorm2d(channels_out)
        self.steer = nn.Conv2d(_MAPPED, 2 * channels_out, 1)

    def forward(self, x: Tensor, mapped: Tensor) -> Tensor:
        scale, shift = self.steer(mapped).chunk(2, dim=1)
        y: Tensor = self.norm(self.conv(x)) * (1 + scale) + shift
        return y


class _SteeredBlock(nn.Module):
    """x + steered(relu(steered(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _Steered(channels, channels)
        self.second = _Steered(channels, channels)

    def forward(self, x: Tensor, mapped: Tensor) -> Tensor:
        y: Tensor = x + self.second(self.first(x, mapped).relu(), mapped)
        return y


class FacePainter(nn.Module):
    """(B, 9 + N, H, W), as `pack_surroundings` gives, -> (B, 3, H, W) in about [-1, 1].

    Made for faces of 128 x 128; H, W multiples of 2**halvings. A U-Net (Isola et al. 2017): what is
    around the face is seen at every size, to be joined without a seam. Gu et al. 2020 tile the code
    over the picture and normalise by batch statistics. Here a face's answer must not depend on its
    neighbours, and InstanceNorm would subtract a tiled code again, so the code is read off its
    planes and steers the normalisations, together with what is seen of light and skin, which they
    would lose as well (co-modulation, Zhao et al. 2021).
    """

    def __init__(self, config: FaceConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.base_channels * min(2**i, 4) for i in range(config.halvings + 1)]
        steps = list(itertools.pairwise(widths))
        told = config.code_length + widths[-1] * _CELLS**2
        self.map = nn.Sequential(
            nn.Conv2d(told, _MAPPED, 1), nn.ReLU(), nn.Conv2d(_MAPPED, _MAPPED, 1)
        )
        self.stem = conv(SURROUNDINGS, widths[0], 5)
        self.down = nn.ModuleList(
            nn.Sequential(nn.ReLU(), conv(above, below, 3, 2)) for above, below in steps
        )
        self.blocks = nn.ModuleList(_SteeredBlock(widths[-1]) for _ in range(config.blocks))
        self.up = nn.ModuleList(_Steered(below + above, above) for above, below in reversed(steps))
        self.head = conv(widths[0], 3, 5)
        self.tone = ToneNet(config.tone_channels) if config.tone_channels else None

    def forward(self, x: Tensor) -> Tensor:
        picture, code = x[:, :SURROUNDINGS], x[:, SURROUNDINGS:].mean((2, 3), keepdim=True)
        y = self.stem(picture)
        seen = []
        for down in self.down:
            seen.append(y)
            y = down(y)
        light = nn.functional.adaptive_avg_pool2d(y, _CELLS).flatten(1)[:, :, None, None]
        mapped = self.map(torch.cat((code, light), dim=1))
        for block in self.blocks:
            y = block(y, mapped)
        for up in self.up:
            y = nn.functional.interpolate(y, scale_factor=2.0, mode="nearest")
            y = up(torch.cat((y, seen.pop()), dim=1), mapped).relu()
        painted = _calmed(self.head(y).tanh())
        if self.tone:
            painted = toned(painted, self.tone(picture[:, :4]))
        known = picture[:, :3]
        return _joined(_as_colourful(painted, known), known, picture[:, 3:4])


def _calmed(painted: Tensor) -> Tensor:
    """Reduce fine noise and contrast, which codes longer than those of people exaggerate.

    A detector is surer of the face then, and two codes are as far apart.
    """
    painted = (painted + _blurred(painted, 3, 1)) / 2
    level = _blurred(painted, 31, 2)
    return level + _CONTRAST * (painted - level)


def _joined(painted: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    """Put a painted face into what is around it, and fade it out under the rim of its mask.

    There people end and backgrounds begin, which a painter of faces guesses badly.
    """
    inwards = ((1 - radius(known)) / (1 - _RIM)).clamp(0, 1)
    share = inwards.square() * (3 - 2 * inwards)
    continued = _continued(known, mask)
    return known + mask * (continued + share * (painted - continued))


def _continued(known: Tensor, mask: Tensor) -> Tensor:
    """Continue what is known into the rim of a hole, coarsely far and in detail next to it.

    By normalised convolutions (Knutsson and Westin 1993), each of what the coarser ones left over.
    """
    beside, answer = 1 - mask, torch.zeros_like(known)
    for width, times in _BLURS:
        left_over = _blurred((known - answer) * beside, width, times)
        answer = answer + left_over / (_blurred(beside, width, times) + _UNSURE)
    return answer


def _blurred(x: Tensor, width: int, times: int) -> Tensor:
    """Take means over squares of `width` pixels again and again."""
    for _ in range(times):
        x = local_mean(x, width)
    return x


def _as_colourful(answer: Tensor, known: Tensor) -> Tensor:
    """Take the colour from faces whose surroundings have none: grey photographs stay grey."""
    strayed = (known - known.mean(1, keepdim=True)).abs().mean((1, 2, 3), keepdim=True)
    grey = answer.mean(1, keepdim=True)
    return grey + (strayed / _COLOURED).clamp(max=1) * (answer - grey)
