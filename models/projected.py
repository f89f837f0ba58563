"""A second discriminator, on a frozen network (Sungatullina et al. 2018, Sauer et al. 2021).

It knows textures and shapes before its first step, which a PatchGAN has to learn from the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from models import losses
from models.blocks import Norm, PatchGAN
from models.family import Config
from models.features import CONVENTION, load_vgg16, smallest_px, width


class DiscriminatorConfig(Config):
    """Hyperparameters of a PatchGAN and of the second discriminator beside it.

    Attributes:
        patch_layers: as in `PatchGAN`.
        projected: weight of the second one's term in the generator's loss; at 0 there is none.
        projected_layers: the layers of VGG16 it looks at.
        projected_channels: width of its heads.
    """

    patch_layers: int = Field(3, ge=0, le=5)
    patch_channels: int = Field(64, ge=1, le=1024)
    patch_norm: Norm = "instance"
    projected: float = Field(0.0, ge=0)
    projected_layers: tuple[
        Annotated[str, Field(pattern=r"^relu([12]_[12]|[345]_[123])$")], ...
    ] = Field(("relu2_2", "relu3_3", "relu4_3"), min_length=1)
    projected_channels: int = Field(64, ge=1, le=1024)

    @property
    def smallest_px(self) -> int:
        """Side of the smallest crop that the discriminators can judge."""
        # The heads halve what they see, so it must have 2 x 2 values.
        seen_px = 2 * smallest_px(self.projected_layers) if self.projected else 1
        return max(PatchGAN.smallest_px(self.patch_layers), seen_px)


class Projection(nn.Module):
    """The frozen VGG16 that projected discriminators share, and their least-squares terms."""

    def __init__(self, config: DiscriminatorConfig, features: Path | None) -> None:
        super().__init__()
        self.config = config
        self.features = load_vgg16(config.projected_layers, features)
        self.convention = CONVENTION | {"projected_layers": list(config.projected_layers)}

    def discriminator(self) -> ProjectedDiscriminator:
        """Return a new one."""
        return ProjectedDiscriminator(self.config.projected_layers, self.config.projected_channels)

    def generator_term(self, discriminator: nn.Module, fake: Tensor) -> Tensor:
        """Return what (B, 3, H, W) generated pictures in [-1, 1] lack to the discriminator."""
        return losses.least_squares_generator(discriminator(self.features(fake)))

    def discriminator_term(self, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """Return how badly real and detached generated pictures, as above, are told apart."""
        with torch.no_grad():
            seen_real, seen_fake = self.features(real), self.features(fake)
        return losses.least_squares_discriminator(
            discriminator(seen_real), discriminator(seen_fake)
        )


class ProjectedDiscriminator(nn.Module):
    """VGG16's activations by layer name -> (B, N) logits, one a patch of each layer.

    A head of three convolutions a layer, with spectral normalisation (Miyato et al. 2018).
    Activations are scaled to a mean square of 1, picture by picture: the layers of VGG16 differ in
    size by orders of magnitude, and so do files of its weights.
    """

    def __init__(self, layers: tuple[str, ...], base_channels: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({layer: _head(width(layer), base_channels) for layer in layers})

    def forward(self, activations: Mapping[str, Tensor]) -> Tensor:
        logits = []
        for layer, head in self.heads.items():
            seen = activations[layer]
            power = seen.float().square().mean((1, 2, 3), keepdim=True)
            logits.append(head(seen / (power.sqrt() + 1e-6)).flatten(1))
        return torch.cat(logits, 1)


def _head(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(channels_in, channels, 1)),
        nn.LeakyReLU(0.2, inplace=True),
        spectral_norm(nn.Conv2d(channels, channels, 4, stride=2, padding=1)),
        nn.LeakyReLU(0.2, inplace=True),
        spectral_norm(nn.Conv2d(channels, 1, 1)),
    )
