"""The endpoints that answer a picture with a picture."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from app import inference
from app.admission import Share
from app.callers import Caller
from app.deps import Infer, ServiceDep
from app.http.answering import answer_picture
from app.http.describing import PHOTO, image_operation
from app.http.negotiation import Accept
from app.http.responses import as_json, headers_of
from app.inference import Plan, Result
from app.plans import stylize_plan, translate_plan, upscale_plan
from app.schemas.pictures import (
    ImageAnswer,
    ImageParams,
    StylizeParams,
    TranslateParams,
    UpscaleParams,
)
from app.service import Service

router = APIRouter(prefix="/v1", tags=["images"])

P = TypeVar("P", bound=ImageParams)


@router.post("/translate", **image_operation(TranslateParams, {"image": PHOTO, "model": "facades"}))
async def translate(request: Request, service: ServiceDep, caller: Infer) -> Response:
    """Turn a picture of one domain into one of another, at the same size."""
    return await _answer(request, service, caller, TranslateParams, translate_plan)


@router.post("/upscale", **image_operation(UpscaleParams, {"image": PHOTO, "scale": 4}))
async def upscale(request: Request, service: ServiceDep, caller: Infer) -> Response:
    """Enlarge a picture 2, 3 or 4 times."""
    return await _answer(request, service, caller, UpscaleParams, upscale_plan)


@router.post(
    "/stylize", **image_operation(StylizeParams, {"image": PHOTO, "style": "starry-night"})
)
async def stylize(request: Request, service: ServiceDep, caller: Infer) -> Response:
    """Paint a picture in a style, at the same size."""
    return await _answer(request, service, caller, StylizeParams, stylize_plan)


async def _answer(
    request: Request,
    service: Service,
    caller: Caller,
    params: type[P],
    make_plan: Callable[[Service, P, Caller], Awaitable[Plan]],
) -> Response:
    async def work(data: bytes, values: P, accept: Accept, share: Share) -> Result:
        plan = await make_plan(service, values, caller)
        return await inference.run(service, data, plan, accept.choose, share)

    return await answer_picture(request, service, params, work, _headers_of, _as_json)


def _headers_of(result: Result) -> dict[str, str]:
    return headers_of(result) | {"X-Compute": result.compute}


def _as_json(result: Result) -> bytes:
    height, width = result.input_size
    return as_json(
        ImageAnswer, result, input_width=width, input_height=height, compute=result.compute
    )
