"""What the dataset routes take and give."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from app.datasets.dataset import Dataset
from app.datasets.layouts import Kind
from models.checkpoint import NAME_PATTERN

EXAMPLE_DATASET = "533e455e5d9051e03aa6fca92dbe1990"
"""What the example's upload becomes, without keys."""
DatasetId = Annotated[str, Field(examples=[EXAMPLE_DATASET])]


class DatasetParams(BaseModel):
    """The form's fields beside the file; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME_PATTERN, description="What people call it.")
    kind: Kind = Field(description="How the pictures belong together.")


class DatasetSummary(BaseModel):
    """A stored dataset."""

    id: str = Field(description="Of its content: the same pictures have the same id.")
    name: str
    kind: Kind
    created_at: str = Field(description="ISO 8601, UTC.")
    counts: dict[str, int] = Field(description="Pictures in each part.")
    bytes: int = Field(description="Of all pictures.")
    warnings: list[str] = Field(description="What is usable and yet worth a look.")


class DatasetDetails(DatasetSummary):
    """The same with what was found in the upload."""

    sizes: dict[str, int] = Field(
        description="min, median and max of the pictures' shorter sides, in pixels."
    )
    skipped: dict[str, str] = Field(description="Files of the upload that are not in it, and why.")
    contact_sheet: str = Field(description="Where to get a picture of the pictures.")

    @classmethod
    def of(cls, dataset: Dataset, url: str) -> Self:
        """Describe a dataset that is found at `url`."""
        names = cls.model_fields.keys() - {"contact_sheet"}
        facts = {name: getattr(dataset, name) for name in names}
        return cls(**facts, contact_sheet=f"{url}/contact.png")


def summary_of(dataset: Dataset) -> DatasetSummary:
    """Describe a dataset in a list."""
    return DatasetSummary(**{name: getattr(dataset, name) for name in DatasetSummary.model_fields})


def upload_body() -> dict[str, Any]:
    """Return OpenAPI's description of the form that the route reads itself."""
    schema = DatasetParams.model_json_schema()
    file = {"type": "string", "format": "binary", "description": "a zip of pictures"}
    form = {
        "type": "object",
        "properties": {"file": file} | schema["properties"],
        "required": ["file", *schema["required"]],
        "additionalProperties": False,
    }
    example = {"file": "/docs/examples/photos.zip", "name": "photos", "kind": "highres"}
    described = {
        "schema": form,
        "example": example,
        "encoding": {"file": {"contentType": "application/zip"}},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": described}}}
