"""Super-resolution: SRResNet and SRGAN (Ledig et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.families.srgan.networks import SRConfig, build_generator, scale, size_rule
from models.family import Family, Task

if TYPE_CHECKING:
    from models.objective import Objective


def _load_objective() -> type[Objective]:
    from models.families.srgan.objective import SRGANObjective

    return SRGANObjective


FAMILY = Family(
    id="srgan",
    task=Task.UPSCALE,
    generator_config=SRConfig,
    build_generator=build_generator,
    size_rule=size_rule,
    scale=scale,
    load_objective=_load_objective,
)
