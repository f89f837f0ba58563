"""Style transfer by perceptual losses (Johnson et al. 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.families.style.networks import TransformerConfig, build_generator, size_rule
from models.family import Family, Task

if TYPE_CHECKING:
    from models.objective import Objective


def _load_objective() -> type[Objective]:
    from models.families.style.objective import StyleObjective

    return StyleObjective


FAMILY = Family(
    id="style",
    task=Task.STYLIZE,
    generator_config=TransformerConfig,
    build_generator=build_generator,
    size_rule=size_rule,
    scale=lambda _config: 1,
    load_objective=_load_objective,
)
