"""The OpenAPI description: what FastAPI cannot know of routes that read their own body."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from app.schemas.edits import EditAnswer
from app.schemas.pictures import AnonymizeAnswer, ImageAnswer, RestoreAnswer
from app.schemas.problems import Problem, problems

_REFERRED_TO = (ImageAnswer, AnonymizeAnswer, RestoreAnswer, EditAnswer, Problem)


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas that routes refer to by name, and what any of them may answer."""
    _, described = models_json_schema(
        [(model, "serialization") for model in _REFERRED_TO],
        ref_template="#/components/schemas/{model}",
    )
    components = document.setdefault("components", {})
    components["schemas"] = described["$defs"] | components.get("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # which `app.http.problems` replaces
        components["schemas"].pop(name, None)
    for path in document["paths"].values():
        for operation in path.values():
            anywhere = problems(421)
            if "security" in operation:
                anywhere |= problems(401, 403, 429, 503)
            if "requestBody" in operation:
                anywhere |= problems(400, 408, 413)
            if "422" in operation["responses"]:
                del operation["responses"]["422"]
                anywhere |= problems(422)
            told = {str(status): answer for status, answer in anywhere.items()}
            operation["responses"] |= told
            for answer in operation["responses"].values():
                for media in answer.get("content", {}).values():
                    if media.pop("itemSchema", None):  # OpenAPI 3.2's, in a document of 3.1
                        media["schema"] = {"type": "string"}
    return document
