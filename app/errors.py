"""What can go wrong in a request, and how every error of the project looks over HTTP.

Answers are RFC 9457 problems (`application/problem+json`) whose `code` is stable: clients may
branch on it. The texts of AnamorphErrors are written to be shown; any other exception is an
internal error, whose text stays in the log.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.paths import path_of
from app.problem_response import ProblemResponse
from models import errors as model_errors
from models.errors import AnamorphError

_BEARER = 'Bearer realm="anamorph"'


class ServiceError(AnamorphError):
    """A request that cannot be answered."""


class Unauthenticated(ServiceError):
    """No key where one is asked for, or one that opens nothing.

    `code` is RFC 6750's, where a key was given.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.challenge = f'{_BEARER}, error="{code}"' if code else _BEARER


class ScopeMissing(ServiceError):
    """The key is good, and not for this; `missing` names the scopes that it lacks."""

    def __init__(self, message: str, missing: Sequence[str]) -> None:
        super().__init__(message)
        scopes = " ".join(missing)
        self.challenge = f'{_BEARER}, error="insufficient_scope", scope="{scopes}"'


class ForeignPage(ServiceError):
    """Another site's web page asks for a change, where no key tells who asks."""


class WrongHost(ServiceError):
    """The request is for a name that DNS may give to anyone, and the service is on loopback."""


class NameTaken(ServiceError):
    """A model of that name belongs to others."""


class BadMultipart(ServiceError):
    """A multipart body that does not parse."""


class MissingImage(ServiceError):
    """No file in the field `image`, or an empty body."""


class SeveralImages(ServiceError):
    """More than one file in a request."""


