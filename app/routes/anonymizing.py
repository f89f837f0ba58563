"""The endpoint that makes faces into others."""

from __future__ import annotations

import base64

from fastapi import APIRouter, Request, Response

from app.admission import Share
from app.anonymizing import Anonymized, anonymize
from app.answering import answer_picture
from app.deps import ServiceDep
from app.negotiation import Accept
from app.responses import server_timing
from app.schemas import AnonymizeAnswer, AnonymizedFace, AnonymizeParams, image_operation

router = APIRouter(prefix="/v1", tags=["faces"])

_HEADERS = {
    "X-Faces": "how many were anonymized",
    "X-Faces-Uncertain": "how many of them may be none",
    "X-Method": "generate, blur, pixelate or solid",
    "X-Sealed": "true where the faces travel in the picture, for the passcode",
    "X-Model": "name@version of the generator, where one ran",
    "X-Weights-SHA256": "of its weights file",
    "X-Compute": "its device; dtype",
    "Server-Timing": "decode, detect, forward, encode and seal, in ms",
}


@router.post(
    "/anonymize",
    **image_operation(AnonymizeParams, {"method": "generate"}, AnonymizeAnswer, _HEADERS),
)
async def anonymize_faces(request: Request, service: ServiceDep) -> Response:
    """Make every face of a picture into another one, which a passcode can turn back."""

    async def work(
        data: bytes, values: AnonymizeParams, accept: Accept, share: Share
    ) -> Anonymized:
        return await anonymize(service, data, values, accept.choose, share)

    return await answer_picture(request, service, AnonymizeParams, work, _headers_of, _as_json)


def _headers_of(done: Anonymized) -> dict[str, str]:
    headers = {
        "X-Faces": str(len(done.targets)),
        "X-Faces-Uncertain": str(sum(target.face.uncertain for target in done.targets)),
        "X-Method": done.method,
        "X-Sealed": str(done.sealed).lower(),
        "Server-Timing": server_timing(done.seconds),
        "Vary": "Accept",
    }
    if model := done.model:
        headers |= {
            "X-Model": model.label,
            "X-Weights-SHA256": model.sha256,
            "X-Compute": f"{model.engine.device}; {model.engine.dtype}",
        }
    return headers


def _as_json(done: Anonymized) -> bytes:
    height, width = done.size
    answer = AnonymizeAnswer(
        image=base64.b64encode(done.data).decode("ascii"),
        media_type=f"image/{done.format}",
        width=width,
        height=height,
        faces=[
            AnonymizedFace(
                box=target.pixels(height, width),
                confidence=None if target.given else round(target.face.confidence, 4),
                uncertain=target.face.uncertain,
                method=done.method,
            )
            for target in done.targets
        ],
        sealed=done.sealed,
        model=done.model.label if done.model else None,
        weights_sha256=done.model.sha256 if done.model else None,
        timings_ms={stage: round(s * 1000, 3) for stage, s in done.seconds.items()},
    )
    return answer.model_dump_json().encode()
