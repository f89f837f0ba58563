"""From a request with a picture to a response with one, whatever is done to it between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request, Response

from app.admission import Share
from app.errors import ClientLeft
from app.http.negotiation import Accept
from app.http.responses import Answer, HeldResponse
from app.http.uploads import read_upload
from app.schemas.pictures import PictureParams
from app.service import Service

P = TypeVar("P", bound=PictureParams)
T = TypeVar("T")
A = TypeVar("A", bound=Answer)


async def answer_picture(
    request: Request,
    service: Service,
    params: type[P],
    work: Callable[[bytes, P, Accept, Share], Awaitable[A]],
    headers_of: Callable[[A], dict[str, str]],
    as_json: Callable[[A], bytes],
    accept: Accept | None = None,
) -> Response:
    """Read one upload, `work` on it within its share of memory, and answer bytes or JSON.

    `accept`, by default the request's, decides between these.

    Raises ClientLeft when the connection closes meanwhile, beside what reading and `work` raise.
    """
    accept = accept or Accept(", ".join(request.headers.getlist("accept")))
    settings = service.settings
    service.rates.require_compute()
    service.batcher.ensure_room()
    with contextlib.ExitStack() as held:
        share = held.enter_context(service.budget.share())
        share.resize(_declared_bytes(request, settings.max_upload_bytes))
        data, values = await read_upload(request, params, settings.upload_timeout_s)
        share.resize(len(data))

        async def worked() -> tuple[A, bytes]:
            answer = await work(data, values, accept, share)
            if accept.as_json:
                return answer, await service.in_codecs(lambda: as_json(answer))
            return answer, answer.data

        answer, body = await _unless_client_leaves(request, worked())
        share.settle(len(body))
        return HeldResponse(
            body,
            headers_of(answer),
            "application/json" if accept.as_json else f"image/{answer.format}",
            settings.upload_timeout_s,
            held.pop_all().close,
        )


def _declared_bytes(request: Request, max_bytes: int) -> int:
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isdecimal() else max_bytes


async def _unless_client_leaves(request: Request, work: Awaitable[T]) -> T:
    """Return the work's result; cancel it and raise ClientLeft when the connection closes."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientLeft("the client closed the connection")
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
