"""Image translation learned from aligned pairs: pix2pix (Isola et al. 2017)."""

from __future__ import annotations

from models.families.pix2pix.networks import UNetConfig, build_generator, size_rule
from models.family import Family, Task

FAMILY = Family(
    id="pix2pix",
    task=Task.TRANSLATE,
    generator_config=UNetConfig,
    build_generator=build_generator,
    size_rule=size_rule,
    objective="Pix2PixObjective",
)
