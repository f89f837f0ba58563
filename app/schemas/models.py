"""What the routes about models take and give."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from app.schemas.numbers import NUMBER
from models.checkpoint import NAME_PATTERN
from models.registry import MAX_VERSION, VERSION_PATTERN

ModelName = Annotated[
    str,
    Field(
        pattern=NAME_PATTERN.removesuffix("$") + f"(@{VERSION_PATTERN})?$",
        description="name or name@version",
    ),
]


class ModelSummary(BaseModel):
    """A model that can be asked for."""

    name: str
    version: int
    task: str
    family: str
    scale: int
    channels_in: int = Field(description="1 for a generator that sees lightness alone.")
    sha256: str
    task_note: str | None = None
    licence: str | None = None


class ModelDetails(ModelSummary):
    """The same with the model card and where it runs."""

    device: str
    dtype: str
    backend: str
    parameters: int
    size_multiple_of: int
    size_minimum: int
    card: dict[str, Any]


class VersionSummary(BaseModel):
    """One version of a model, served or not."""

    version: int
    sha256: str
    promoted: bool = Field(description="What the name alone means, for every process.")
    serving: bool = Field(description="By this process.")
    lineage: dict[str, Any] = Field(
        description="What it was made from: job, dataset, base, code; its owner's key, if any."
    )
    metrics: list[dict[str, Any]]
    gate: dict[str, Any] | None = Field(
        description="How it compared with the version that served when it was made."
    )


class Promotion(BaseModel):
    """Which version is to serve."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"version": 1}]}
    )

    version: Annotated[int, Field(ge=1, le=MAX_VERSION), NUMBER]
    force: StrictBool = Field(False, description="Even if it did not pass the gate.")
