"""What the training routes take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from app.schemas.datasets import EXAMPLE_DATASET
from app.schemas.models import ModelName
from app.schemas.numbers import NUMBER
from models.checkpoint import NAME_PATTERN

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
EXAMPLE_KEY, EXAMPLE_JOB = "example", "cb85bc8044fca55f1e05cf8b172938b6"  # that it gives
JobId = Annotated[str, Field(examples=[EXAMPLE_JOB])]

# Not the anonymizers, which need aligned faces: no dataset has them.
Trainable = Literal["cyclegan", "pix2pix", "srgan", "style"]


class Hyperparameters(BaseModel):
    """Tables of a recipe, each checked by the family's own config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    generator: dict[str, Any] = Field({}, description="The network's.")
    objective: dict[str, Any] = Field({}, description="Weights and settings of the losses.")
    training: dict[str, Any] = Field({}, description="The loop's: batch, learning_rate, ...")
    data: dict[str, Any] = Field({}, description="Sizes of crops: load_px, crop_px, flip, ...")


class TrainingRequest(BaseModel):
    """One training to be done."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "family": "srgan",
                    "dataset": EXAMPLE_DATASET,
                    "name": "my-upscaler",
                    "steps": 300,
                    "auto_promote": True,
                }
            ],
            "not": {  # both
                "properties": {"steps": {"type": "integer"}, "minutes": {"type": "number"}},
                "required": ["steps", "minutes"],
            },
        },
    )

    family: Trainable
    dataset: str = Field(max_length=128, description="Id of an uploaded dataset.")
    name: str = Field(pattern=NAME_PATTERN, description="What the model will be called.")
    base: ModelName | None = Field(
        None, description="A model whose weights and hyperparameters the training starts from."
    )
    direction: Literal["AtoB", "BtoA"] = Field("AtoB", description="Of a translation.")
    steps: Annotated[int, Field(ge=1, le=10_000_000), NUMBER] | None = Field(
        None, description="By default the family's own."
    )
    minutes: Annotated[float, Field(gt=0, le=60 * 24 * 30), NUMBER] | None = Field(
        None,
        description="Instead of steps: their number is decided once, from the speed of the first.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**23), NUMBER] = 0
    hyperparameters: Hyperparameters = Hyperparameters()
    auto_promote: StrictBool = Field(
        False, description="Serve the new version if it is no worse than the one that serves."
    )

    @model_validator(mode="after")
    def _one_budget(self) -> TrainingRequest:
        if self.steps is not None and self.minutes is not None:
            raise ValueError("give steps or minutes, not both")
        return self


class JobError(BaseModel):
    """Why a job failed; `code` is stable."""

    code: str
    detail: str


class JobSummary(BaseModel):
    """A job in the list."""

    id: str
    state: JobState
    position: int | None = Field(None, description="In the queue, from 1.")
    family: str
    name: str
    dataset: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: JobError | None = None


class JobProgress(BaseModel):
    """How far the training is."""

    step: int
    steps: int
    steps_per_s: float
    seconds_left: float
    figures: dict[str, float] = Field(description="Unweighted losses and other figures, by name.")


class JobDetails(JobSummary):
    """A job with all that is known of it."""

    request: TrainingRequest
    worker: str | None = Field(None, description="The worker that has it, or had it last.")
    progress: JobProgress | None = None
    verdict: dict[str, Any] | None = Field(
        None, description="The comparison with the version that served."
    )
    published: str | None = Field(None, description="name@version")
    promoted: bool = False


class JobSamples(BaseModel):
    """The steps of which there is a sample grid."""

    steps: list[int]
