"""Conditional GAN + L1 on pairs (Isola et al. 2017, equation 4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn

from models import lab, losses
from models.blocks import Norm, PatchGAN, initialise_gan
from models.families.pix2pix.networks import UNetConfig, build_generator
from models.family import Config
from models.objective import Batch, GeneratorStep, Objective, Terms


class Pix2PixConfig(Config):
    """Weights of the terms and the discriminator; `patch_layers` as in `PatchGAN`.

    `adversarial` 0 gives the L1 baseline of the paper's table 1, `l1` 0 the GAN alone.
    """

    adversarial: float = Field(1.0, ge=0)
    l1: float = Field(100.0, ge=0)
    patch_layers: int = Field(3, ge=0, le=5)
    patch_channels: int = Field(64, ge=1)
    patch_norm: Norm = "instance"


class Pix2PixObjective(Objective):
    """Batches hold "a" (condition) and "b" (target), (B, C, H, W) in [-1, 1].

    Of colours, "a" is lightness and "b" chroma, as `models.lab` scales them.
    """

    config_type = Pix2PixConfig
    data_kinds = ("paired", "colours")

    def __init__(self, generator: UNetConfig, config: Pix2PixConfig) -> None:
        super().__init__()
        self.weights = {"adversarial": config.adversarial, "l1": config.l1}
        self.generators["AtoB"] = build_generator(generator)
        if config.adversarial:
            discriminator = PatchGAN(
                generator.channels_in + generator.channels_out,
                config.patch_channels,
                config.patch_layers,
                config.patch_norm,
            )
            initialise_gan(discriminator)
            self.discriminators["pair"] = discriminator

    @classmethod
    def build(
        cls, generator: Config, config: Config, features: Path | None, style: Tensor | None
    ) -> Pix2PixObjective:
        return cls(cast(UNetConfig, generator), cast(Pix2PixConfig, config))

    def generator_step(self, batch: Batch) -> GeneratorStep:
        fake = self.generators["AtoB"](batch["a"])
        terms = {"l1": losses.mean_absolute_error(fake, batch["b"])}
        if self.discriminators:
            logits = self.discriminators["pair"](torch.cat((batch["a"], fake), dim=1))
            terms["adversarial"] = losses.vanilla_generator(logits)
        return GeneratorStep(terms, {"b": fake.detach()})

    def discriminator_step(self, batch: Batch, fakes: Mapping[str, Tensor]) -> Terms:
        discriminator = self.discriminators["pair"]
        real = discriminator(torch.cat((batch["a"], batch["b"]), dim=1))
        fake = discriminator(torch.cat((batch["a"], fakes["b"]), dim=1))
        return {"pair": losses.vanilla_discriminator(real, fake)}

    def preview(self, generators: Mapping[str, nn.Module], batch: Batch) -> list[Tensor]:
        a, b = batch["a"], batch["b"]
        fake = generators["AtoB"](a)
        if b.shape[1] == 2:
            return [lab.join(a, chroma) for chroma in (torch.zeros_like(b), fake, b)]
        return [a, fake, b]
