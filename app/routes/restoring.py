"""The endpoint that brings anonymized faces back."""

from __future__ import annotations

import base64

from fastapi import APIRouter, Request, Response

from app.admission import Share
from app.answering import answer_picture
from app.attempts import client_name
from app.deps import ServiceDep
from app.negotiation import Accept
from app.responses import server_timing
from app.restoring import Restored, restore
from app.schemas import RestoreAnswer, RestoreParams, image_operation

router = APIRouter(prefix="/v1", tags=["faces"])

_HEADERS = {
    "X-Restored": "exact, approximate, or with decoy=true undisclosed",
    "X-Model": "name@version of the generator, where one ran",
    "X-Weights-SHA256": "of its weights file",
    "Server-Timing": "decode, open, forward and encode, in ms; not with decoy=true",
}


@router.post(
    "/restore",
    **image_operation(
        RestoreParams, {"passcode": "correct horse battery"}, RestoreAnswer, _HEADERS, (403, 429)
    ),
)
async def restore_faces(request: Request, service: ServiceDep) -> Response:
    """Bring the original faces back, with the passcode that the picture was anonymized with."""
    client = client_name(request.client.host if request.client else None)

    async def work(data: bytes, values: RestoreParams, accept: Accept, share: Share) -> Restored:
        return await restore(service, data, values, client, accept.choose, share)

    return await answer_picture(request, service, RestoreParams, work, _headers_of, _as_json)


def _headers_of(restored: Restored) -> dict[str, str]:
    headers = {
        "X-Restored": restored.outcome,
        "Vary": "Accept",
    }
    if restored.seconds:
        headers["Server-Timing"] = server_timing(restored.seconds)
    if model := restored.model:
        headers |= {"X-Model": model.label, "X-Weights-SHA256": model.sha256}
    return headers


def _as_json(restored: Restored) -> bytes:
    height, width = restored.size
    answer = RestoreAnswer(
        image=base64.b64encode(restored.data).decode("ascii"),
        media_type=f"image/{restored.format}",
        width=width,
        height=height,
        restored=restored.outcome,
        model=restored.model.label if restored.model else None,
        weights_sha256=restored.model.sha256 if restored.model else None,
        timings_ms={stage: round(s * 1000, 3) for stage, s in restored.seconds.items()},
    )
    return answer.model_dump_json().encode()
