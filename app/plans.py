"""What each endpoint asks of a generator, from the request's parameters."""

from __future__ import annotations

import asyncio

import numpy as np

from app.callers import Caller
from app.errors import DeadlineExceeded
from app.inference import Plan
from app.schemas.pictures import StylizeParams, TranslateParams, UpscaleParams
from app.service import Service
from models import images
from models.family import Task
from models.images import Pixels


async def translate_plan(service: Service, params: TranslateParams, caller: Caller) -> Plan:
    """The named model, nothing else."""
    model = service.catalog.for_task(params.model, Task.TRANSLATE, caller)
    return Plan(model, model.scale, None, params.format, params.quality)


async def upscale_plan(service: Service, params: UpscaleParams, caller: Caller) -> Plan:
    """The network for scale and detail; reduced where its own scale is larger than asked.

    Raises DeadlineExceeded where the network of a detail is not made in time.
    """
    try:
        async with asyncio.timeout(service.settings.deadline_s):
            model = await service.catalog.upscaler(
                params.scale, params.detail, params.model, caller
            )
    except TimeoutError:
        raise DeadlineExceeded("no network of that detail within deadline_s") from None
    return Plan(model, params.scale, None, params.format, params.quality)


async def stylize_plan(service: Service, params: StylizeParams, caller: Caller) -> Plan:
    """The named style, with the input's colours and a part of the input where asked for."""
    model = service.catalog.for_task(params.style, Task.STYLIZE, caller)

    def finish(answer: Pixels, original: Pixels) -> Pixels:
        if params.keep_colors:
            answer = images.with_luminance_of(answer, original)
        return blend(original, answer, params.strength)

    return Plan(model, model.scale, finish, params.format, params.quality)


def blend(first: Pixels, second: Pixels, weight: float) -> Pixels:
    """Return (1 - weight) * first + weight * second, rounded, both uint8 (H, W, 3)."""
    if weight == 1:
        return second
    mixed = np.empty_like(first)
    for row in range(len(first)):  # by rows: floats of a whole large picture would not fit
        mixed[row] = np.rint(first[row] * (1 - weight) + second[row] * weight)
    return mixed
