"""The endpoints that answer a picture with a picture."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from app import inference
from app.deps import ServiceDep
from app.errors import ClientLeft
from app.inference import Plan, Result
from app.negotiation import Accept
from app.plans import stylize_plan, translate_plan, upscale_plan
from app.responses import HeldResponse, as_json, headers_of
from app.schemas import (
    ImageParams,
    StylizeParams,
    TranslateParams,
    UpscaleParams,
    image_operation,
)
from app.service import Service
from app.uploads import read_upload

router = APIRouter(prefix="/v1", tags=["images"])

P = TypeVar("P", bound=ImageParams)
T = TypeVar("T")


@router.post("/translate", **image_operation(TranslateParams, {"model": "facades"}))
async def translate(request: Request, service: ServiceDep) -> Response:
    """Turn a picture of one domain into one of another, at the same size."""
    return await _answer(request, service, TranslateParams, translate_plan)


@router.post("/upscale", **image_operation(UpscaleParams, {"scale": 4, "detail": 0.5}))
async def upscale(request: Request, service: ServiceDep) -> Response:
    """Enlarge a picture 2, 3 or 4 times."""
    return await _answer(request, service, UpscaleParams, upscale_plan)


@router.post("/stylize", **image_operation(StylizeParams, {"style": "starry-night"}))
async def stylize(request: Request, service: ServiceDep) -> Response:
    """Paint a picture in a style, at the same size."""
    return await _answer(request, service, StylizeParams, stylize_plan)


async def _answer(
    request: Request,
    service: Service,
    params: type[P],
    make_plan: Callable[[Service, P], Awaitable[Plan]],
) -> Response:
    accept = Accept(request.headers.get("accept"))
    settings = service.settings
    service.batcher.ensure_room()
    with contextlib.ExitStack() as held:
        share = held.enter_context(service.budget.share())
        share.resize(_declared_bytes(request, settings.max_upload_bytes))
        data, values = await read_upload(request, params, settings.upload_timeout_s)
        share.resize(len(data))

        async def work() -> tuple[Result, bytes]:
            plan = await make_plan(service, values)
            result = await inference.run(service, data, plan, accept.choose, share)
            if accept.as_json:
                return result, await service.in_codecs(lambda: as_json(result))
            return result, result.data

        result, body = await _unless_client_leaves(request, work())
        share.settle(len(body))
        return HeldResponse(
            body,
            headers_of(result),
            "application/json" if accept.as_json else f"image/{result.format}",
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
