"""Whether a call is sent again, and when: decided here and nowhere else, without sending anything.

A call is sent again where that is worth it (the service was full, or the connection broke) and
safe: it changes nothing, or changes the same thing once however often it arrives. A call that never
left this machine is always safe.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

Outcome = httpx.Response | httpx.RequestError

_FULL = (429, 503)
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError)
_FIRST_WAIT_S, _LONGEST_BACKOFF_S = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and for how long, a client waits for the service.

    Attributes:
        count: further attempts after the first; 0 for none.
        max_wait_s: a Retry-After that asks for longer is not waited for: the error is raised, and
            says when. The client's own waits grow no longer than this and a quarter.
    """

    count: int = 4
    max_wait_s: float = 60.0

    def wait_s(self, outcome: Outcome, attempt: int, *, repeatable: bool) -> float | None:
        """Return the seconds to wait before the next attempt; None where the outcome stands.

        Args:
            outcome: of the attempt.
            attempt: its number, from 0.
            repeatable: whether the service may get the call twice.
        """
        if not _worth_another(outcome, repeatable=repeatable):
            return None
        return self.pause_s(attempt, retry_after_s(outcome))

    def pause_s(self, attempt: int, asked_s: float | None = None) -> float | None:
        """Return `asked_s`, or twice the last pause, and a little more; None after enough of them.

        The little more keeps clients who were refused together from coming back together.
        """
        longest_s = min(_LONGEST_BACKOFF_S, self.max_wait_s)
        doubled_s = min(_FIRST_WAIT_S * 2.0 ** min(attempt, 10), longest_s)
        least_s = doubled_s if asked_s is None else asked_s
        if attempt >= self.count or least_s > self.max_wait_s:
            return None
        return least_s * random.uniform(1.0, 1.25)  # noqa: S311 - it spreads load, no secret


def _worth_another(outcome: Outcome, *, repeatable: bool) -> bool:
    if isinstance(outcome, _NOTHING_SENT):
        return True
    if isinstance(outcome, httpx.Response):
        return repeatable and outcome.status_code in _FULL
    return repeatable and isinstance(outcome, _BROKEN)


def retry_after_s(outcome: Outcome | None) -> float | None:
    """Return what Retry-After asks for (RFC 9110, 10.2.3: seconds or a date), if it does."""
    text = outcome.headers.get("retry-after", "") if isinstance(outcome, httpx.Response) else ""
    if text.isdecimal():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
