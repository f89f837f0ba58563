"""How a route that reads its own picture and parameters is described in OpenAPI."""

from __future__ import annotations

import json
from typing import Any, get_args

from pydantic import BaseModel

from app.schemas.pictures import ImageAnswer, PictureAnswer, PictureParams, header_of, secret_fields
from app.schemas.problems import PROBLEMS, problems
from models.images import Format

# Where the examples' files are to be had.
PHOTO = "/docs/examples/photo.jpg"
SEALED = "/docs/examples/sealed.png"

_BINARY = {"type": "string", "format": "binary"}
# For routes with `response_class=Response`: of others FastAPI says that they answer JSON as well.
PNG: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture", "content": {"image/png": {"schema": _BINARY}}}
}
_IMAGES: dict[str, Any] = {f"image/{name}": {"schema": _BINARY} for name in get_args(Format)}
_IMAGE_PROBLEMS = [status for status in PROBLEMS if status not in (401, 403, 409, 421, 429, 507)]
EDIT_HEADERS = {
    "X-Model": "name@version",
    "X-Weights-SHA256": "of the weights file",
    "X-Compute": "device; dtype",
    "Server-Timing": "decode, queue, forward and encode, in ms",
}
_IMAGE_HEADERS = EDIT_HEADERS | {"X-Compute": "device; dtype; tiles=n; batch=n"}
GENERATOR_HEADERS = {
    "X-Model": "name@version of the generator, where one ran",
    "X-Weights-SHA256": "of its weights file",
    "X-Compute": "its device; dtype",
}


def _as_sent(field: dict[str, Any]) -> dict[str, Any]:
    """Describe a field as text can be: left out, but never null."""
    rest = {name: value for name, value in field.items() if name not in ("anyOf", "default")}
    for kind in field.get("anyOf", ()):
        if kind != {"type": "null"}:
            rest = kind | rest
    if field.get("default") is not None:
        rest["default"] = field["default"]
    return rest


def image_operation(
    params: type[PictureParams],
    example: dict[str, Any],
    answer_model: type[BaseModel] = ImageAnswer,
    headers: dict[str, str] = _IMAGE_HEADERS,
    more_problems: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Return the keywords of a route that reads its image and `params` itself.

    The same fields are described twice: beside the file in a multipart body, and as query
    parameters, or headers for secrets, for a raw body. `example` has values for them, and where
    to get a picture in `image`.
    """
    schema = params.model_json_schema()
    fields = {name: _as_sent(field) for name, field in schema["properties"].items()}
    required: list[str] = schema.get("required", [])
    secrets = secret_fields(params)
    query: list[dict[str, Any]] = [
        {
            "name": header_of(name) if name in secrets else name,
            "in": "header" if name in secrets else "query",
            "required": False,
            # Generated clients send a default themselves: here as well as in the form, twice.
            "schema": {key: value for key, value in field.items() if key != "default"},
            "description": "Required with a raw body. " * (name in required)
            + field.get("description", "")
            + (f" By default {json.dumps(field['default'])}." if "default" in field else ""),
        }
        | ({"example": example[name]} if name in example else {})
        for name, field in fields.items()
    ]
    form = {
        "type": "object",
        "properties": {"image": _BINARY | {"description": "One picture."}} | fields,
        "required": ["image", *required],
        "additionalProperties": False,
    }
    answer: dict[str, Any] = {"description": "The picture", "content": {}}
    if issubclass(answer_model, PictureAnswer):
        answer["content"] |= _IMAGES
    answer["headers"] = {
        name: {"schema": {"type": "string"}, "description": text} for name, text in headers.items()
    }
    responses = problems(*_IMAGE_PROBLEMS, *more_problems)
    json_answer = {"schema": {"$ref": f"#/components/schemas/{answer_model.__name__}"}}
    answer["content"]["application/json"] = json_answer
    responses[200] = answer
    formats = ", ".join(_IMAGES)
    raw = {"schema": _BINARY, "examples": {"picture": {"externalValue": example["image"]}}}
    body = {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": form,
                "example": example,
                "encoding": {"image": {"contentType": formats}},
            },
            "image/*": raw,
        },
    }
    return {"responses": responses, "openapi_extra": {"parameters": query, "requestBody": body}}
