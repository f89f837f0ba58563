"""Super-resolution: SRResNet and SRGAN (Ledig et al. 2017)."""

from __future__ import annotations

from models.families.srgan.config import SRConfig, scale, size_rule
from models.families.srgan.networks import build_generator
from models.family import Family, Task

FAMILY = Family(
    id="srgan",
    task=Task.UPSCALE,
    generator_config=SRConfig,
    build_generator=build_generator,
    size_rule=size_rule,
    objective="SRGANObjective",
    scale=scale,
)
