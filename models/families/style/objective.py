"""Feature + style reconstruction + total variation (Johnson et al. 2016, equation 5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn

from models import losses
from models.blocks import ResidualBlock, as_displayed
from models.families.style.networks import TransformerConfig, TransformerNet, build_generator
from models.family import Config, is_smaller
from models.features import CONVENTION, VGG16, LayerName, load_vgg16, smallest_px
from models.objective import Batch, GeneratorStep, Objective, Terms


class StyleConfig(Config):
    """Weights of the terms and the VGG16 layers they look at.

    The weights suit activations of the original release's scale, as `load_vgg16` has them; those of
    torchvision's own training are hundreds of times smaller.
    """

    content: float = Field(1.0, ge=0)
    style: float = Field(5.0, ge=0)
    total_variation: float = Field(3e4, ge=0)
    content_layer: LayerName = "relu2_2"
    style_layers: tuple[LayerName, ...] = Field(
        ("relu1_2", "relu2_2", "relu3_3", "relu4_3"), min_length=1
    )

    @property
    def smallest_px(self) -> int:
        """Side of the smallest crop that reaches all layers."""
        return smallest_px((self.content_layer, *self.style_layers))


class PerceptualTerms(nn.Module):
    """The terms shared by training and by direct optimisation, for one style image."""

    def __init__(self, config: StyleConfig, style: Tensor, features: VGG16) -> None:
        super().__init__()
        self.config = config
        self.features = features
        with torch.no_grad():
            activations = features(style)
        for layer in config.style_layers:
            self.register_buffer(f"gram_{layer}", losses.gram_matrix(activations[layer]))

    @classmethod
    def load(cls, config: StyleConfig, style: Tensor, features: Path | None) -> PerceptualTerms:
        """`style` is (1, 3, H, W) in [-1, 1]; `features` as in `load_vgg16`."""
        layers = {config.content_layer, *config.style_layers}
        return cls(config, style, load_vgg16(sorted(layers), features))

    @property
    def weights(self) -> dict[str, float]:
        """Factor of each term."""
        return {
            name: getattr(self.config, name) for name in ("content", "style", "total_variation")
        }

    @torch.no_grad()
    def target(self, content: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> the activations that an answer is to reconstruct."""
        layer = self.config.content_layer
        activations: dict[str, Tensor] = self.features(content, (layer,))
        return activations[layer]

    def forward(self, answer: Tensor, target: Tensor) -> Terms:
        """(B, 3, H, W) in [-1, 1] and the photos' `target` -> unweighted named terms."""
        seen = self.features(answer)
        content_term = losses.feature_reconstruction(seen[self.config.content_layer], target)
        with torch.autocast(answer.device.type, enabled=False):  # a sum over H*W in bf16 is noise
            styles = [
                losses.style_reconstruction(
                    losses.gram_matrix(seen[layer].float()), self.get_buffer(f"gram_{layer}")
                )
                for layer in self.config.style_layers
            ]
        return {
            "content": content_term,
            "style": torch.stack(styles).sum(),
            "total_variation": losses.total_variation(answer),
        }


class StyleObjective(Objective):
    """Batches hold "content", (B, 3, H, W) in [-1, 1]."""

    config_type = StyleConfig
    data_kinds = ("content",)

    def __init__(self, generator: TransformerConfig, terms: PerceptualTerms) -> None:
        super().__init__()
        self.config = generator
        self.generators["stylize"] = build_generator(generator)
        self.terms = terms
        self.weights = terms.weights
        config = terms.config
        self.conventions = {
            "features": CONVENTION
            | {"content_layer": config.content_layer, "style_layers": list(config.style_layers)}
        }

    @classmethod
    def build(
        cls, generator: Config, config: Config, features: Path | None, style: Tensor | None
    ) -> StyleObjective:
        if style is None:
            raise ValueError("the style family needs a style image")
        terms = PerceptualTerms.load(cast(StyleConfig, config), style, features)
        return cls(cast(TransformerConfig, generator), terms)

    def adopt(self, key: str, config: Config, weights: Mapping[str, Tensor]) -> bool:
        """Take over a generator with fewer blocks, so that this one begins as that one ended.

        The further blocks add nothing yet: the scale of their last normalisation is 0.
        """
        if not is_smaller(config, self.config, "blocks"):
            return False
        generator = cast(TransformerNet, self.generators[key])
        generator.load_state_dict(weights, strict=False)
        for block in generator.blocks[cast(TransformerConfig, config).blocks :]:
            nn.init.zeros_(cast(Tensor, cast(ResidualBlock, block).body[-1].weight))
        return True

    def generator_step(self, batch: Batch) -> GeneratorStep:
        content = batch["content"]
        # Judged by what is served: a style's contrast that lies beyond white is lost there.
        answer = as_displayed(self.generators["stylize"](content))
        return GeneratorStep(self.terms(answer, self.terms.target(content)), {})

    def preview(self, generators: Mapping[str, nn.Module], batch: Batch) -> list[Tensor]:
        return [batch["content"], generators["stylize"](batch["content"])]
