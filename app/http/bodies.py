"""What is asked of a request's body before a route has it: that it is short, and arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ServiceError, UploadTimeout, UploadTooLarge
from app.http.paths import path_of
from app.http.problems import problem_of


class BodyLimits(NamedTuple):
    """A limit of bodies by its name, in bytes; a time, too, where no route keeps one."""

    name: str
    max_bytes: int
    timeout_s: float | None = None


class LimitBodies:
    """Refuses a body that is too long, by its declared length or as it arrives, or too slow.

    `limits` are by the first two parts of the path, those of "" for every other.
    """

    def __init__(self, app: ASGIApp, limits: Mapping[str, BodyLimits]) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        part = "/".join(path_of(scope).split("/")[:3])
        name, max_bytes, timeout_s = self.limits.get(part, self.limits[""])
        too_large = UploadTooLarge(f"the limit ({name}) is {max_bytes:,} bytes")
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared[:20]) > max_bytes:
            await problem_of(too_large)(scope, receive, send)
            return
        received_bytes, whole = 0, False
        refusal: ServiceError | None = None
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s

        async def limited_receive() -> Message:
            nonlocal received_bytes, whole, refusal
            try:
                async with asyncio.timeout_at(None if whole else deadline):
                    message = await receive()
            except TimeoutError:
                refusal = UploadTimeout(f"the body did not arrive within {timeout_s:g} s")
                raise refusal from None
            whole = not message.get("more_body")
            received_bytes += len(message.get("body", b""))
            if received_bytes > max_bytes:
                refusal = too_large
                raise refusal
            return message

        replaced = False

        async def send_or_refuse(message: Message) -> None:
            """FastAPI makes a 400 without a word of what stops its reading of JSON."""
            nonlocal replaced
            if message["type"] == "http.response.start" and refusal:
                replaced = True
                await problem_of(refusal)(scope, receive, send)
            elif not replaced:
                await send(message)

        await self.app(scope, limited_receive, send_or_refuse)
