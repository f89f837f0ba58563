"""A ResNet generator whose normalisations are steered by a code (Gu et al. 2020; Huang 2017)."""

from __future__ import annotations

import itertools
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from models.blocks import conv
from models.families.anonymizer.conditions import face_weight
from models.family import Config, SizeRule

_LANDMARKS = 5
_MAPPED = 128  # width of the network between code and normalisations


class FaceConfig(Config):
    """Hyperparameters of `FaceGenerator`.

    Attributes:
        condition: what comes beside the code: the face itself ("identity"), or all around it, a
            mask and five landmarks ("surroundings").
        code_length: values of the code; bits of a passcode, or noise.
    """

    condition: Literal["identity", "surroundings"] = "identity"
    code_length: int = Field(32, ge=1)
    base_channels: int = Field(32, ge=1)
    halvings: int = Field(2, ge=1, le=4)
    blocks: int = Field(6, ge=1)

    @property
    def picture_channels(self) -> int:
        """Channels that vary over the picture."""
        return 3 if self.condition == "identity" else 3 + 1 + _LANDMARKS

    @property
    def channels_in(self) -> int:
        """All channels: those of the picture, then the code, each value filling a plane."""
        return self.picture_channels + self.code_length


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


class FaceGenerator(nn.Module):
    """(B, channels_in, H, W) -> (B, 3, H, W) in [-1, 1]; H, W multiples of 2**halvings.

    Made for faces of 128 x 128.

    Gu et al. 2020 tile the code over the picture and normalise by batch statistics. Here a face's
    answer must not depend on its neighbours, and InstanceNorm would subtract a tiled code again, so
    the code is read off its planes and steers the normalisations. No step up sees one down: a face
    that could be copied would be. What is around it is not made anew but kept.
    """

    def __init__(self, config: FaceConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.base_channels * min(2**i, 4) for i in range(config.halvings + 1)]
        steps = list(itertools.pairwise(widths))
        self.map = nn.Sequential(
            nn.Conv2d(config.code_length, _MAPPED, 1), nn.ReLU(), nn.Conv2d(_MAPPED, _MAPPED, 1)
        )
        self.stem = conv(config.picture_channels, widths[0], 5)
        self.down = nn.ModuleList(
            nn.Sequential(nn.ReLU(), conv(above, below, 3, 2), nn.InstanceNorm2d(below))
            for above, below in steps
        )
        self.blocks = nn.ModuleList(_SteeredBlock(widths[-1]) for _ in range(config.blocks))
        self.up = nn.ModuleList(_Steered(below, above) for above, below in reversed(steps))
        self.head = conv(widths[0], 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        channels = self.config.picture_channels
        picture, code = x[:, :channels], x[:, channels:].mean((2, 3), keepdim=True)
        mapped = self.map(code)
        y = self.stem(picture)
        for down in self.down:
            y = down(y)
        for block in self.blocks:
            y = block(y, mapped)
        for up in self.up:
            y = nn.functional.interpolate(y, scale_factor=2.0, mode="nearest")
            y = up(y, mapped).relu()
        answer: Tensor = self.head(y).tanh()
        if self.config.condition == "identity":
            answer = picture + face_weight(picture) * (answer - picture)
        return answer


def build_generator(config: FaceConfig) -> FaceGenerator:
    """Return a `FaceGenerator` with PyTorch's default initialisation."""
    return FaceGenerator(config)


def size_rule(config: FaceConfig) -> SizeRule:
    """`halvings`; made for one aligned face at a time, so it is never tiled."""
    side = 2**config.halvings
    return SizeRule(multiple_of=side, minimum=2 * side, halo=side, whole_image_statistics=True)
