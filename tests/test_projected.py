"""The discriminator on VGG16's features."""

from __future__ import annotations

import torch
from torch import Tensor

from models.features import VGG16
from models.projected import ProjectedDiscriminator

LAYERS = ("relu1_2", "relu2_2")


def activations(pictures: int = 2, px: int = 32) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return VGG16(LAYERS)(torch.rand(pictures, 3, px, px) * 2 - 1)


def discriminator() -> ProjectedDiscriminator:
    torch.manual_seed(0)
    return ProjectedDiscriminator(LAYERS, 4).eval()


def test_one_logit_a_patch():
    """Every layer is judged by patches of four by four of its activations, two apart."""
    assert discriminator()(activations(px=32)).shape == (2, 16 * 16 + 8 * 8)


def test_scale_of_the_features():
    """Weights of VGG16 of another scale, as torchvision's own training has them, judge alike."""
    seen = activations()
    larger = {layer: 300 * values for layer, values in seen.items()}
    torch.testing.assert_close(discriminator()(larger), discriminator()(seen), atol=1e-4, rtol=0)


def test_pictures_are_judged_alone():
    """A picture's logits do not depend on what else is in the batch."""
    seen = activations(3)
    together = discriminator()(seen)
    for index in range(3):
        alone = {layer: values[index : index + 1] for layer, values in seen.items()}
        torch.testing.assert_close(discriminator()(alone)[0], together[index])
