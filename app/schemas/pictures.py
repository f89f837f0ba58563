"""What the routes that answer with a picture take and give."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SecretStr,
    field_validator,
)
from pydantic_core import from_json

from app.schemas.models import ModelName
from models.images import Format


class PictureParams(BaseModel):
    """The parameters beside an uploaded picture; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file_fields: ClassVar[tuple[str, ...]] = ("image",)
    max_field_bytes: ClassVar[int] = 64 * 1024  # 256 boxes of faces, as floats


class ImageParams(PictureParams):
    """What every image endpoint of our own takes."""

    format: Format | None = Field(
        None, description="Format of the answer; by default what Accept asks for, else the input's."
    )
    quality: int | None = Field(None, ge=1, le=100, description="For jpeg, webp and avif.")


class TranslateParams(ImageParams):
    """Picture of one domain to picture of another."""

    model: ModelName = Field(examples=["facades"])


class UpscaleParams(ImageParams):
    """Larger picture of the same content."""

    scale: int = Field(
        4,
        ge=2,
        le=4,
        description="2 and 3, where no network has that scale, are x4 and then an antialiased "
        "bicubic reduction.",
    )
    detail: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="0 (the default) is the regression network, nearest to the true pixels; 1 the "
        "adversarial one, sharpest; between them the weights are interpolated, in steps of 0.05.",
    )
    model: ModelName | None = Field(
        None, description="An upscaler by name, instead of the default."
    )


class StylizeParams(ImageParams):
    """The picture's content in the style of a painting."""

    style: ModelName = Field(examples=["starry-night"])
    strength: float = Field(
        1, ge=0, le=1, allow_inf_nan=False, description="Blends the answer (1) with the input (0)."
    )
    keep_colors: bool = Field(False, description="The input's colours, the style's brightness.")


_PASSCODE_LENGTH: dict[str, Any] = {"minLength": 1, "maxLength": 1024}  # checked once composed
Method = Literal["generate", "blur", "pixelate", "solid"]
FaceBox = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


class AnonymizeParams(ImageParams):
    """The picture with other faces."""

    method: Method = Field(
        "generate",
        description="generate makes another face. The others are there for comparison; blur and "
        "pixelate are weak: recognisers see through them.",
    )
    passcode: SecretStr | None = Field(
        None,
        json_schema_extra=_PASSCODE_LENGTH,
        description="1 to 1,024 characters with which /v1/restore brings the faces back; they "
        "travel encrypted in the answer, which is then png, jpeg or webp. In the form or the "
        "header X-Passcode, never in the URL. Without it nothing of the faces is kept.",
    )
    faces: Annotated[list[FaceBox], Field(min_length=1, max_length=256)] | None = Field(
        None,
        description="JSON: [[left, top, right, bottom], ...] in pixels of the upright picture, to "
        "be anonymized instead of what is found.",
        examples=["[[120, 80, 260, 270]]"],
        json_schema_extra={"type": "string", "contentMediaType": "application/json"},
    )
    allow_no_face: bool = Field(
        False, description="Answer a picture without faces as it is, instead of refusing it."
    )
    model: ModelName | None = Field(
        None,
        description="A generator by name; by default face-identity with a passcode, "
        "face-surroundings without one.",
    )

    @field_validator("faces", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> Any:
        try:
            return from_json(value) if isinstance(value, str) else value
        except TypeError as error:  # lone surrogates, which some charsets of a form can bring
            raise ValueError("it is no text") from error


class RestoreParams(ImageParams):
    """An anonymized picture with its faces back."""

    passcode: SecretStr = Field(
        json_schema_extra=_PASSCODE_LENGTH,
        description="What the picture was anonymized with: 1 to 1,024 characters. In the form or "
        "the header X-Passcode, never in the URL.",
    )
    decoy: bool = Field(
        False,
        description="Answer a wrong passcode with another plausible face, and do not tell which "
        "it was.",
    )
    model: ModelName | None = Field(
        None,
        description="The generator that the picture was anonymized by; face-identity by default. "
        "Not needed where the picture carries its seal.",
    )


class PictureAnswer(BaseModel):
    """What every answer to `Accept: application/json` with a picture tells."""

    image: str = Field(description="base64 of the encoded picture")
    media_type: str
    width: int
    height: int
    model: str | None
    weights_sha256: str | None
    timings_ms: dict[str, float]


class ImageAnswer(PictureAnswer):
    """The answer to `Accept: application/json`."""

    input_width: int
    input_height: int
    model: str
    weights_sha256: str
    compute: str


class AnonymizedFace(BaseModel):
    """One face that was anonymized."""

    box: tuple[int, int, int, int] = Field(description="left, top, right, bottom in pixels.")
    confidence: float | None = Field(description="That it is a face; none for a box of yours.")
    uncertain: bool = Field(description="It may be none, and was anonymized all the same.")
    method: Method


class AnonymizeAnswer(PictureAnswer):
    """The answer of /v1/anonymize to `Accept: application/json`."""

    faces: list[AnonymizedFace]
    sealed: bool = Field(description="The faces travel in the picture, for the passcode.")
    model: str | None = Field(description="The generator; none with the other methods.")


class RestoreAnswer(PictureAnswer):
    """The answer of /v1/restore to `Accept: application/json`."""

    restored: Literal["exact", "approximate", "undisclosed"]
    model: str | None = Field(description="That made the faces; none if they are exact.")


def secret_fields(params: type[BaseModel]) -> list[str]:
    """Return the names of the fields that are never taken from a URL."""
    secret = (SecretStr, SecretStr | None)
    return [name for name, field in params.model_fields.items() if field.annotation in secret]


def header_of(field: str) -> str:
    """Return the header that a secret field may come in instead."""
    return f"X-{field.title()}"