class InvalidParameter(ServiceError):
    """A parameter that is unknown, given twice or out of its range.

    `faults` names each: {"field": ..., "message": ...}.
    """

    def __init__(self, message: str, faults: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.faults = faults or []

    @classmethod
    def of(cls, errors: list[Any]) -> InvalidParameter:
        """Build from pydantic's error list, without repeating what the client sent."""
        faults = [
            {"field": ".".join(map(str, error["loc"]))[:64], "message": str(error["msg"])}
            for error in errors[:16]
        ]
        text = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
        return cls(text, faults)


class WrongTask(ServiceError):
    """The model exists and serves another endpoint."""


class NotAcceptable(ServiceError):
    """The Accept header names nothing this service can answer."""


class UnsupportedEncoding(ServiceError):
    """A compressed request body (Content-Encoding)."""


class UploadTooLarge(ServiceError):
    """The body is longer than pictures', data sets' or JSON may be."""


class DatasetNotFound(ServiceError):
    """No dataset of that id."""


class DatasetInUse(ServiceError):
    """The dataset cannot be deleted while a training uses it."""


class StorageFull(ServiceError):
    """The disk with `home` is full; nothing was kept of the upload."""


class UploadTimeout(ServiceError):
    """The body took longer than `upload_timeout_s` (`dataset_timeout_s`) to arrive."""


class NoFace(ServiceError):
    """No face was found where one was to be anonymized."""


class InvalidPasscode(ServiceError):
    """A passcode that is empty, too long or no text; the text never repeats it."""


class NoSeal(ServiceError):
    """The picture carries no sealed faces, and nothing else here could restore it."""


class DamagedSeal(ServiceError):
    """A picture or its seal was altered after sealing."""


class WrongPasscode(ServiceError):
    """The seal is whole and does not open with this passcode."""


class ClientLeft(ServiceError):
    """The client closed the connection; nobody reads this answer."""


class DeadlineExceeded(ServiceError):
    """No answer within `deadline_s`."""


class TakesTooLong(ServiceError):
    """By its size, a picture would not be answered within `deadline_s`."""


class Busy(ServiceError):
    """Worth another try after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = max(1, math.ceil(retry_after_s))


class QueueFull(Busy):
    """`queue_limit` pictures are waiting already."""


class MemoryFull(Busy):
    """The pictures under way hold `max_memory_bytes` already."""


class TooManyAttempts(Busy):
    """A client or a sealed picture has seen `restore_attempts_per_minute`."""


class RateLimited(Busy):
    """An account has had its minute's worth; `policy` is what of, as the RateLimit fields say."""

    def __init__(self, message: str, retry_after_s: float, policy: str) -> None:
        super().__init__(message, retry_after_s)
        self.policy = policy


class NotReady(Busy):
    """The model is still being loaded, or the service is stopping."""


class JobNotFound(ServiceError):
    """No training job of that id."""


class JobConflict(ServiceError):
    """The job is not in a state for that, or its key belongs to another request."""


class JobsUnavailable(Busy):
    """The database of jobs does not answer."""


class KeysUnavailable(Busy):
    """The file of keys cannot be read."""


class Kind(NamedTuple):
    """How one class of error looks over HTTP."""

    status: int
    code: str
    title: str


KINDS: dict[type[AnamorphError], Kind] = {
    AnamorphError: Kind(400, "bad_request", "The request cannot be answered"),
    ServiceError: Kind(400, "bad_request", "The request cannot be answered"),
    Unauthenticated: Kind(401, "unauthenticated", "A key is needed"),
    ScopeMissing: Kind(403, "scope_missing", "The key is not for this"),
    ForeignPage: Kind(403, "foreign_page", "Another site's page may not do this"),
    WrongHost: Kind(421, "wrong_host", "The service is not called that"),
    NameTaken: Kind(409, "name_taken", "The name is taken"),
    KeysUnavailable: Kind(503, "keys_unavailable", "The keys cannot be checked"),
    BadMultipart: Kind(400, "bad_multipart", "The multipart body does not parse"),
    MissingImage: Kind(422, "missing_image", "No image in the request"),
    SeveralImages: Kind(422, "several_images", "More than one image in the request"),
    InvalidParameter: Kind(422, "invalid_parameter", "A parameter is not valid"),
    WrongTask: Kind(422, "wrong_task", "The model serves another endpoint"),
    NotAcceptable: Kind(406, "not_acceptable", "No acceptable answer format"),
    UnsupportedEncoding: Kind(415, "unsupported_encoding", "The body must not be compressed"),
    UploadTooLarge: Kind(413, "upload_too_large", "The upload is too large"),
    UploadTimeout: Kind(408, "upload_timeout", "The upload took too long"),
    DatasetNotFound: Kind(404, "dataset_not_found", "No such dataset"),
    DatasetInUse: Kind(409, "dataset_in_use", "The dataset is in use"),
    StorageFull: Kind(507, "storage_full", "The disk is full"),
    NoFace: Kind(422, "no_face", "No face was found"),
    InvalidPasscode: Kind(422, "invalid_passcode", "The passcode is not valid"),
    NoSeal: Kind(422, "no_seal", "The picture carries no sealed faces"),
    DamagedSeal: Kind(422, "damaged_seal", "The sealed picture was altered"),
    WrongPasscode: Kind(403, "wrong_passcode", "The passcode is wrong"),
    ClientLeft: Kind(499, "client_left", "The client closed the connection"),
    TakesTooLong: Kind(413, "takes_too_long", "The picture would take too long"),
    DeadlineExceeded: Kind(504, "deadline_exceeded", "The answer took too long"),
    JobNotFound: Kind(404, "job_not_found", "No such training job"),
    JobConflict: Kind(409, "job_conflict", "The job is not in a state for that"),
    JobsUnavailable: Kind(503, "jobs_unavailable", "The queue of jobs does not answer"),
    Busy: Kind(503, "busy", "The service is busy"),
    QueueFull: Kind(503, "queue_full", "The queue is full"),
    MemoryFull: Kind(503, "memory_full", "Too many large pictures are under way"),
    TooManyAttempts: Kind(429, "too_many_attempts", "Too many attempts"),
    RateLimited: Kind(429, "rate_limited", "Too many requests"),
    NotReady: Kind(503, "not_ready", "The service is not ready"),
    model_errors.ImageError: Kind(422, "unusable_image", "The image cannot be used"),
    model_errors.UnsupportedImage: Kind(415, "unsupported_image", "The format is not taken"),
    model_errors.CorruptImage: Kind(422, "corrupt_image", "The image does not decode"),
    model_errors.ImageTooLarge: Kind(413, "image_too_large", "The image is too large"),
    model_errors.ModelError: Kind(422, "unusable_model", "The model cannot be used"),
    model_errors.UnknownLayout: Kind(422, "unknown_layout", "The checkpoint's layout is not known"),
    model_errors.InvalidCheckpoint: Kind(422, "invalid_checkpoint", "The checkpoint is damaged"),
    model_errors.ModelNotFound: Kind(404, "model_not_found", "No such model"),
    model_errors.ModelProtected: Kind(409, "model_protected", "The version must stay"),
    model_errors.GateRefused: Kind(409, "gate_refused", "The version did not pass"),
    model_errors.TrainingError: Kind(422, "training_error", "The training cannot run"),
    model_errors.InvalidRecipe: Kind(422, "invalid_recipe", "The recipe is not valid"),
    model_errors.InvalidDataset: Kind(422, "invalid_dataset", "The dataset cannot be used"),
    model_errors.MissingFeatures: Kind(409, "missing_features", "The VGG16 weights are missing"),
    model_errors.DivergedTraining: Kind(422, "diverged_training", "The training diverged"),
}

INTERNAL = Kind(500, "internal_error", "Something went wrong here")
OUT_OF_MEMORY = Kind(503, "out_of_memory", "The device ran out of memory")

_HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}


