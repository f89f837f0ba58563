"""A picture on its way to the client, as image bytes or as JSON."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.inference import Result
from app.schemas import ImageAnswer

_CHUNK_BYTES = 256 * 1024


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
        finally:
            self._release()


def headers_of(result: Result) -> dict[str, str]:
    """Return what every answer tells about its model, device and times."""
    return {
        "X-Model": result.model.label,
        "X-Weights-SHA256": result.model.sha256,
        "X-Compute": result.compute,
        "Server-Timing": server_timing(result.seconds),
        "Vary": "Accept",
    }


def server_timing(seconds: Mapping[str, float]) -> str:
    """Return the value of the Server-Timing header."""
    return ", ".join(f"{stage};dur={s * 1000:.1f}" for stage, s in seconds.items())


def as_json(result: Result) -> bytes:
    """Return the answer as an `ImageAnswer`."""
    height, width = result.size
    input_height, input_width = result.input_size
    answer = ImageAnswer(
        image=base64.b64encode(result.data).decode("ascii"),
        media_type=f"image/{result.format}",
        width=width,
        height=height,
        input_width=input_width,
        input_height=input_height,
        model=result.model.label,
        weights_sha256=result.model.sha256,
        compute=result.compute,
        timings_ms={stage: round(s * 1000, 3) for stage, s in result.seconds.items()},
    )
    return answer.model_dump_json().encode()
