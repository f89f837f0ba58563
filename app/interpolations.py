"""Upscalers between a regression network and its adversarial counterpart, made when asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial

import torch

from app.admission import Places
from app.errors import QueueFull
from app.fairness import FairGate
from app.opening import Served, open_between

DETAIL_STEPS = 20
_KEPT = 4

InBuilder = Callable[[Callable[[], Served]], Awaitable[Served]]


class Interpolations:
    """Keeps those that were asked for last. Of several accounts each has its turn.

    To be used from one event loop.
    """

    def __init__(self, device: torch.device, in_builder: InBuilder) -> None:
        self._device, self._in_builder = device, in_builder
        self._tasks: OrderedDict[tuple[str, str, int], asyncio.Task[Served]] = OrderedDict()
        self._turns = FairGate(1)
        self._places = Places(of_one=4, of_all=16)  # made one after the other, in seconds each

    async def get(self, regression: Served, adversarial: Served, step: int) -> Served:
        """Return the network at `step` of DETAIL_STEPS from the first to the second.

        Raises QueueFull while too many are being made, beside what `open_between` raises.
        """
        key = (regression.label, adversarial.label, step)
        task = self._tasks.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            detail = step / DETAIL_STEPS
            task = self._begin(partial(open_between, regression, adversarial, detail, self._device))
            self._tasks[key] = task
        self._tasks.move_to_end(key)
        for made in [key for key, task in self._tasks.items() if task.done()][:-_KEPT]:
            del self._tasks[made]
        return await asyncio.shield(task)  # others may wait for the same one

    def forget(self, label: str) -> None:
        """Drop what was made of a version, or is being made."""
        for key in [key for key in self._tasks if label in key[:2]]:
            del self._tasks[key]

    def cancel(self) -> None:
        """Let no further one begin."""
        for task in self._tasks.values():
            task.cancel()

    def _begin(self, make: Callable[[], Served]) -> asyncio.Task[Served]:
        held = contextlib.ExitStack()
        full = QueueFull("networks of other details are being made", retry_after_s=10)
        held.enter_context(self._places.place(full))

        async def in_turn() -> Served:
            with held:
                async with self._turns.turn():
                    return await self._in_builder(make)

        return asyncio.create_task(in_turn())
