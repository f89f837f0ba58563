"""What `/v1/images/edits` takes and gives: OpenAI's names and shapes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, field_validator

from app.schemas.models import ModelName
from app.schemas.pictures import PictureParams
from models.images import Format

_Ignored = Annotated[
    str | None, Field(max_length=1000, description="Taken from OpenAI's clients; changes nothing.")
]


class EditParams(PictureParams):
    """The form's fields beside the picture; what none of our models can do is refused."""

    file_fields: ClassVar = ("image", "image[]")
    max_field_bytes: ClassVar = 128 * 1024  # the longest prompt

    model: ModelName = Field(examples=["starry-night"], description="Any model; see /v1/models.")
    prompt: str | None = Field(
        None, max_length=32_000, description="Ignored: a model does the one thing it was made for."
    )
    n: int = Field(1, ge=1, le=1, description="A model has one answer to a picture.")
    size: str | None = Field(
        None,
        pattern="^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$",
        description="WIDTHxHEIGHT: an answer larger than that is reduced to fit into it, in its "
        "own proportions. By default, and with auto, it has the size that the model gives it.",
    )
    response_format: Literal["b64_json"] | None = Field(None, description="There are no URLs.")
    output_format: Format = Field("png", description="Of the picture in the answer.")
    output_compression: int | None = Field(
        None, ge=0, le=100, description="The quality, for jpeg, webp and avif."
    )
    stream: Literal["false"] | None = Field(None, description="The answer comes in one piece.")
    background: _Ignored = None
    complexity: _Ignored = None
    input_fidelity: _Ignored = None
    moderation: _Ignored = None
    partial_images: _Ignored = None
    quality: _Ignored = None
    safety_identifier: _Ignored = None
    user: _Ignored = None

    @field_validator("response_format", mode="before")
    @classmethod
    def _no_urls(cls, value: Any) -> Any:
        if value == "url":
            raise ValueError("pictures are not kept to be fetched; ask for b64_json")
        return value

    @property
    def encoding_quality(self) -> int | None:
        """1..100, None for the format's default."""
        return None if self.output_compression is None else max(1, self.output_compression)

    @property
    def box(self) -> tuple[int, int] | None:
        """What the answer must fit into, (height, width), if `size` says it."""
        if self.size in (None, "auto"):
            return None
        width, height = map(int, str(self.size).split("x"))
        return height, width


class EditedImage(BaseModel):
    """One picture."""

    b64_json: str = Field(description="base64 of the encoded picture")


class EditAnswer(BaseModel):
    """OpenAI's ImagesResponse."""

    created: int = Field(description="Unix time, in seconds.")
    data: list[EditedImage] = Field(min_length=1, max_length=1)
    output_format: Format
    size: str = Field(description="WIDTHxHEIGHT")
