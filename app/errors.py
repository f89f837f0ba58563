"""What can go wrong in a request, beside what goes wrong in `models`; their texts may be shown.

`app.error_codes` gives each a status and a stable code.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Sequence
from typing import Any

from models.errors import AnamorphError
from models.faults import text_of

_PLACES = {"body", "query", "path", "header"}
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
    """The request is for a name that DNS may give to anyone, and not one of the service's."""


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

    `faults` names each: {"field": ..., "message": ...}; that of a message "field: ..." is in it.
    """

    def __init__(self, message: str, faults: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        field, colon, text = message.partition(": ")
        named = [{"field": field, "message": text}] if colon and field.isidentifier() else []
        self.faults = faults or named

    @classmethod
    def of(cls, errors: list[Any]) -> InvalidParameter:
        """Build from pydantic's error list, without repeating what the client sent."""
        faults = [_fault(error) for error in errors[:16]]
        text = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
        return cls(text, faults)


def _fault(error: Any) -> dict[str, str]:
    """Say of one of pydantic's or FastAPI's errors what the client can do about it."""
    location, text = error["loc"], text_of(error)
    match error["type"]:
        case "extra_forbidden":
            text = "there is no such parameter"
        case "model_attributes_type" if location == ("body",):  # also of JSON sent as a form
            text = "send a JSON object, with Content-Type: application/json"
        case "json_invalid" if location[0] == "body":
            text = f"no valid JSON: {error['ctx']['error']} (at character {location[-1]})"
            location = location[:-1]
    if len(location) > 1 and location[0] in _PLACES:  # as FastAPI says of what it reads itself
        location = location[1:]
    return {"field": ".".join(map(str, location))[:64], "message": text}


class WrongTask(ServiceError):
    """The model exists and serves another endpoint."""


class NotAcceptable(ServiceError):
    """The Accept header names nothing this service can answer."""


class UnsupportedEncoding(ServiceError):
    """A compressed request body (Content-Encoding)."""


class UploadTooLarge(ServiceError):
    """The body is longer than pictures', datasets' or JSON may be."""


class DatasetNotFound(ServiceError):
    """No dataset of that id."""


class DatasetInUse(ServiceError):
    """The dataset cannot be deleted while a training uses it."""


class StorageFull(ServiceError):
    """The disk with `home` is full; nothing was kept of the upload."""

    @classmethod
    def of(cls, error: OSError) -> StorageFull | None:
        """Return what an operating system's error means, if it is this."""
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return None
        return cls("the disk with the service's folder is full")


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
    """`queue_limit` pictures are waiting already, or too many networks between two others."""


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
