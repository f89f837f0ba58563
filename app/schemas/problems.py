"""What any route may answer instead, and how that is described in OpenAPI."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """RFC 9457; `code` is stable, `errors` names the parameters at fault."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str | None = None
    errors: list[dict[str, str]] | None = None
    error: dict[str, str | None] | None = Field(
        None, description="In /v1/images: OpenAI's message, type, param and code."
    )


PROBLEMS = {
    400: "The body does not parse",
    401: "A key is needed",
    403: "The key lacks the scope, the passcode is wrong, or another site's page asks",
    404: "Nothing of that name",
    406: "Accept names nothing we can answer",
    408: "The upload took too long",
    409: "Not in this state, which the text tells",
    413: "The upload, the picture or its answer is beyond a limit, which the text names",
    415: "The content is none of the accepted formats",
    421: "Without keys: the host is a name of DNS that the service was not told of",
    422: "A parameter or the image is not valid",
    429: "Too many requests or attempts; see Retry-After",
    503: "Busy or not ready; see Retry-After",
    504: "No answer within the deadline",
    507: "The disk is full",
}
_RETRY_AFTER = {"schema": {"type": "integer"}, "description": "Seconds until another try pays"}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {
        "WWW-Authenticate": {"schema": {"type": "string"}, "description": "What a key is sent as"}
    },
    429: {"Retry-After": _RETRY_AFTER},
    503: {"Retry-After": _RETRY_AFTER},
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of the problems a route may answer."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    described: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        described[status] = {"description": PROBLEMS[status], "content": content}
        if headers := _HEADERS.get(status):
            described[status]["headers"] = headers
    return described
