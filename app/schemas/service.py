"""What the routes about the service give."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Readiness(BaseModel):
    """A service that has loaded its models; where keys are asked for, `admin` sees the rest."""

    status: Literal["ready"]
    device: str | None = Field(None, description="What the models run on, as torch names it.")
    models: list[str] | None = Field(None, description="Those that serve, as name@version.")
    failed: dict[str, str] | None = Field(
        None, description="Models left out, by name, and the kind of error."
    )


class ServiceLimits(BaseModel):
    """What the service takes and gives at most, each by its setting's name.

    What may be had in a minute is the asking key's own; null where anything is not limited.
    """

    max_upload_bytes: int = Field(description="A request's body, and each picture of a dataset.")
    max_pixels: int = Field(description="An uploaded picture's, by its header.")
    max_side: int = Field(description="An uploaded picture's, in pixels.")
    max_frames: int = Field(1, description="Of an animation: the first; others are left out.")
    max_output_pixels: int = Field(description="An answer's.")
    max_memory_bytes: int = Field(description="Held by all requests under way together.")
    queue_limit: int = Field(description="Pictures waiting for the device.")
    deadline_s: float | None = Field(
        description="From an upload's last byte to what the network makes of it."
    )
    upload_timeout_s: float | None = Field(description="For an upload to arrive.")
    max_dataset_bytes: int = Field(description="An uploaded zip's.")
    max_dataset_unpacked_bytes: int = Field(description="All its pictures'.")
    max_dataset_files: int = Field(description="In an uploaded zip, of any kind.")
    requests_per_minute: int | None = Field(description="Of a key, or of a client's address.")
    compute_s_per_minute: int | None = Field(
        description="The same, of the device's time: a picture's pixels times the model's pace."
    )
    dataset_timeout_s: float | None = Field(description="For a zip to arrive.")
