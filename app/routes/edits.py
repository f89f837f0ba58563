"""The endpoint in the shape of OpenAI's image API, for clients that speak that."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response

from app import inference
from app.admission import Share
from app.callers import Caller
from app.deps import Infer, ServiceDep
from app.faces.anonymizing import anonymize
from app.http.answering import answer_picture
from app.http.describing import EDIT_HEADERS, PHOTO, image_operation
from app.http.negotiation import Accept
from app.http.problem_response import OPENAI_FOLDER
from app.http.responses import PICTURE, Answer, headers_of, with_picture
from app.plans import stylize_plan, translate_plan, upscale_plan
from app.schemas.edits import EditAnswer, EditedImage, EditParams
from app.schemas.pictures import AnonymizeParams, StylizeParams, TranslateParams, UpscaleParams
from app.service import Service
from models.family import Task

router = APIRouter(prefix=OPENAI_FOLDER.removesuffix("/"), tags=["images"])


@router.post(
    "/edits",
    **image_operation(
        EditParams,
        {"image": PHOTO, "model": "starry-night", "prompt": "a painting"},
        EditAnswer,
        EDIT_HEADERS,
    ),
)
async def edit_image(request: Request, service: ServiceDep, caller: Infer) -> Response:
    """Do what the model does to a picture; asked and answered as by OpenAI's image API."""

    async def work(data: bytes, params: EditParams, accept: Accept, share: Share) -> Answer:
        return await _run(service, data, params, share, caller)

    always_json = Accept("application/json")
    return await answer_picture(
        request, service, EditParams, work, headers_of, _as_json, always_json
    )


async def _run(
    service: Service, data: bytes, params: EditParams, share: Share, caller: Caller
) -> Answer:
    """Ask what the endpoint of the model's task is asked, with nothing but the model and a box."""
    model, box = params.model, params.box
    encoding: dict[str, Any] = {
        "format": params.output_format,
        "quality": params.encoding_quality,
    }
    served = service.catalog.get(model, caller)
    match served.family.task:
        case Task.TRANSLATE:
            plan = await translate_plan(service, TranslateParams(model=model, **encoding), caller)
        case Task.UPSCALE:
            upscale = UpscaleParams(model=model, scale=served.scale, **encoding)
            plan = await upscale_plan(service, upscale, caller)
        case Task.STYLIZE:
            plan = await stylize_plan(service, StylizeParams(style=model, **encoding), caller)
        case Task.ANONYMIZE:
            hidden = AnonymizeParams(model=model, **encoding)
            return await anonymize(service, data, hidden, caller, share=share, box=box)
    return await inference.run(service, data, replace(plan, box=box), share=share)


def _as_json(answer: Answer) -> bytes:
    height, width = answer.size
    told = EditAnswer(
        created=int(time.time()),
        data=[EditedImage(b64_json=PICTURE)],
        output_format=answer.format,
        size=f"{width}x{height}",
    )
    return with_picture(told, answer.data)
