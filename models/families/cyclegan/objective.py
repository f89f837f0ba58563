"""Two GANs and cycle consistency on unpaired sets (Zhu et al. 2017, equation 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from models import losses
from models.blocks import PatchGAN, initialise_gan
from models.families.cyclegan.networks import ResNetConfig, build_generator
from models.families.cyclegan.widening import widen
from models.family import Config, is_smaller
from models.objective import Batch, GeneratorStep, Objective, Terms
from models.projected import DiscriminatorConfig, Projection


class CycleGANConfig(DiscriminatorConfig):
    """Weights of the terms, the discriminators and the pool of earlier fakes.

    Attributes:
        frozen: a generator that stays as the recipe's `initial` has it, and costs no training. What
            it makes of real pictures is then a fixed set of inputs whose targets are those pictures
            (back-translation, Sennrich et al. 2016), in which no message to the other can hide.
    """

    adversarial: float = Field(1.0, ge=0)
    cycle: float = Field(10.0, ge=0)
    identity: float = Field(5.0, ge=0)
    pool: int = Field(50, ge=0, le=10_000)
    frozen: Literal["AtoB", "BtoA"] | None = None


class ImagePool(nn.Module):
    """A history of generated pictures that steadies the discriminator (Shrivastava et al. 2017).

    Until full, pictures pass through and are kept; then each is swapped with probability one half
    for an older one. The pool is a buffer, so checkpoints carry it.
    """

    pictures: Tensor
    filled: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("pictures", torch.empty(0))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any
    ) -> None:
        kept = state_dict[prefix + "pictures"]  # grown since built
        self.pictures = torch.empty_like(kept, device=self.filled.device)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def exchange(self, fresh: Tensor) -> Tensor:
        """(B, C, H, W) detached pictures -> as many, some of them from earlier steps."""
        if not self.size:
            return fresh
        if self.pictures.shape[1:] != fresh.shape[1:]:  # the first ones, or resumed with others
            self.pictures = fresh.new_zeros(self.size, *fresh.shape[1:])
            self.filled.zero_()
        answer = fresh.clone()
        for i in range(len(fresh)):
            filled = int(self.filled)
            if filled < self.size:
                self.pictures[filled] = fresh[i]
                self.filled += 1
            elif torch.rand(()) < 0.5:
                j = int(torch.randint(self.size, ()))
                answer[i] = self.pictures[j]
                self.pictures[j] = fresh[i]
        return answer


class CycleGANObjective(Objective):
    """Batches hold "a" and "b", unrelated (B, 3, H, W) in [-1, 1]."""

    config_type = CycleGANConfig
    data_kinds = ("unpaired",)
    projection: Projection | None

    def __init__(
        self, generator: ResNetConfig, config: CycleGANConfig, features: Path | None
    ) -> None:
        super().__init__()
        self.config = generator
        self.projection = None
        if config.projected:
            self.projection = Projection(config, features)
            self.conventions = {"features": self.projection.convention}
        self.weights = {
            name + side: getattr(config, name)
            for name in ("adversarial", "projected", "cycle", "identity")
            for side in ("_a", "_b")
        }
        self.frozen = config.frozen
        for direction, domain in (("AtoB", "b"), ("BtoA", "a")):
            self.generators[direction] = build_generator(generator)
            if direction == self.frozen:
                self.generators[direction].requires_grad_(False)
                continue
            discriminator = PatchGAN(
                3, config.patch_channels, config.patch_layers, config.patch_norm
            )
            initialise_gan(discriminator)
            self.discriminators[domain] = discriminator
            if self.projection:
                self.discriminators[f"{domain}_projected"] = self.projection.discriminator()
            self.memory[domain] = ImagePool(config.pool)

    @classmethod
    def check(
        cls, generator: Config, config: Config, data: Config, initial: Collection[str]
    ) -> None:
        frozen = cast(CycleGANConfig, config).frozen
        if frozen and frozen not in initial:
            raise ValueError(f"objective.frozen: [initial] names no model for {frozen}")

    @classmethod
    def build(
        cls, generator: Config, config: Config, features: Path | None, style: Tensor | None
    ) -> CycleGANObjective:
        return cls(cast(ResNetConfig, generator), cast(CycleGANConfig, config), features)

    def adopt(self, key: str, config: Config, weights: Mapping[str, Tensor]) -> bool:
        """Take over a narrower generator, so that this one begins as that one ended."""
        if not is_smaller(config, self.config, "base_channels"):
            return False
        widen(self.generators[key], weights)
        return True

    def train(self, mode: bool = True) -> Self:
        """Switch as every module does, but for what in the frozen generator answers otherwise then.

        It is as it is served: without dropout, and with the statistics that it has.
        """
        super().train(mode)
        if self.frozen:
            for layer in self.generators[self.frozen].modules():
                if isinstance(layer, nn.Dropout | nn.BatchNorm2d):
                    layer.eval()
        return self

    def generator_step(self, batch: Batch) -> GeneratorStep:
        a, b = batch["a"], batch["b"]
        to_b, to_a = self.generators["AtoB"], self.generators["BtoA"]
        terms: Terms = {}
        fakes: dict[str, Tensor] = {}
        for domain, real, other, to_domain in (("b", b, a, to_b), ("a", a, b, to_a)):
            if domain in self.discriminators and self.weights["identity_a"]:
                if self.config.norm == "batch":  # which would mix both domains' statistics
                    fakes[domain], same = to_domain(other), to_domain(real)
                else:  # one pass for both is quicker
                    fakes[domain], same = to_domain(torch.cat((other, real))).chunk(2)
                terms[f"identity_{domain}"] = losses.identity_mapping(real, same)
            else:
                fakes[domain] = to_domain(other)
        if self.weights["cycle_a"]:
            terms["cycle_a"] = losses.cycle_consistency(a, to_a(fakes["b"]))
            terms["cycle_b"] = losses.cycle_consistency(b, to_b(fakes["a"]))
        fakes = {domain: fakes[domain] for domain in "ab" if domain in self.discriminators}
        for domain, fake in fakes.items():
            logits = self.discriminators[domain](fake)
            terms[f"adversarial_{domain}"] = losses.least_squares_generator(logits)
            if self.projection:
                terms[f"projected_{domain}"] = self.projection.generator_term(
                    self.discriminators[f"{domain}_projected"], fake
                )
        return GeneratorStep(terms, {domain: fake.detach() for domain, fake in fakes.items()})

    def discriminator_step(self, batch: Batch, fakes: Mapping[str, Tensor]) -> Terms:
        terms = {}
        for domain, fake in fakes.items():
            discriminator = self.discriminators[domain]
            shown = cast(ImagePool, self.memory[domain]).exchange(fake)
            terms[domain] = losses.least_squares_discriminator(
                discriminator(batch[domain]), discriminator(shown)
            )
            if self.projection:
                terms[f"{domain}_projected"] = self.projection.discriminator_term(
                    self.discriminators[f"{domain}_projected"], batch[domain], shown
                )
        return terms

    def preview(self, generators: Mapping[str, nn.Module], batch: Batch) -> list[Tensor]:
        to_b, to_a = generators["AtoB"], generators["BtoA"]
        fake_b, fake_a = to_b(batch["a"]), to_a(batch["b"])
        return [batch["a"], fake_b, to_a(fake_b), batch["b"], fake_a, to_b(fake_a)]

    def figures(self, batch: Batch, fakes: Mapping[str, Tensor]) -> dict[str, float]:
        """Diversity of the answers over that of real pictures: near 0 when a mode collapsed."""
        return {
            f"diversity_{domain}": diversity(fake) / max(diversity(batch[domain]), 1e-8)
            for domain, fake in fakes.items()
            if len(fake) > 1
        }


def diversity(pictures: Tensor) -> float:
    """Mean absolute difference between every two of (B, C, H, W) pictures, B at least 2."""
    flat = pictures.flatten(1).float()
    distances = torch.nn.functional.pdist(flat, p=1) / flat.shape[1]
    return float(distances.mean())
