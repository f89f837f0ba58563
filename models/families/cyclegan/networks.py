"""The ResNet generator of CycleGAN (Zhu et al. 2017, appendix 7.2, after Johnson et al. 2016)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from models.blocks import (
    Norm,
    ResidualBlock,
    Upsampling,
    conv,
    has_bias,
    initialise_gan,
    local_mean,
    norm_layer,
    upsample,
)
from models.family import Config, SizeRule


class ResNetConfig(Config):
    """Hyperparameters of `ResNetGenerator`.

    Attributes:
        blocks: residual blocks, 6 for 128 px and 9 for 256 px in the paper.
        dropout: rate inside the residual blocks; active in training only.
        clip: bound of what the normalisations give, in standard deviations (see `norm_layer`);
            with `norm` "instance" only, as another's answers are not in those.
        undertone_px: side, odd, of the squares whose mean colours are added around each pixel
            before the tanh; None adds none. Instance normalisation takes a picture's own colour
            from it, which no layer finds again; strokes and other detail are finer than these.
        view_px: a picture with more pixels than a square of this side is shown to the generator
            as a small copy (`models.views.ReducedView`); None shows it every picture as it is.
    """

    channels_in: int = Field(3, ge=1)
    channels_out: int = Field(3, ge=1)
    base_channels: int = Field(64, ge=1, le=1024)
    blocks: int = Field(9, ge=1, le=256)
    norm: Norm = "instance"
    upsampling: Upsampling = "nearest"
    dropout: float = Field(0.0, ge=0, lt=1)
    clip: float | None = Field(None, gt=0)
    undertone_px: int | None = Field(None, ge=3, le=255)
    view_px: int | None = Field(None, ge=64, le=1024)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.clip is not None and self.norm != "instance":
            raise ValueError(f'clip bounds norm = "instance", not "{self.norm}"')
        if self.undertone_px is not None:
            if self.undertone_px % 2 == 0:
                raise ValueError("undertone_px must be odd, so that a pixel is in the middle")
            if self.channels_in != self.channels_out:
                raise ValueError("undertone_px needs as many channels_out as channels_in")
        return self


class ResNetGenerator(nn.Module):
    """(B, channels_in, H, W) -> (B, channels_out, H, W) in [-1, 1]; H, W multiples of 4."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.undertone_px = config.undertone_px
        c, norm, clip = config.base_channels, config.norm, config.clip
        bias = has_bias(norm)
        self.stem = nn.Sequential(
            conv(config.channels_in, c, 7, bias=bias),
            norm_layer(norm, c, clip),
            nn.ReLU(inplace=True),
        )
        self.down = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=bias),
                    norm_layer(norm, 2 * width, clip),
                    nn.ReLU(inplace=True),
                )
                for width in (c, 2 * c)
            )
        )
        self.blocks = nn.Sequential(
            *(ResidualBlock(4 * c, norm, config.dropout, clip) for _ in range(config.blocks))
        )
        self.up = nn.Sequential(
            *(
                nn.Sequential(
                    upsample(config.upsampling, width, width // 2, bias=bias),
                    norm_layer(norm, width // 2, clip),
                    nn.ReLU(inplace=True),
                )
                for width in (4 * c, 2 * c)
            )
        )
        self.head = nn.Sequential(conv(c, config.channels_out, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        project, bound = self.head
        y: Tensor = project(self.up(self.blocks(self.down(self.stem(x)))))
        if self.undertone_px is not None:
            y = y + local_mean(x, self.undertone_px)
        answer: Tensor = bound(y)
        return answer


def build_generator(config: ResNetConfig) -> ResNetGenerator:
    """Return a `ResNetGenerator` with the initialisation of the paper."""
    generator = ResNetGenerator(config)
    initialise_gan(generator)
    return generator


def size_rule(config: ResNetConfig) -> SizeRule:
    """Two halvings; 3 px of stem, 1 + 2 of the halvings, 8 a block, 4 + 2 + 3 on the way up."""
    return SizeRule(
        multiple_of=4,
        minimum=16,
        halo=-(-max(15 + 8 * config.blocks, (config.undertone_px or 1) // 2) // 4) * 4,
        whole_image_statistics=config.norm.startswith("instance"),
    )
