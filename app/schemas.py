"""What the API takes and gives, and how that is described in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field

from models.checkpoint import NAME_PATTERN
from models.images import Format

ModelName = Annotated[
    str,
    Field(
        pattern=NAME_PATTERN.removesuffix("$") + "(@[0-9]{1,6})?$",
        description="name or name@version",
    ),
]


class ImageParams(BaseModel):
    """What every image endpoint takes beside the image; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class ImageAnswer(BaseModel):
    """The answer to `Accept: application/json`."""

    image: str = Field(description="base64 of the encoded picture")
    media_type: str
    width: int
    height: int
    input_width: int
    input_height: int
    model: str
    weights_sha256: str
    compute: str
    timings_ms: dict[str, float]


class ModelSummary(BaseModel):
    """A model that can be asked for."""

    name: str
    version: int
    task: str
    family: str
    scale: int
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
    lineage: dict[str, Any] = Field(description="What it was made from: job, dataset, base, code.")
    metrics: list[dict[str, Any]]
    gate: dict[str, Any] | None = Field(
        description="How it compared with the version that served when it was made."
    )


class Promotion(BaseModel):
    """Which version is to serve."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(ge=1)
    force: bool = Field(False, description="Even if it did not pass the gate.")


class Problem(BaseModel):
    """RFC 9457; `code` is stable, `errors` names the parameters at fault."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str | None = None
    errors: list[dict[str, str]] | None = None


_BINARY = {"type": "string", "format": "binary"}
_IMAGES: dict[str, Any] = {f"image/{name}": {"schema": _BINARY} for name in get_args(Format)}
_PROBLEMS = {
    400: "The body does not parse",
    404: "Nothing of that name",
    406: "Accept names nothing we can answer",
    408: "The upload took too long",
    409: "Not in this state, which the text tells",
    413: "The upload, the picture or its answer is beyond a limit, which the text names",
    415: "The content is none of the accepted formats",
    422: "A parameter or the image is not valid",
    503: "Busy or not ready; see Retry-After",
    504: "No answer within the deadline",
    507: "The disk is full",
}


_IMAGE_PROBLEMS = [status for status in _PROBLEMS if status not in (409, 507)]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of the problems a route may answer."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


def image_operation(params: type[ImageParams], example: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of a route that reads its image and `params` itself.

    The same fields are described twice: beside the file in a multipart body, and as query
    parameters for a raw body.
    """
    schema = params.model_json_schema()
    fields: dict[str, Any] = schema["properties"]
    required: list[str] = schema.get("required", [])
    query = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": field,
            "description": field.get("description", "") + " (required)" * (name in required),
        }
        for name, field in fields.items()
    ]
    form = {
        "type": "object",
        "properties": {"image": _BINARY | {"description": "one picture"}} | fields,
        "required": ["image", *required],
        "example": example,
    }
    answer: dict[str, Any] = {"description": "The picture", "content": dict(_IMAGES)}
    answer["headers"] = {
        name: {"schema": {"type": "string"}, "description": text}
        for name, text in {
            "X-Model": "name@version",
            "X-Weights-SHA256": "of the weights file",
            "X-Compute": "device; dtype; tiles=n; batch=n",
            "Server-Timing": "decode, queue, forward and encode, in ms",
        }.items()
    }
    responses = problems(*_IMAGE_PROBLEMS)
    json_answer = {"schema": {"$ref": "#/components/schemas/ImageAnswer"}}
    answer["content"]["application/json"] = json_answer
    responses[200] = answer
    body = {
        "required": True,
        "content": {"multipart/form-data": {"schema": form}, "image/*": {"schema": _BINARY}},
    }
    return {"responses": responses, "openapi_extra": {"parameters": query, "requestBody": body}}
