"""The endpoint that makes faces into others."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.admission import Share
from app.deps import Infer, ServiceDep
from app.faces.anonymizing import Anonymized, anonymize
from app.http.answering import answer_picture
from app.http.describing import GENERATOR_HEADERS, PHOTO, image_operation
from app.http.negotiation import Accept
from app.http.responses import as_json, headers_of
from app.schemas.pictures import AnonymizeAnswer, AnonymizedFace, AnonymizeParams

router = APIRouter(prefix="/v1", tags=["faces"])

_HEADERS = {
    "X-Faces": "how many were anonymized",
    "X-Faces-Uncertain": "how many of them may be none",
    "X-Method": "generate, blur, pixelate or solid",
    "X-Sealed": "true where the faces travel in the picture, for the passcode",
    **GENERATOR_HEADERS,
    "Server-Timing": "decode, detect, queue, forward, encode and seal, in ms",
}


@router.post(
    "/anonymize",
    **image_operation(
        AnonymizeParams,
        {"image": PHOTO, "faces": "[[16, 16, 48, 48]]"},
        AnonymizeAnswer,
        _HEADERS,
    ),
)
async def anonymize_faces(request: Request, service: ServiceDep, caller: Infer) -> Response:
    """Make every face of a picture into another one, which a passcode can turn back."""

    async def work(
        data: bytes, values: AnonymizeParams, accept: Accept, share: Share
    ) -> Anonymized:
        return await anonymize(service, data, values, caller, accept.choose, share)

    return await answer_picture(request, service, AnonymizeParams, work, _headers_of, _as_json)


def _headers_of(done: Anonymized) -> dict[str, str]:
    return headers_of(done) | {
        "X-Faces": str(len(done.targets)),
        "X-Faces-Uncertain": str(sum(target.face.uncertain for target in done.targets)),
        "X-Method": done.method,
        "X-Sealed": str(done.sealed).lower(),
    }


def _as_json(done: Anonymized) -> bytes:
    faces = [
        AnonymizedFace(
            box=target.pixels(*done.size),
            confidence=None if target.given else round(target.face.confidence, 4),
            uncertain=target.face.uncertain,
            method=done.method,
        )
        for target in done.targets
    ]
    return as_json(AnonymizeAnswer, done, faces=faces, sealed=done.sealed)
