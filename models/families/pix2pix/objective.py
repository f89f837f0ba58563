"""Conditional GAN + L1 on pairs (Isola et al. 2017, equation 4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn

from models import lab, losses
from models.blocks import PatchGAN, initialise_gan
from models.families.pix2pix.networks import UNetConfig, build_generator
from models.family import Config
from models.objective import Batch, GeneratorStep, Objective, Terms
from models.projected import DiscriminatorConfig, Projection


class Pix2PixConfig(DiscriminatorConfig):
    """Weights of the terms, and the discriminators.

    `adversarial` 0 gives the L1 baseline of the paper's table 1, `l1` 0 the GAN alone.
    """

    adversarial: float = Field(1.0, ge=0)
    l1: float = Field(100.0, ge=0)


class Pix2PixObjective(Objective):
    """Batches hold "a" (condition) and "b" (target), (B, C, H, W) in [-1, 1].

    Of colours, "a" is lightness and "b" chroma, as `models.lab` scales them.
    """

    config_type = Pix2PixConfig
    data_kinds = ("paired", "colours")
    projection: Projection | None

    def __init__(
        self, generator: UNetConfig, config: Pix2PixConfig, features: Path | None = None
    ) -> None:
        super().__init__()
        self.weights = {name: getattr(config, name) for name in ("adversarial", "projected", "l1")}
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
        self.projection = None
        if config.projected:
            self.projection = Projection(config, features)
            self.conventions = {"features": self.projection.convention}
            self.discriminators["projected"] = self.projection.discriminator()

    @classmethod
    def build(
        cls, generator: Config, config: Config, features: Path | None, style: Tensor | None
    ) -> Pix2PixObjective:
        return cls(cast(UNetConfig, generator), cast(Pix2PixConfig, config), features)

    def generator_step(self, batch: Batch) -> GeneratorStep:
        fake = self.generators["AtoB"](batch["a"])
        terms = {"l1": losses.mean_absolute_error(fake, batch["b"])}
        if "pair" in self.discriminators:
            logits = self.discriminators["pair"](torch.cat((batch["a"], fake), dim=1))
            terms["adversarial"] = losses.vanilla_generator(logits)
        if self.projection:
            terms["projected"] = self.projection.generator_term(
                self.discriminators["projected"], picture(batch["a"], fake)
            )
        return GeneratorStep(terms, {"b": fake.detach()})

    def discriminator_step(self, batch: Batch, fakes: Mapping[str, Tensor]) -> Terms:
        a, b, fake = batch["a"], batch["b"], fakes["b"]
        terms: Terms = {}
        if "pair" in self.discriminators:
            discriminator = self.discriminators["pair"]
            terms["pair"] = losses.vanilla_discriminator(
                discriminator(torch.cat((a, b), dim=1)), discriminator(torch.cat((a, fake), dim=1))
            )
        if self.projection:
            terms["projected"] = self.projection.discriminator_term(
                self.discriminators["projected"], picture(a, b), picture(a, fake)
            )
        return terms

    def preview(self, generators: Mapping[str, nn.Module], batch: Batch) -> list[Tensor]:
        a, b = batch["a"], batch["b"]
        fake = generators["AtoB"](a)
        if b.shape[1] == 2:
            return [picture(a, chroma) for chroma in (torch.zeros_like(b), fake, b)]
        return [a, fake, b]


def picture(condition: Tensor, answer: Tensor) -> Tensor:
    """Return the picture, (B, 3, H, W), that an answer means: chroma is joined with lightness."""
    return lab.join(condition, answer) if answer.shape[1] == 2 else answer
