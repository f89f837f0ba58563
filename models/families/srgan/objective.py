"""SRResNet's regression, and SRGAN's perceptual loss on top (Ledig et al. 2017, equation 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

from pydantic import Field
from torch import Tensor, nn

from models import losses
from models.blocks import bilinear
from models.families.srgan.config import SRConfig, scale
from models.families.srgan.networks import SRDiscriminator, build_generator
from models.family import Config
from models.features import CONVENTION, VGG16, LayerName, load_vgg16, smallest_px
from models.objective import Batch, GeneratorStep, Objective, Terms


class SRGANConfig(Config):
    """Stage and weights of the terms.

    "regression" minimises the pixel error alone, which blurs; "adversarial" starts from its result
    and adds a discriminator and the distance of VGG16 features.
    """

    stage: Literal["regression", "adversarial"] = "regression"
    pixel: Literal["mae", "mse"] = "mae"
    pixel_weight: float = Field(1.0, ge=0)
    adversarial: float = Field(1e-3, ge=0)
    perceptual: float = Field(6e-3, ge=0)
    perceptual_layer: LayerName = "conv5_3"
    discriminator_channels: int = Field(64, ge=1, le=1024)
    discriminator_dense: int = Field(1024, ge=1, le=65_536)

    @property
    def smallest_px(self) -> int:
        """Side of the smallest crop that the losses can judge."""
        if self.stage == "regression":
            return 1
        return max(smallest_px((self.perceptual_layer,)), SRDiscriminator.smallest_px)


class SRGANObjective(Objective):
    """Batches hold "low" (B, 3, H, W) and "high" (B, 3, scale * H, scale * W) in [-1, 1]."""

    config_type = SRGANConfig
    data_kinds = ("highres",)
    features: VGG16 | None

    def __init__(self, generator: SRConfig, config: SRGANConfig, features: Path | None) -> None:
        super().__init__()
        self.scale = scale(generator)
        self.layer = config.perceptual_layer
        self.pixel_error = (
            losses.mean_absolute_error if config.pixel == "mae" else losses.mean_squared_error
        )
        self.generators["upscale"] = build_generator(generator)
        self.weights = {"pixel": config.pixel_weight}
        self.features = None
        if config.stage == "adversarial":
            self.weights |= {"adversarial": config.adversarial, "perceptual": config.perceptual}
            self.discriminators["photo"] = SRDiscriminator(
                config.discriminator_channels, dense=config.discriminator_dense
            )
            self.features = load_vgg16((self.layer,), features)
            self.conventions = {"features": CONVENTION | {"layer": self.layer}}

    @classmethod
    def build(
        cls, generator: Config, config: Config, features: Path | None, style: Tensor | None
    ) -> SRGANObjective:
        return cls(cast(SRConfig, generator), cast(SRGANConfig, config), features)

    def generator_step(self, batch: Batch) -> GeneratorStep:
        answer, high = self.generators["upscale"](batch["low"]), batch["high"]
        terms = {"pixel": self.pixel_error(answer, high)}
        if self.features is not None:
            logits = self.discriminators["photo"](answer)
            terms["adversarial"] = losses.vanilla_generator(logits)
            terms["perceptual"] = losses.feature_reconstruction(
                self.features(answer)[self.layer], self.features(high)[self.layer]
            )
        return GeneratorStep(terms, {"high": answer.detach()})

    def discriminator_step(self, batch: Batch, fakes: Mapping[str, Tensor]) -> Terms:
        discriminator = self.discriminators["photo"]
        real, fake = discriminator(batch["high"]), discriminator(fakes["high"])
        return {"photo": losses.vanilla_discriminator(real, fake)}

    def preview(self, generators: Mapping[str, nn.Module], batch: Batch) -> list[Tensor]:
        low = batch["low"]
        return [bilinear(low, self.scale), generators["upscale"](low), batch["high"]]
