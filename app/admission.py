"""What is refused rather than endured: a budget of memory, and places for slow work.

An account that holds some of the memory already leaves an eighth to the others.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from app.accounts import current_account
from app.errors import Busy, MemoryFull
from models.errors import ImageTooLarge

_LEFT_TO_OTHERS = 1 / 8


class Places:
    """So many pieces of work at a time, and of one account at most a part of them; nobody waits."""

    def __init__(self, of_one: int, of_all: int) -> None:
        self.of_one, self.of_all = of_one, of_all
        self._taken: Counter[str] = Counter()

    @contextlib.contextmanager
    def place(self, refusal: Busy) -> Iterator[None]:
        """Hold a place while inside; raises `refusal` where there is none for the account."""
        account = current_account().name
        if self._taken[account] >= self.of_one or self._taken.total() >= self.of_all:
            raise refusal
        self._taken[account] += 1
        try:
            yield
        finally:
            self._taken -= Counter({account: 1})  # which drops accounts without any


class Budget:
    """Bytes that the requests under way may hold together."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_by: Counter[str] = Counter()

    @property
    def held_bytes(self) -> int:
        """What all hold together."""
        return self.held_by.total()

    @contextlib.contextmanager
    def share(self) -> Iterator[Share]:
        """One request's share, given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            share.settle(0)


class Share:
    """What one request holds of a Budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._account = current_account().name
        self._bytes = 0

    def resize(self, size_bytes: int) -> None:
        """Hold `size_bytes` instead of what was held.

        Raises MemoryFull while others hold too much, ImageTooLarge when it could never fit.
        """
        limit = self._budget.max_bytes
        if size_bytes > limit:
            raise ImageTooLarge(
                f"the picture and its answer need about {size_bytes / 2**20:,.0f} MiB; "
                f"the limit (max_memory_bytes) is {limit / 2**20:,.0f} MiB"
            )
        if self._account and self._budget.held_by[self._account] > self._bytes:
            limit -= round(limit * _LEFT_TO_OTHERS)
        if size_bytes > self._bytes and self._budget.held_bytes - self._bytes + size_bytes > limit:
            raise MemoryFull("the pictures under way fill max_memory_bytes", retry_after_s=5)
        self.settle(size_bytes)

    def settle(self, size_bytes: int) -> None:
        """Hold `size_bytes`, which are there already, instead of what was foreseen."""
        held_by = self._budget.held_by
        held_by[self._account] += size_bytes - self._bytes
        if not held_by[self._account]:
            del held_by[self._account]  # addresses that came once do not stay in memory
        self._bytes = size_bytes
