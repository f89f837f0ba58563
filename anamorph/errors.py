"""What the service refuses, as exceptions: one class for each code of its problems (RFC 9457).

Each class stands below the one that callers would catch for all of its kind. A code of a newer
service, without a class, becomes the class of its status; its `code` is the service's all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx

_INNER_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


class AnamorphError(Exception):
    """Base of everything this package raises for a call; its text is the problem's `detail`.

    Attributes:
        code: stable, to branch on: the class's name, `queue_full` of QueueFull.
        status: of the HTTP answer; None where none came.
        detail: for people.
        errors: the parameters at fault: {"field": ..., "message": ...}.
        problem: all that the service told, `verdict` of a refused promotion for example.
        retry_after_s: when another try is worth it, where the service says so.
        request_id: by which the service's log has the request.
    """

    code = "error"

    def __init_subclass__(cls) -> None:
        cls.code = _INNER_CAPITAL.sub("_", cls.__name__).lower()

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        problem: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code or type(self).code
        self.status = status
        self.detail = detail
        self.problem = dict(problem or {})
        errors = self.problem.get("errors")
        self.errors: list[dict[str, str]] = errors if isinstance(errors, list) else []
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class Unreachable(AnamorphError):
    """No connection, or no whole answer."""


class UnexpectedAnswer(AnamorphError):
    """What was answered is not an Anamorph service's."""


class Unauthenticated(AnamorphError):
    """A key is needed."""


class Forbidden(AnamorphError):
    """The key, the page or the passcode is not for this."""


class NotFound(AnamorphError):
    """There is no such thing."""


class Conflict(AnamorphError):
    """Not in this state."""


class TooLarge(AnamorphError):
    """The upload, the picture or its answer is beyond a limit."""


class Invalid(AnamorphError):
    """A faulty request, picture, parameter or recipe."""


class Busy(AnamorphError):
    """Worth another try, after `retry_after_s`."""


class InternalError(AnamorphError):
    """Something went wrong in the service."""


class BadRequest(Invalid):
    """The request cannot be answered."""


class BadMultipart(Invalid):
    """The multipart body does not parse."""


class MissingImage(Invalid):
    """No image in the request."""


class SeveralImages(Invalid):
    """More than one image in the request."""


class InvalidParameter(Invalid):
    """A parameter is not valid."""


class WrongTask(Invalid):
    """The model serves another endpoint."""


class NotAcceptable(Invalid):
    """No acceptable answer format."""


class MethodNotAllowed(Invalid):
    """The path has no such method."""


class WrongHost(Invalid):
    """The service is not called that."""


class UnsupportedEncoding(Invalid):
    """The body must not be compressed."""


class UnusableImage(Invalid):
    """The image cannot be used."""


class UnsupportedImage(UnusableImage):
    """The format is not taken."""


class CorruptImage(UnusableImage):
    """The image does not decode."""


class NoFace(Invalid):
    """No face was found."""


class InvalidPasscode(Invalid):
    """The passcode is not valid."""


class NoSeal(Invalid):
    """The picture carries no sealed faces."""


class DamagedSeal(Invalid):
    """The sealed picture was altered."""


class UnusableModel(Invalid):
    """The model cannot be used."""


class UnknownLayout(UnusableModel):
    """The checkpoint's layout is not known."""


class InvalidCheckpoint(UnusableModel):
    """The checkpoint is damaged."""


class TrainingError(Invalid):
    """The training cannot run."""


class InvalidRecipe(TrainingError):
    """The recipe is not valid."""


class InvalidDataset(TrainingError):
    """The dataset cannot be used."""


class DivergedTraining(TrainingError):
    """The training diverged."""


class ScopeMissing(Forbidden):
    """The key is not for this."""


class WrongPasscode(Forbidden):
    """The passcode is wrong."""


class ForeignPage(Forbidden):
    """Another site's page may not do this."""


class ModelNotFound(NotFound):
    """No such model."""


class DatasetNotFound(NotFound):
    """No such dataset."""


class JobNotFound(NotFound):
    """No such training job."""


class DatasetInUse(Conflict):
    """The dataset is in use."""


class JobConflict(Conflict):
    """The job is not in a state for that."""


class NameTaken(Conflict):
    """The name is taken."""


class ModelProtected(Conflict):
    """The version must stay."""


class GateRefused(Conflict):
    """The version did not pass."""


class MissingFeatures(Conflict):
    """Weights that this needs are missing."""


class UploadTooLarge(TooLarge):
    """The upload is too large."""


class ImageTooLarge(TooLarge):
    """The image is too large."""


class TakesTooLong(TooLarge):
    """The picture would take too long."""


class QueueFull(Busy):
    """The queue is full."""


class MemoryFull(Busy):
    """Too many large pictures are under way."""


class OutOfMemory(Busy):
    """The device ran out of memory."""


class NotReady(Busy):
    """The service is not ready."""


class JobsUnavailable(Busy):
    """The queue of jobs does not answer."""


class KeysUnavailable(Busy):
    """The keys cannot be checked."""


class TooManyAttempts(Busy):
    """Too many attempts."""


class RateLimited(Busy):
    """Too many requests."""


class UploadTimeout(AnamorphError):
    """The upload took too long."""


class DeadlineExceeded(AnamorphError):
    """The answer took too long."""


class ClientLeft(AnamorphError):
    """The client closed the connection."""


class StorageFull(AnamorphError):
    """The disk is full."""


_BY_CODE = {
    known.code: known
    for known in list(globals().values())
    if isinstance(known, type) and issubclass(known, AnamorphError)
}
_BY_STATUS = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: Invalid,
    406: Invalid,
    409: Conflict,
    413: TooLarge,
    415: Invalid,
    421: Invalid,
    422: Invalid,
    429: Busy,
    500: InternalError,
    503: Busy,
}


def class_of(code: str, status: int | None = None) -> type[AnamorphError]:
    """Return the exception for a code, else the one for the status, else the base."""
    return _BY_CODE.get(code) or _BY_STATUS.get(status or 0, AnamorphError)


def error_of(response: httpx.Response, retry_after_s: float | None) -> AnamorphError:
    """Return the exception for an answer that is no success, and whose body was read."""
    try:
        body = response.json()
    except ValueError:
        body = None
    problem: dict[str, Any] = body if isinstance(body, dict) else {}
    status = response.status_code
    code = str(problem.get("code") or f"http_{status}")
    told = problem.get("detail") or problem.get("title")
    return class_of(code, status)(
        str(told or f"the answer is HTTP {status} {response.reason_phrase}"),
        code=code,
        status=status,
        problem=problem,
        retry_after_s=retry_after_s,
        request_id=response.headers.get("x-request-id"),
    )
