"""Super-resolution generators and discriminator.

SRResNet and the discriminator follow SRGAN (Ledig et al. 2017, figure 4); `MSRResNet` is the
variant without BatchNorm that ESRGAN (Wang et al. 2018) starts from.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.blocks import bilinear, from_range, initialise_unnormalised, to_range
from models.families.srgan.config import SRConfig
from models.families.srgan.esrgan import CompactNet, RRDBNet


def _bn(config: SRConfig) -> nn.Module:
    return nn.BatchNorm2d(config.channels) if config.batch_norm else nn.Identity()


class SRResidualBlock(nn.Module):
    """conv - BN - PReLU - conv - BN, plus the input: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, config: SRConfig) -> None:
        super().__init__()
        c = config.channels
        self.body = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1),
            _bn(config),
            nn.PReLU(),
            nn.Conv2d(c, c, 3, padding=1),
            _bn(config),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


class SRResNet(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, 3, scale * H, scale * W) in about [-1, 1]; any H, W."""

    def __init__(self, config: SRConfig) -> None:
        super().__init__()
        c = config.channels
        self.config = config
        self.head = nn.Sequential(nn.Conv2d(3, c, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(*(SRResidualBlock(config) for _ in range(config.blocks)))
        self.fuse = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), _bn(config))
        self.up = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(c, 4 * c, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
                for _ in range(config.scale // 2)
            )
        )
        self.tail = nn.Conv2d(c, 3, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(to_range(x, self.config.value_range))
        y: Tensor = self.tail(self.up(features + self.fuse(self.blocks(features))))
        if self.config.output == "tanh":  # already signed, whatever the input's range
            return y.tanh()
        return from_range(y, self.config.value_range)


class _ConvPair(nn.Module):
    """conv - ReLU - conv, plus the input, the residual block of EDSR (Lim et al. 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv2(self.conv1(x).relu())
        return y


class MSRResNet(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, 3, scale * H, scale * W) in about [-1, 1]; any H, W.

    It predicts the difference to the bilinear enlargement.
    """

    def __init__(self, config: SRConfig) -> None:
        super().__init__()
        c = config.channels
        self.config = config
        self.activation = nn.LeakyReLU(0.1, inplace=True)
        self.head = nn.Conv2d(3, c, 3, padding=1)
        self.blocks = nn.Sequential(*(_ConvPair(c) for _ in range(config.blocks)))
        self.up = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(c, 4 * c, 3, padding=1), nn.PixelShuffle(2))
                for _ in range(config.scale // 2)
            )
        )
        self.refine = nn.Conv2d(c, c, 3, padding=1)
        self.tail = nn.Conv2d(c, 3, 3, padding=1)
        initialise_unnormalised(self)

    def forward(self, x: Tensor) -> Tensor:
        x = to_range(x, self.config.value_range)
        y = self.blocks(self.activation(self.head(x)))
        for step in self.up:
            y = self.activation(step(y))
        y = self.tail(self.activation(self.refine(y)))
        return from_range(y + bilinear(x, self.config.scale), self.config.value_range)


class SRDiscriminator(nn.Module):
    """(B, 3, H, W) -> (B, 1) logits, H and W at least `smallest_px`.

    Eight 3 x 3 convolutions, every second one strided, as in the paper; the grid is pooled to
    6 x 6 before the dense layers, so that any crop size can be judged whose last normalisation
    still has a variance: 2 x 2 values of one picture.
    """

    smallest_px = 17

    def __init__(self, base_channels: int = 64, dense: int = 1024) -> None:
        super().__init__()
        c = base_channels
        layers: list[nn.Module] = [nn.Conv2d(3, c, 3, padding=1), nn.LeakyReLU(0.2)]
        plan = [(c, c, 2), (c, 2 * c, 1), (2 * c, 2 * c, 2), (2 * c, 4 * c, 1)]
        plan += [(4 * c, 4 * c, 2), (4 * c, 8 * c, 1), (8 * c, 8 * c, 2)]
        for channels_in, channels_out, stride in plan:
            layers += [
                nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.LeakyReLU(0.2),
            ]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(6))
        self.judge = nn.Sequential(
            nn.Flatten(),
            nn.Linear(8 * c * 6 * 6, dense),
            nn.LeakyReLU(0.2),
            nn.Linear(dense, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.judge(self.features(x))
        return logits


def build_generator(config: SRConfig) -> nn.Module:
    """Return the generator that `config.architecture` names."""
    match config.architecture:
        case "msrresnet":
            return MSRResNet(config)
        case "srresnet":
            return SRResNet(config)
        case "rrdb":
            return RRDBNet(config)
        case "compact":
            return CompactNet(config)
