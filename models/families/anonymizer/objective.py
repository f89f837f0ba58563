"""What the face generators are trained by; the recipe's generator says which."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import cast

from torch import Tensor

from models.faces.embedding import load_embedding
from models.families.anonymizer.identity import IdentityObjective
from models.families.anonymizer.painter import FaceConfig
from models.families.anonymizer.surroundings import SurroundingsObjective
from models.families.anonymizer.terms import AnonymizerConfig
from models.families.anonymizer.toning import ToneObjective
from models.family import Config
from models.objective import Objective


class AnonymizerObjective(Objective):
    """Batches hold "face", (B, 3, 128, 128) in [-1, 1]; for "surroundings", its "landmarks" too."""

    config_type = AnonymizerConfig
    data_kinds = ("faces",)

    @classmethod
    def check(
        cls, generator: Config, config: Config, data: Config, initial: Collection[str]
    ) -> None:
        generator = cast(FaceConfig, generator)
        if generator.condition == "surroundings" and not generator.tone_channels:
            if not getattr(data, "landmarks", False):
                raise ValueError("data.landmarks: a face is painted from them, so it must be true")
        elif generator.condition not in initial:
            raise ValueError(
                f"initial: names no model for {generator.condition}, whose painter is not trained"
            )

    @classmethod
    def build(
        cls, generator: Config, config: Config, features: Path | None, style: Tensor | None
    ) -> Objective:
        """`features` are the weights of the face embedding, which a tone needs none of."""
        generator, config = cast(FaceConfig, generator), cast(AnonymizerConfig, config)
        if generator.condition == "identity":
            return IdentityObjective(generator, config, load_embedding(features))
        if generator.tone_channels:
            return ToneObjective(generator)
        return SurroundingsObjective(generator, config, load_embedding(features))
