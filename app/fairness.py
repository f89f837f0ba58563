"""Whose work is next: nobody's flood keeps another account waiting for longer than what runs now.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): each piece of work gets a start tag, where
its account's work before it ends, or the tag of what runs now if that is later; the smallest tag is
next. An account that has asked for much has its further work tagged far ahead, one without recent
work is next. What work really took is told afterwards, and moves its account's further work. With
one account this is first come, first served.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from app.accounts import current_account


class Tagged(Protocol):
    """Work that waits for its turn."""

    account: str
    tag: float


class FairOrder:
    """Gives out start tags; costs are in any unit, the same for all of one order."""

    def __init__(self) -> None:
        self._now = 0.0
        self._ends: dict[str, float] = {}

    def tag(self, account: str, cost: float) -> float:
        """Return the tag of an account's next piece of work."""
        start = max(self._now, self._ends.get(account, 0.0))
        self._ends[account] = start + cost
        return start

    def begin(self, tag: float) -> None:
        """Tell that the work with this tag begins."""
        self._now = max(self._now, tag)
        self._ends = {account: end for account, end in self._ends.items() if end > self._now}

    def withdraw(self, gone: Tagged, cost: float, queued: Iterable[Tagged]) -> None:
        """Tell that tagged work will never begin: what is `queued` of its account moves up."""
        if gone.account in self._ends:
            self._ends[gone.account] -= cost
        self._move(gone.account, -cost, (other for other in queued if other.tag > gone.tag))

    def correct(self, account: str, end: float, by: float, queued: Iterable[Tagged]) -> None:
        """Tell that an account's work cost so much more than its tag was given for.

        `end` is that tag and the cost.
        """
        self._ends[account] = self._ends.get(account, end) + by
        self._move(account, by, queued)

    def _move(self, account: str, by: float, queued: Iterable[Tagged]) -> None:
        for other in queued:
            if other.account == account:
                other.tag = max(self._now, other.tag + by)


@dataclass(order=True, slots=True)
class _Waiting:
    tag: float
    number: int
    account: str = field(compare=False)
    admitted: asyncio.Future[None] = field(compare=False)


class FairGate:
    """Lets so many in at a time, whose turn it is by FairOrder; to be used from one event loop.

    Costs are seconds.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._order = FairOrder()
        self._numbers = itertools.count()
        self._waiting: list[_Waiting] = []
        self._typical_s = 0.05

    @contextlib.asynccontextmanager
    async def turn(self, cost_s: float | None = None) -> AsyncIterator[None]:
        """Wait for the current account's turn, and hold a place while inside.

        Without `cost_s` it costs what it takes.
        """
        account, cost = current_account().name, cost_s or self._typical_s
        tag = self._order.tag(account, cost)
        if self._free and not self._waiting:
            self._free -= 1
            self._order.begin(tag)
        else:
            tag = await self._wait(account, tag, cost)
        began = time.monotonic()
        try:
            yield
        finally:
            if cost_s is None:
                took_s = time.monotonic() - began
                self._order.correct(account, tag + cost, took_s - cost, self._waiting)
                self._typical_s += 0.2 * (took_s - self._typical_s)
            self._leave()

    async def _wait(self, account: str, tag: float, cost: float) -> float:
        """Wait to be let in, and return the tag, which may have moved meanwhile."""
        waiting = _Waiting(tag, next(self._numbers), account, asyncio.Future())
        self._waiting.append(waiting)
        try:
            await waiting.admitted
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiting)
            self._order.withdraw(waiting, cost, self._waiting)
            if not waiting.admitted.cancelled():
                self._leave()  # admitted and cancelled at once
            raise
        return waiting.tag

    def _leave(self) -> None:
        self._free += 1
        while self._free and self._waiting:
            first = min(self._waiting)
            self._waiting.remove(first)
            if not first.admitted.cancelled():
                self._free -= 1
                self._order.begin(first.tag)
                first.admitted.set_result(None)
