"""Style transfer by perceptual losses (Johnson et al. 2016)."""

from __future__ import annotations

from models.families.style.networks import TransformerConfig, build_generator, size_rule
from models.family import Family, Task

FAMILY = Family(
    id="style",
    task=Task.STYLIZE,
    generator_config=TransformerConfig,
    build_generator=build_generator,
    size_rule=size_rule,
    objective="StyleObjective",
)
