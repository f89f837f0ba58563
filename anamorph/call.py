"""One request to the service and how its answer is read, as a value: whoever has it may send it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx

from anamorph.errors import UnexpectedAnswer, Unreachable, error_of
from anamorph.retries import Outcome, retry_after_s

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request.

    Attributes:
        read: makes the result of a successful answer.
        fields: of a multipart form, beside `file`.
        file: the form's one file: the field's name, and its bytes or where they lie.
        repeatable: whether it may arrive twice.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    file: tuple[str, bytes | Path] | None = None
    repeatable: bool = False

    @contextlib.contextmanager
    def arguments(self) -> Iterator[dict[str, Any]]:
        """Give the arguments of httpx's `request`; a file on the disk is open meanwhile.

        The file goes without its name, which is nobody's business.
        """
        given: dict[str, Any] = {"method": self.method, "url": self.path}
        given |= {"params": dict(self.query), "headers": dict(self.headers)}
        with contextlib.ExitStack() as stack:
            if self.json is not None:
                given["json"] = dict(self.json)
            if self.file is not None:
                name, content = self.file
                body = (
                    stack.enter_context(content.open("rb"))
                    if isinstance(content, Path)
                    else content
                )
                given |= {"data": dict(self.fields), "files": {name: ("upload", body)}}
            yield given

    def finish(self, outcome: Outcome) -> T:
        """Return the result of the last attempt.

        Raises AnamorphError: the problem that was answered, Unreachable where no answer came,
        UnexpectedAnswer for one that is not this service's.
        """
        if isinstance(outcome, httpx.RequestError):
            raise unreachable(outcome) from outcome
        if not outcome.is_success:
            raise error_of(outcome, retry_after_s(outcome))
        try:
            return self.read(outcome)
        except (ValueError, TypeError, LookupError) as error:
            raise UnexpectedAnswer(
                f"{self.method} {self.path}: not the answer of an Anamorph service",
                status=outcome.status_code,
            ) from error


def unreachable(error: httpx.RequestError) -> Exception:
    """Return the exception for no connection, a broken one, or an answer that does not unpack."""
    return Unreachable(f"{type(error).__name__}: {error}")


def segment(text: object) -> str:
    """Return a part of a path that can be taken neither for several nor for a step up."""
    quoted = quote(str(text), safe="@")
    return quoted.replace(".", "%2E") if quoted in (".", "..") else quoted


def nothing(response: httpx.Response) -> None:
    """Read an answer that says nothing more than that it is done."""
