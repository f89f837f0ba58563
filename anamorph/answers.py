"""The pictures that the service answers with, and how they came about."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from anamorph.pictures import PictureFile
from anamorph.records import read_as


@dataclass(frozen=True, slots=True)
class Answer(PictureFile):
    """A picture that was made.

    Attributes:
        model: name@version, or two of them where networks were interpolated; None where none ran.
        weights_sha256: of the model's file.
        compute: device, precision, tiles and pictures in the batch.
        timings_ms: of each stage.
        request_id: by which the service's log has the request.
    """

    model: str | None
    weights_sha256: str | None
    compute: str | None
    timings_ms: Mapping[str, float]
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Face:
    """A face that was anonymized.

    Attributes:
        box: left, top, right, bottom in pixels of the answer.
        confidence: 0..1, that it is a face; None for a box that was given.
        uncertain: it may be none, and was anonymized all the same.
    """

    box: tuple[int, int, int, int]
    confidence: float | None
    uncertain: bool
    method: str


@dataclass(frozen=True, slots=True)
class Anonymized(Answer):
    """A picture with other faces; `sealed` where the passcode brings the old ones back."""

    faces: list[Face]
    sealed: bool


@dataclass(frozen=True, slots=True)
class Restored(Answer):
    """A picture with its faces back, to the bit or approximately."""

    restored: Literal["exact", "approximate", "undisclosed"]


def read_picture(response: httpx.Response) -> PictureFile:
    """Read a picture and nothing else. Raises ValueError for what is none."""
    return PictureFile(response.content, _media_type(response))


def read_answer(response: httpx.Response) -> Answer:
    """Read the picture and the headers. Raises ValueError for what is no picture."""
    return Answer(response.content, _media_type(response), **_facts(response))


def read_restored(response: httpx.Response) -> Restored:
    """Read the same with how it was restored."""
    outcome: Any = response.headers["x-restored"]
    facts = _facts(response)
    return Restored(response.content, _media_type(response), **facts, restored=outcome)


def read_anonymized(response: httpx.Response) -> Anonymized:
    """Read the JSON form of an answer, which alone has the faces' boxes."""
    told = response.json()
    return Anonymized(
        base64.b64decode(told["image"], validate=True),
        told["media_type"],
        **_facts(response),
        faces=read_as(list[Face], told["faces"]),
        sealed=told["sealed"],
    )


def _media_type(response: httpx.Response) -> str:
    kind: str = response.headers.get("content-type", "").partition(";")[0].strip()
    if not kind.startswith("image/"):
        raise ValueError(f"not a picture but {kind!r}")
    return kind


def _facts(response: httpx.Response) -> dict[str, Any]:
    headers = response.headers
    return {
        "model": headers.get("x-model"),
        "weights_sha256": headers.get("x-weights-sha256"),
        "compute": headers.get("x-compute"),
        "timings_ms": _timings_ms(headers.get("server-timing", "")),
        "request_id": headers.get("x-request-id"),
    }


def _timings_ms(header: str) -> dict[str, float]:
    """Read Server-Timing: `decode;dur=1.5, forward;dur=20`."""
    pairs = (metric.strip().partition(";dur=") for metric in header.split(","))
    return {stage: float(ms) for stage, _, ms in pairs if ms}
