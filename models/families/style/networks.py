"""The image transformation network of Johnson et al. (2016), with InstanceNorm (Ulyanov 2016)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from models.blocks import ResidualBlock, ValueRange, conv, from_range, norm_layer, to_range
from models.family import Config, SizeRule


class TransformerConfig(Config):
    """Hyperparameters of `TransformerNet`; the published networks have 32 or 16 base channels."""

    base_channels: int = Field(32, ge=1, le=1024)
    blocks: int = Field(5, ge=1, le=256)
    value_range: ValueRange = "signed"


def _step(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        conv(channels_in, channels_out, kernel, stride),
        norm_layer("instance_affine", channels_out),
        nn.ReLU(inplace=True),
    )


class TransformerNet(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, 3, H, W) in about [-1, 1]; H, W multiples of 4.

    Nearest-neighbour enlargement followed by a convolution avoids the checkerboard of transposed
    convolutions; the output is linear, so that saturated colours keep a gradient.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        c = config.base_channels
        self.config = config
        self.encode = nn.Sequential(
            _step(3, c, 9), _step(c, 2 * c, 3, 2), _step(2 * c, 4 * c, 3, 2)
        )
        self.blocks = nn.Sequential(
            *(ResidualBlock(4 * c, "instance_affine") for _ in range(config.blocks))
        )
        self.decode = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            _step(4 * c, 2 * c, 3),
            nn.Upsample(scale_factor=2, mode="nearest"),
            _step(2 * c, c, 3),
            conv(c, 3, 9),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = to_range(x, self.config.value_range)
        y: Tensor = self.decode(self.blocks(self.encode(x)))
        return from_range(y, self.config.value_range)


def build_generator(config: TransformerConfig) -> TransformerNet:
    """Return a `TransformerNet` with PyTorch's default initialisation, as the reference has."""
    return TransformerNet(config)


def size_rule(config: TransformerConfig) -> SizeRule:
    """Two halvings; 4 px of stem, 1 + 2 of the halvings, 8 a block, 4 + 2 + 4 on the way up."""
    halo = 17 + 8 * config.blocks
    return SizeRule(multiple_of=4, minimum=16, halo=-(-halo // 4) * 4, whole_image_statistics=True)
