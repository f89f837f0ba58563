"""Image translation learned from aligned pairs: pix2pix (Isola et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.families.pix2pix.networks import UNetConfig, build_generator, size_rule
from models.family import Family, Task

if TYPE_CHECKING:
    from models.objective import Objective


def _load_objective() -> type[Objective]:
    from models.families.pix2pix.objective import Pix2PixObjective

    return Pix2PixObjective


FAMILY = Family(
    id="pix2pix",
    task=Task.TRANSLATE,
    generator_config=UNetConfig,
    build_generator=build_generator,
    size_rule=size_rule,
    scale=lambda _config: 1,
    load_objective=_load_objective,
)
