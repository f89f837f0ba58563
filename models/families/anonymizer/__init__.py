"""Faces made into other faces: by a passcode (Gu et al. 2020), or from their surroundings alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.families.anonymizer.networks import build_generator, size_rule
from models.families.anonymizer.painter import FaceConfig
from models.family import Family, Task

if TYPE_CHECKING:
    from models.objective import Objective


def _load_objective() -> type[Objective]:
    from models.families.anonymizer.objective import AnonymizerObjective

    return AnonymizerObjective


FAMILY = Family(
    id="anonymizer",
    task=Task.ANONYMIZE,
    generator_config=FaceConfig,
    build_generator=build_generator,
    size_rule=size_rule,
    scale=lambda _config: 1,
    load_objective=_load_objective,
)
