"""The U-Net generator of pix2pix (Isola et al. 2017, section 6.1.1)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.blocks import (
    Norm,
    Upsampling,
    has_bias,
    initialise_gan,
    norm_layer,
    per_image_batch_norm,
    upsample,
)
from models.family import Config, SizeRule


class UNetConfig(Config):
    """Hyperparameters of `UNetGenerator`.

    Attributes:
        channels_in: 3, or 1 for the grey picture.
        channels_out: 3, 1, or 2 for the chroma that a picture's lightness, channels_in 1, lacks.
        depth: halvings, down to 1 x 1 for a side of 2**depth: 7 for 128 px, 8 for 256 px.
        upsampling: the paper's transposed convolutions of 4 x 4, or "nearest" (see `upsample`),
            which leaves no grid on smooth walls and has 9/16 of their weights.
        dropout: rate in the `depth` - 5 innermost steps up, the paper's noise; in training only.
        statistics: whose statistics BatchNorm uses outside training: those gathered in training
            ("running") or each picture's own ("image", the paper's way).
        view_px: a picture with more pixels than a square of this side is shown to the generator
            as a small copy (`models.views`); None shows it every picture as it is, but chroma is
            always made small.
    """

    channels_in: int = Field(3, ge=1)
    channels_out: int = Field(3, ge=1)
    base_channels: int = Field(64, ge=1, le=1024)
    depth: int = Field(8, ge=5, le=10)
    norm: Norm = "batch"
    upsampling: Upsampling = "transposed"
    dropout: float = Field(0.5, ge=0, lt=1)
    statistics: Literal["running", "image"] = "image"
    view_px: int | None = Field(None, ge=64, le=1024)

    @model_validator(mode="after")
    def _check_channels(self) -> UNetConfig:
        if self.channels_out == 2 and self.channels_in != 1:
            raise ValueError("channels_out 2 is chroma, which is made for channels_in 1")
        return self


class UNetGenerator(nn.Module):
    """(B, channels_in, H, W) in [-1, 1] -> (B, channels_out, H, W) in [-1, 1].

    H and W are multiples of 2**depth. Every step up sees the step down of the same resolution.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        bias = has_bias(config.norm)
        depth = config.depth
        widths = [config.base_channels * min(2**i, 8) for i in range(depth)]
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for i, width in enumerate(widths):
            innermost, outermost = i == depth - 1, i == 0
            down: list[nn.Module] = [] if outermost else [nn.LeakyReLU(0.2)]
            down.append(
                nn.Conv2d(
                    config.channels_in if outermost else widths[i - 1],
                    width,
                    4,
                    stride=2,
                    padding=1,
                    bias=bias,
                )
            )
            if not (innermost or outermost):
                down.append(norm_layer(config.norm, width))
            self.down.append(nn.Sequential(*down))

            below = width if innermost else 2 * width
            target = config.channels_out if outermost else widths[i - 1]
            up: list[nn.Module] = [
                nn.ReLU(),
                upsample(config.upsampling, below, target, kernel=4, bias=bias or outermost),
            ]
            if outermost:
                up.append(nn.Tanh())
            else:
                up.append(norm_layer(config.norm, target))
                if i >= 5:
                    up.append(nn.Dropout(config.dropout))
            self.up.append(nn.Sequential(*up))

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = self.up[-1](skips.pop())
        for up in reversed(self.up[:-1]):
            x = up(torch.cat((skips.pop(), x), dim=1))
        return x


def build_generator(config: UNetConfig) -> UNetGenerator:
    """Return a `UNetGenerator` with the initialisation of the paper."""
    generator = UNetGenerator(config)
    initialise_gan(generator)
    if config.statistics == "image":
        per_image_batch_norm(generator)
    return generator


def size_rule(config: UNetConfig) -> SizeRule:
    """`depth` halvings; tiles see a third of the 3 * 2**depth - 3 pixels around that it depends on.

    So they are close to the whole picture's answer, not equal to it, as tiles of bounded size must.
    """
    side = 2**config.depth
    of_the_picture = config.norm.startswith("instance") or (
        config.norm == "batch" and config.statistics == "image"
    )
    return SizeRule(
        multiple_of=side,
        minimum=side,
        halo=side,
        whole_image_statistics=of_the_picture,
    )
