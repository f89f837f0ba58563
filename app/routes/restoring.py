"""The endpoint that brings anonymized faces back."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.admission import Share
from app.deps import Infer, ServiceDep
from app.faces.attempts import client_name
from app.faces.restoring import Restored, restore
from app.http.answering import answer_picture
from app.http.describing import GENERATOR_HEADERS, SEALED, image_operation
from app.http.negotiation import Accept
from app.http.responses import as_json, headers_of
from app.schemas.pictures import RestoreAnswer, RestoreParams

router = APIRouter(prefix="/v1", tags=["faces"])

_HEADERS = {
    "X-Restored": "exact, approximate, or with decoy=true undisclosed",
    **GENERATOR_HEADERS,
    "Server-Timing": "decode, open, queue, forward and encode, in ms; not with decoy=true",
}


@router.post(
    "/restore",
    **image_operation(
        RestoreParams,
        {"image": SEALED, "passcode": "correct horse battery"},
        RestoreAnswer,
        _HEADERS,
        (403, 429),
    ),
)
async def restore_faces(request: Request, service: ServiceDep, caller: Infer) -> Response:
    """Bring the original faces back, with the passcode that the picture was anonymized with."""
    client = client_name(request.client.host if request.client else None)

    async def work(data: bytes, values: RestoreParams, accept: Accept, share: Share) -> Restored:
        return await restore(service, data, values, caller, client, accept.choose, share)

    return await answer_picture(request, service, RestoreParams, work, _headers_of, _as_json)


def _headers_of(restored: Restored) -> dict[str, str]:
    return headers_of(restored) | {"X-Restored": restored.outcome}


def _as_json(restored: Restored) -> bytes:
    return as_json(RestoreAnswer, restored, restored=restored.outcome)
