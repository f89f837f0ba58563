"""What the two face generators are trained by; the recipe's generator says which."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from pydantic import Field
from torch import Tensor

from models.blocks import Norm
from models.families.anonymizer.networks import FaceConfig
from models.family import Config
from models.objective import Objective


class AnonymizerConfig(Config):
    """Weights of the terms and the discriminator.

    Attributes:
        restored: of the face that the inverse condition brings back ("identity" alone).
        changed: of the new face's likeness to the person, beyond `margin` ("identity" alone).
        different: of the likeness of two codes' faces to each other.
        kept: of the difference in light and pose: of pictures reduced to an eighth.
        around: of the difference outside the face, which a patch must join without a seam.
        margin: cosine of embeddings up to which two faces count as two people.
        patch_layers: as in `PatchGAN`; 4 judges the whole face.
    """

    adversarial: float = Field(1.0, ge=0)
    restored: float = Field(30.0, ge=0)
    changed: float = Field(3.0, ge=0)
    different: float = Field(2.0, ge=0)
    kept: float = Field(5.0, ge=0)
    around: float = Field(10.0, ge=0)
    margin: float = Field(0.0, ge=-1, lt=1)
    patch_layers: int = Field(4, ge=1, le=5)
    patch_channels: int = Field(32, ge=1)
    patch_norm: Norm = "instance"


class AnonymizerObjective(Objective):
    """Batches hold "face", (B, 3, 128, 128) in [-1, 1]; for "surroundings", its "landmarks" too."""

    config_type = AnonymizerConfig
    data_kind = "faces"

    @classmethod
    def build(
        cls, generator: Config, config: Config, features: Path | None, style: Tensor | None
    ) -> Objective:
        """`features` are the weights of the face embedding."""
        from models.embedding import load_embedding
        from models.families.anonymizer.identity import IdentityObjective
        from models.families.anonymizer.surroundings import SurroundingsObjective

        generator, config = cast(FaceConfig, generator), cast(AnonymizerConfig, config)
        kind = IdentityObjective if generator.condition == "identity" else SurroundingsObjective
        return kind(generator, config, load_embedding(features))
