"""A budget of memory, so that many uploads at a time are refused rather than the process killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from app.errors import MemoryFull
from models.errors import ImageTooLarge


class Budget:
    """Bytes that the requests under way may hold together."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0

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
        if size_bytes > self._bytes and self._budget.held_bytes - self._bytes + size_bytes > limit:
            raise MemoryFull("the pictures under way fill max_memory_bytes", retry_after_s=5)
        self.settle(size_bytes)

    def settle(self, size_bytes: int) -> None:
        """Hold `size_bytes`, which are there already, instead of what was foreseen."""
        self._budget.held_bytes += size_bytes - self._bytes
        self._bytes = size_bytes
