"""Image translation learned from unaligned sets: CycleGAN (Zhu et al. 2017)."""

from __future__ import annotations

from models.families.cyclegan.networks import ResNetConfig, build_generator, size_rule
from models.family import Family, Task

FAMILY = Family(
    id="cyclegan",
    task=Task.TRANSLATE,
    generator_config=ResNetConfig,
    build_generator=build_generator,
    size_rule=size_rule,
    objective="CycleGANObjective",
)