def kind_of(error: AnamorphError) -> Kind:
    """Return the table's entry for the error's class or its nearest base."""
    return next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)


def problem(kind: Kind, detail: str | None = None, **members: Any) -> JSONResponse:
    """Build an RFC 9457 answer; `members` are its extension members."""
    body = {"type": "about:blank", "title": kind.title, "status": kind.status, "code": kind.code}
    if detail:
        body["detail"] = detail
    return ProblemResponse(body | members, kind.status)


def problem_of(error: AnamorphError) -> JSONResponse:
    """Build the answer for an error of the project's own tree."""
    members: dict[str, Any] = {}
    if isinstance(error, InvalidParameter) and error.faults:
        members["errors"] = error.faults
    if isinstance(error, model_errors.GateRefused):
        members["verdict"] = error.verdict
    if isinstance(error, RateLimited):
        members["violated-policies"] = [error.policy]
    response = problem(kind_of(error), str(error), **members)
    if isinstance(error, Busy):
        response.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, Unauthenticated | ScopeMissing):
        response.headers["WWW-Authenticate"] = error.challenge
    return response


def install(app: FastAPI) -> None:
    """Make every error of `app`'s routes a problem; unexpected ones are left to the middleware."""

    @app.exception_handler(AnamorphError)
    async def _own(request: Request, error: AnamorphError) -> JSONResponse:
        return problem_of(error)

    @app.exception_handler(RequestValidationError)
    async def _request_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem_of(InvalidParameter.of(list(error.errors())))

    @app.exception_handler(ClientDisconnect)
    async def _left(request: Request, error: ClientDisconnect) -> JSONResponse:
        return problem_of(ClientLeft("the client closed the connection"))

    @app.exception_handler(MemoryError)
    @app.exception_handler(torch.OutOfMemoryError)
    async def _memory(request: Request, error: Exception) -> JSONResponse:
        response = problem(OUT_OF_MEMORY, "try again later, or with a smaller picture")
        response.headers["Retry-After"] = "5"
        return response

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        status = error.status_code
        kind = Kind(status, _HTTP_CODES.get(status, f"http_{status}"), HTTPStatus(status).phrase)
        response = problem(kind)
        response.headers.update(error.headers or {})
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = ", ".join(sorted(_methods_at(request)))
        return response


def _methods_at(request: Request) -> set[str]:
    """Return what all routes of the path take; Starlette tells those of the first alone."""
    path = path_of(request.scope)
    return {
        method
        for route in iter_route_contexts(request.app.routes)
        if (pattern := getattr(route, "path_regex", None)) and pattern.match(path)
        for method in route.methods or ()
    }
