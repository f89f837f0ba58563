"""What the service refuses, as exceptions: one class for each code of its problems (RFC 9457).

The table below is all there is to say: a class is made for each code, below the class that callers
would catch for all of its kind. A code that is not in the table, of a newer service, becomes the
class of its status; its `code` is the service's all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx


class AnamorphError(Exception):
    """Base of everything this package raises for a call; its text is the problem's `detail`.

    Attributes:
        code: stable, to branch on.
        status: of the HTTP answer; None where none came.
        detail: for people.
        errors: the parameters at fault: {"field": ..., "message": ...}.
        problem: all that the service told, `verdict` of a refused promotion for example.
        retry_after_s: when another try is worth it, where the service says so.
        request_id: by which the service's log has the request.
    """

    code = "error"

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
        self.errors: list[dict[str, str]] = list(self.problem.get("errors") or [])
        self.retry_after_s = retry_after_s
        self.request_id = request_id


_BY_CODE: dict[str, type[AnamorphError]] = {}


def _error(code: str, base: type[AnamorphError] = AnamorphError) -> type[AnamorphError]:
    name = code.title().replace("_", "")
    members = {"__module__": __name__, "__doc__": f"The code `{code}`.", "code": code}
    _BY_CODE[code] = type(name, (base,), members)
    return _BY_CODE[code]


# What this side finds out by itself.
Unreachable = _error("unreachable")  # no connection, or no whole answer
UnexpectedAnswer = _error("unexpected_answer")  # not what an Anamorph service says

# Kinds, each also a code that a service may answer with.
Unauthenticated = _error("unauthenticated")
Forbidden = _error("forbidden")
NotFound = _error("not_found")
Conflict = _error("conflict")
TooLarge = _error("too_large")
Invalid = _error("invalid")
Busy = _error("busy")  # worth another try: after `retry_after_s`
InternalError = _error("internal_error")

BadRequest = _error("bad_request", Invalid)
BadMultipart = _error("bad_multipart", Invalid)
MissingImage = _error("missing_image", Invalid)
SeveralImages = _error("several_images", Invalid)
InvalidParameter = _error("invalid_parameter", Invalid)
WrongTask = _error("wrong_task", Invalid)
NotAcceptable = _error("not_acceptable", Invalid)
MethodNotAllowed = _error("method_not_allowed", Invalid)
WrongHost = _error("wrong_host", Invalid)
UnsupportedEncoding = _error("unsupported_encoding", Invalid)
UnusableImage = _error("unusable_image", Invalid)
UnsupportedImage = _error("unsupported_image", UnusableImage)
CorruptImage = _error("corrupt_image", UnusableImage)
NoFace = _error("no_face", Invalid)
InvalidPasscode = _error("invalid_passcode", Invalid)
NoSeal = _error("no_seal", Invalid)
DamagedSeal = _error("damaged_seal", Invalid)
UnusableModel = _error("unusable_model", Invalid)
UnknownLayout = _error("unknown_layout", UnusableModel)
InvalidCheckpoint = _error("invalid_checkpoint", UnusableModel)
TrainingError = _error("training_error", Invalid)
InvalidRecipe = _error("invalid_recipe", TrainingError)
InvalidDataset = _error("invalid_dataset", TrainingError)
DivergedTraining = _error("diverged_training", TrainingError)

ScopeMissing = _error("scope_missing", Forbidden)
WrongPasscode = _error("wrong_passcode", Forbidden)
ForeignPage = _error("foreign_page", Forbidden)

ModelNotFound = _error("model_not_found", NotFound)
DatasetNotFound = _error("dataset_not_found", NotFound)
JobNotFound = _error("job_not_found", NotFound)

DatasetInUse = _error("dataset_in_use", Conflict)
JobConflict = _error("job_conflict", Conflict)
NameTaken = _error("name_taken", Conflict)
ModelProtected = _error("model_protected", Conflict)
GateRefused = _error("gate_refused", Conflict)
MissingFeatures = _error("missing_features", Conflict)

UploadTooLarge = _error("upload_too_large", TooLarge)
ImageTooLarge = _error("image_too_large", TooLarge)
TakesTooLong = _error("takes_too_long", TooLarge)

QueueFull = _error("queue_full", Busy)
MemoryFull = _error("memory_full", Busy)
OutOfMemory = _error("out_of_memory", Busy)
NotReady = _error("not_ready", Busy)
JobsUnavailable = _error("jobs_unavailable", Busy)
KeysUnavailable = _error("keys_unavailable", Busy)
TooManyAttempts = _error("too_many_attempts", Busy)
RateLimited = _error("rate_limited", Busy)

UploadTimeout = _error("upload_timeout")
DeadlineExceeded = _error("deadline_exceeded")
ClientLeft = _error("client_left")
StorageFull = _error("storage_full")

_BY_STATUS = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
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
