"""Image translation learned from unaligned sets: CycleGAN (Zhu et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.families.cyclegan.networks import ResNetConfig, build_generator, size_rule
from models.family import Family, Task

if TYPE_CHECKING:
    from models.objective import Objective


def _load_objective() -> type[Objective]:
    from models.families.cyclegan.objective import CycleGANObjective

    return CycleGANObjective


FAMILY = Family(
    id="cyclegan",
    task=Task.TRANSLATE,
    generator_config=ResNetConfig,
    build_generator=build_generator,
    size_rule=size_rule,
    scale=lambda _config: 1,
    load_objective=_load_objective,
)
