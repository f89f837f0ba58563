"""The generators of ESRGAN (Wang et al. 2018) and of Real-ESRGAN (Wang et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.blocks import from_range, initialise_unnormalised, to_range
from models.families.srgan.config import SRConfig

_RESIDUAL_SCALE = 0.2  # ESRGAN, section 3.1: what blocks add is scaled down, for stability


class DenseBlock(nn.Module):
    """Five convolutions, each of all that came before: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        widths = [growth] * 4 + [channels]
        self.convs = nn.ModuleList(
            nn.Conv2d(channels + index * growth, width, 3, padding=1)
            for index, width in enumerate(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        known = x
        for conv in self.convs[:-1]:
            known = torch.cat((known, nn.functional.leaky_relu(conv(known), 0.2)), dim=1)
        y: Tensor = x + _RESIDUAL_SCALE * self.convs[-1](known)
        return y


class RRDB(nn.Module):
    """Residual in residual: three dense blocks, plus the input (ESRGAN, figure 4)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + _RESIDUAL_SCALE * self.body(x)
        return y


class RRDBNet(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, 3, scale * H, scale * W) in about [-1, 1].

    H and W are multiples of `unshuffle`. Real-ESRGAN's network for a scale of 2 is the one for 4
    on a picture whose squares of 2 x 2 pixels have become channels.
    """

    def __init__(self, config: SRConfig) -> None:
        super().__init__()
        c = config.channels
        self.config = config
        self.head = nn.Conv2d(3 * config.unshuffle**2, c, 3, padding=1)
        self.blocks = nn.Sequential(*(RRDB(c, config.growth) for _ in range(config.blocks)))
        self.fuse = nn.Conv2d(c, c, 3, padding=1)
        doublings = (config.scale * config.unshuffle).bit_length() - 1
        self.up = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(doublings))
        self.refine = nn.Conv2d(c, c, 3, padding=1)
        self.tail = nn.Conv2d(c, 3, 3, padding=1)
        initialise_unnormalised(self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = to_range(x, self.config.value_range)
        features = self.head(nn.functional.pixel_unshuffle(x, self.config.unshuffle))
        y = features + self.fuse(self.blocks(features))
        for conv in self.up:
            y = nn.functional.leaky_relu(
                conv(nn.functional.interpolate(y, scale_factor=2.0, mode="nearest")), 0.2
            )
        y = self.tail(nn.functional.leaky_relu(self.refine(y), 0.2))
        return from_range(y, self.config.value_range)


class CompactNet(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, 3, scale * H, scale * W) in about [-1, 1]; any H, W.

    Real-ESRGAN's SRVGGNetCompact: all convolutions at the input's resolution, the last of which
    predicts the difference to the nearest-neighbour enlargement.
    """

    def __init__(self, config: SRConfig) -> None:
        super().__init__()
        c = config.channels
        self.config = config
        layers: list[nn.Module] = []
        for channels_in in [3] + [c] * config.blocks:
            layers += [nn.Conv2d(channels_in, c, 3, padding=1), nn.PReLU(c)]
        self.body = nn.Sequential(*layers, nn.Conv2d(c, 3 * config.scale**2, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = to_range(x, self.config.value_range)
        enlarged = nn.functional.interpolate(
            x, scale_factor=float(self.config.scale), mode="nearest"
        )
        y = nn.functional.pixel_shuffle(self.body(x), self.config.scale) + enlarged
        return from_range(y, self.config.value_range)
