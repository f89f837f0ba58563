"""A discriminator on a frozen network (Sungatullina et al. 2018, Sauer et al. 2021).

It knows textures and shapes before its first step, which a PatchGAN has to learn from the data.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from models.features import width


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
