"""The events of a job: server-sent events (WHATWG HTML, section 9.2), over broken connections too.

The service keeps every event of a job under a number, so that a stream that breaks goes on after
the last one seen: none is missed, none comes twice.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx

from anamorph.call import segment, unreachable
from anamorph.errors import UnexpectedAnswer, error_of
from anamorph.records import JobDetails, read_as
from anamorph.retries import Outcome, Retries, retry_after_s
from anamorph.training_calls import JOBS

_SILENCE_S = 45.0  # the service sends something every 15 s
_GOOD_S = 10.0  # a connection that has lasted for so long was none that failed
_AWAY = (502, 504)  # what a proxy says while the service starts anew
_PATIENCE = 3  # times the client's retries: a restart takes longer than a full queue
_EVENT_STREAM = "text/event-stream"
_LINE_END = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)  # a \r at the end may be half of a \r\n


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a job.

    Attributes:
        kind: state, progress, sample, damaged, verdict, published, promoted, and at last end.
        data: its figures; of `end` the job as `get_job` shows it.
        id: its number, from 1; None of `end`.
    """

    kind: str
    data: dict[str, Any]
    id: int | None

    @property
    def job(self) -> JobDetails | None:
        """The job as it ended, of `end`."""
        return read_as(JobDetails, self.data) if self.kind == "end" else None


class EventParser:
    """Makes events of a stream's bytes, however they are cut."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, list[str]] = {}

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that are whole with `chunk`. Raises ValueError for other than ours."""
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        for line in map(bytes.decode, lines):
            name, _, value = line.partition(":")
            if line:
                self._fields.setdefault(name, []).append(value.removeprefix(" "))
            else:
                fields, self._fields = self._fields, {}
                if "data" in fields:
                    yield _event(fields)


def _event(fields: dict[str, list[str]]) -> Event:
    number = fields.get("id", [""])[-1]
    data = json.loads("\n".join(fields["data"]))
    if not isinstance(data, dict):
        raise ValueError("an event's data is an object")
    return Event(fields.get("event", ["message"])[-1], data, int(number) if number else None)


class Replay:
    """A job's events over as many connections as it takes; sends nothing itself.

    Ask for `request`, `take` what comes, and `pause_s` before the next connection, until `ended`.
    """

    def __init__(self, job_id: str, last_event_id: int, retries: Retries) -> None:
        self.ended = False
        self._path = f"{JOBS}/{segment(job_id)}/events"
        self._last_event_id = last_event_id
        self._retries = replace(retries, count=_PATIENCE * retries.count)
        self._failures = 0
        self._began_s = math.inf  # until a stream has begun
        self._parser = EventParser()

    def request(self, timeout: httpx.Timeout) -> dict[str, Any]:
        """Return the arguments of httpx's `stream` for a new connection."""
        self._parser = EventParser()  # half an event of the last connection comes again, whole
        self._began_s = math.inf
        return {
            "method": "GET",
            "url": self._path,
            "headers": {
                "Accept": _EVENT_STREAM,
                "Last-Event-ID": str(self._last_event_id),
            },
            "timeout": httpx.Timeout(**timeout.as_dict() | {"read": _SILENCE_S}),
        }

    def begin(self) -> None:
        """Note that the service has begun to answer."""
        self._began_s = time.monotonic()

    def take(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that are whole now, and note how far they go."""
        try:
            for event in self._parser.feed(chunk):
                self._failures = 0
                self._last_event_id = event.id or self._last_event_id
                self.ended = event.kind == "end"
                yield event
        except ValueError as error:
            raise UnexpectedAnswer(f"{self._path}: not a stream of events") from error

    def pause_s(self, outcome: Outcome) -> float:
        """Return the seconds until the next connection, after one that ended with `outcome`.

        Raises AnamorphError: the problem that was answered, UnexpectedAnswer for what is no stream
        of events, or Unreachable after too many failures without an event or some time between.
        """
        if self.ended:
            return 0.0
        silent_s = _SILENCE_S if isinstance(outcome, httpx.ReadTimeout) else 0.0
        if time.monotonic() - silent_s - self._began_s > _GOOD_S:
            self._failures = 0
        if isinstance(outcome, httpx.RequestError):
            error, again = unreachable(outcome), isinstance(outcome, httpx.ReadTimeout)
        elif outcome.is_success:  # the service left, or it was cut off
            if not outcome.headers.get("content-type", "").startswith(_EVENT_STREAM):
                raise UnexpectedAnswer(f"{self._path}: not a stream of events")
            error, again = UnexpectedAnswer(f"{self._path}: the stream ends without `end`"), True
        else:
            error, again = error_of(outcome, retry_after_s(outcome)), outcome.status_code in _AWAY
        wait_s = (
            self._retries.pause_s(self._failures)
            if again
            else self._retries.wait_s(outcome, self._failures, repeatable=True)
        )
        self._failures += 1
        if wait_s is None:
            raise error
        return wait_s
