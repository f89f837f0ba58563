"""A picture on its way to the client, as image bytes or as JSON."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.opening import Served
from app.schemas.pictures import PictureAnswer
from models.images import Format

PICTURE = "\0"
"""What a field holds whose place `with_picture` gives to the picture; no other can be that."""

_CHUNK_BYTES = 256 * 1024

log = structlog.get_logger()


class Answer(Protocol):
    """An encoded picture, its size (height, width), what made it and how long the stages took."""

    @property
    def data(self) -> bytes: ...

    @property
    def format(self) -> Format: ...

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def model(self) -> Served | None: ...

    @property
    def seconds(self) -> Mapping[str, float]: ...


class HeldResponse(Response):
    """A large body, sent in pieces as fast as the client takes them, then given up.

    Args:
        stall_timeout_s: a client that takes longer over one piece is cut off.
        release: called when the body is sent, or cannot be.
    """

    def __init__(
        self,
        data: bytes,
        headers: dict[str, str],
        media_type: str,
        stall_timeout_s: float,
        release: Callable[[], None],
    ) -> None:
        super().__init__(
            headers=headers | {"Content-Length": str(len(data))}, media_type=media_type
        )
        self._data = data
        self._stall_timeout_s = stall_timeout_s
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        view = memoryview(self._data)
        try:
            await send({"type": "http.response.start"} | start)
            for at in range(0, len(view), _CHUNK_BYTES):
                piece = view[at : at + _CHUNK_BYTES]
                async with asyncio.timeout(self._stall_timeout_s):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:  # an incomplete answer: the server closes the connection
            log.info("a client stopped reading its answer")
        finally:
            self._release()


def headers_of(answer: Answer) -> dict[str, str]:
    """Return what every answer tells: model, if one ran, and times, if they may be told."""
    headers = {"Vary": "Accept"}
    if model := answer.model:
        headers |= {"X-Model": model.label, "X-Weights-SHA256": model.sha256}
        headers["X-Compute"] = model.compute
    if seconds := answer.seconds:
        timings = (f"{stage};dur={s * 1000:.1f}" for stage, s in seconds.items())
        headers["Server-Timing"] = ", ".join(timings)
    return headers


def as_json(kind: type[PictureAnswer], answer: Answer, **more: Any) -> bytes:
    """Return the answer as a `kind`, whose further fields are `more`."""
    height, width = answer.size
    model = answer.model
    told = kind(
        image=PICTURE,
        media_type=f"image/{answer.format}",
        width=width,
        height=height,
        model=model.label if model else None,
        weights_sha256=model.sha256 if model else None,
        timings_ms={stage: round(s * 1000, 3) for stage, s in answer.seconds.items()},
        **more,
    )
    return with_picture(told, answer.data)


def with_picture(told: BaseModel, data: bytes) -> bytes:
    """Return `told` as JSON, with the base64 of `data` where it has PICTURE.

    A string of it would go through pydantic in three more copies, and a picture may be large.
    """
    before, _, after = told.model_dump_json().encode().partition(json.dumps(PICTURE).encode())
    return b"".join((before, b'"', base64.b64encode(data), b'"', after))
