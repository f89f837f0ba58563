"""A problem on its way to the client, in OpenAI's shape as well where that is expected."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from app.http.paths import path_of

OPENAI_FOLDER = "/v1/images/"
CODE = "anamorph.problem"
"""Where a connection's scope has the code of the problem that it was answered with."""

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ProblemResponse(JSONResponse):
    """RFC 9457's problem; below OPENAI_FOLDER it has the member `error` besides.

    It tells its code to the middleware around it.
    """

    media_type = "application/problem+json"

    def __init__(self, body: dict[str, Any], status: int) -> None:
        super().__init__(body, status)
        self._members = body

    def render(self, content: Any) -> bytes:
        """Write a text as it came, but for what of it is no Unicode."""
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[CODE] = self._members["code"]
        if path_of(scope).startswith(OPENAI_FOLDER):
            self.body = self.render(self._members | {"error": self._as_openai()})
            self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)

    def _as_openai(self) -> dict[str, str | None]:
        status, body = self.status_code, self._members
        other = "server_error" if status >= 500 else "invalid_request_error"
        faults = body.get("errors") or [{"field": None}]
        return {
            "message": body.get("detail", body["title"]),
            "type": _OPENAI_TYPES.get(status, other),
            "param": faults[0]["field"],
            "code": body["code"],
        }
