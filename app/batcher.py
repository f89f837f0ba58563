"""One queue and one thread in front of a device: fair, with dynamic batches and isolated errors."""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from app.accounts import current_account
from app.errors import DeadlineExceeded, NotReady, QueueFull
from app.fairness import FairOrder

T = TypeVar("T")


class Forward(Protocol):
    """What the batcher asks of an engine: (B, C, H, W) -> (B, D, sH, sW), float32 on the CPU."""

    def __call__(self, batch: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """A result, how long it waited and ran, and how many shared its run."""

    value: T
    queued_s: float
    ran_s: float
    batch_size: int


@dataclass(eq=False, slots=True)
class _Item:
    key: Hashable
    run: Callable[[Sequence[Any]], Sequence[Any]]
    argument: Any
    arrived: float
    account: str
    cost_s: float
    tag: float
    alone: bool
    ran: Callable[[float], None]
    began: bool = False
    answer: asyncio.Future[Done[Any]] = field(default_factory=asyncio.Future)


class Batcher:
    """Collects pictures of one size for one engine and runs them together, in a fair order.

    The clock starts at the first waiting picture: it waits at most `max_wait_ms` for others of
    its kind, and not at all when no announced request could bring one. An error of a batch is
    found again picture by picture, so that it reaches only the pictures that cause it. Whoever is
    cancelled or late leaves the queue. Of several accounts each has its turn (`FairOrder`), and in
    a full queue its place: the account with most pictures there gives one up for one with fewer.
    To be used from one event loop.
    """

    def __init__(self, max_batch: int, max_wait_ms: float, queue_limit: int) -> None:
        self.max_batch = max_batch
        self.max_wait_s = max_wait_ms / 1000
        self.queue_limit = queue_limit
        self._queue: list[_Item] = []  # by tag
        self._order = FairOrder()
        self._announced: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._device_thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._worker: asyncio.Task[None] | None = None
        self._typical_run_s = 0.1

    def start(self) -> None:
        """Begin to take work; call within the running event loop."""
        self._worker = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Refuse what waits and let the run under way come to its end."""
        if self._worker:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._refuse(self._queue)
        await asyncio.to_thread(self._device_thread.shutdown)

    @property
    def depth(self) -> int:
        """Pictures waiting."""
        return len(self._queue)

    def ensure_room(self) -> None:
        """Raise QueueFull if the pictures waiting and announced fill the queue.

        An account with fewer of them than another is let in: the other gives one up for it.
        """
        total = len(self._queue) + self._announced.total()
        if total < self.queue_limit:
            return
        held = Counter(item.account for item in self._queue) + self._announced
        if not _greedier(held):
            raise self._full(self._announced.total())

    @contextlib.contextmanager
    def announced(self) -> Iterator[None]:
        """While inside, a picture may be on its way: a batch that could hold it waits for it."""
        account = current_account().name
        self._announced[account] += 1
        try:
            yield
        finally:
            self._announced[account] -= 1
            if not self._announced[account]:
                del self._announced[account]
            self._changed.set()

    async def submit(
        self,
        engine: Forward,
        image: Tensor,
        deadline_s: float,
        cost_s: float | None = None,
        unused: Callable[[], None] = lambda: None,
    ) -> Done[Tensor]:
        """Return the engine's answer (D, sH, sW) for one picture (C, H, W).

        `cost_s` is the time it is thought to take; by default what others took. `unused` is called
        where the picture does not run: refused, late or cancelled. Raises QueueFull, at once or
        when another account needs the place, DeadlineExceeded after `deadline_s`, and NotReady when
        stopping.
        """

        def run(images: Sequence[Tensor]) -> Sequence[Tensor]:
            return engine(torch.stack(tuple(images))).unbind(0)

        try:
            self._make_room()
        except QueueFull:
            unused()
            raise
        # The item's closure keeps the engine alive, so its id cannot be used twice meanwhile.
        key = (id(engine), *image.shape)
        return await self._enqueue(key, run, image, deadline_s, cost_s, unused)

    async def call(
        self,
        work: Callable[[], T],
        deadline_s: float,
        cost_s: float | None = None,
        ran: Callable[[float], None] = lambda seconds: None,
    ) -> Done[T]:
        """Run `work()` alone on the device's thread, in turn.

        `ran` is told the seconds it took, also where nobody waits for it any more. Raises as
        `submit` does, but never QueueFull: it is a part of something admitted before.
        """
        return await self._enqueue(
            object(), lambda works: [works[0]()], work, deadline_s, cost_s, ran=ran, alone=True
        )

    async def _enqueue(
        self,
        key: Hashable,
        run: Callable[[Sequence[Any]], Sequence[Any]],
        argument: Any,
        deadline_s: float,
        cost_s: float | None,
        unused: Callable[[], None] = lambda: None,
        ran: Callable[[float], None] = lambda seconds: None,
        *,
        alone: bool = False,
    ) -> Done[Any]:
        if self._worker is None or self._worker.done():
            unused()
            raise NotReady("the service is stopping")
        account, cost_s = current_account().name, cost_s or self._typical_run_s
        tag = self._order.tag(account, cost_s)
        item = _Item(key, run, argument, time.monotonic(), account, cost_s, tag, alone, ran)
        insort(self._queue, item, key=lambda other: other.tag)
        self._changed.set()
        try:
            async with asyncio.timeout(deadline_s):
                return await item.answer
        except TimeoutError:
            raise DeadlineExceeded("no answer within deadline_s") from None
        finally:
            if not item.began:  # it may be out of the queue: refused, or picked for a batch
                with contextlib.suppress(ValueError):
                    self._queue.remove(item)
                self._order.withdraw(item, item.cost_s, self._queue)
                self._sort()
                unused()

    def _sort(self) -> None:
        self._queue.sort(key=lambda item: item.tag)
        self._changed.set()

    def _make_room(self) -> None:
        """Refuse the last picture of the account with most of them, or raise QueueFull.

        Where all it has are parts of what was admitted before, the queue is longer for a while.
        """
        if len(self._queue) < self.queue_limit:
            return
        greedy = _greedier(Counter(item.account for item in self._queue))
        if not greedy:
            raise self._full()
        pictures = (i for i in reversed(self._queue) if i.account == greedy and not i.alone)
        last = next(pictures, None)
        if last is None:
            return
        self._queue.remove(last)
        if not last.answer.done():
            last.answer.set_exception(self._full())

    def _full(self, announced: int = 0) -> QueueFull:
        queued_s = sum(item.cost_s for item in self._queue)
        return QueueFull(
            f"{self.queue_limit} pictures (queue_limit) are waiting already",
            retry_after_s=queued_s + announced * self._typical_run_s,
        )

    async def _work(self) -> None:
        while True:
            batch = self._ready_batch()
            if not batch:
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._patience_s()):
                        await self._changed.wait()
                continue
            # No loop variable: it would hold an item, and so its engine, until the next batch.
            self._queue = [item for item in self._queue if item not in batch]
            self._order.begin(batch[0].tag)
            try:
                await self._run(batch)
            except asyncio.CancelledError:
                self._refuse(batch)
                raise

    def _refuse(self, items: Sequence[_Item]) -> None:
        for item in items:
            if not item.answer.done():
                item.answer.set_exception(NotReady("the service is stopping"))

    def _ready_batch(self) -> list[_Item]:
        if not self._queue:
            return []
        first = self._queue[0]
        alike = [item for item in self._queue if item.key == first.key][: self.max_batch]
        full = first.alone or len(alike) == self.max_batch or not self._announced
        return alike if full or self._patience_s() == 0 else []

    def _patience_s(self) -> float | None:
        """Seconds until a batch must run, as its first picture waits; None when nothing does."""
        if not self._queue:
            return None
        oldest = min(item.arrived for item in self._queue)
        return max(0.0, oldest + self.max_wait_s - time.monotonic())

    async def _run(self, batch: list[_Item]) -> None:
        batch = [item for item in batch if not item.answer.done()]
        if not batch:
            return
        for item in batch:
            item.began = True
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        arguments = [item.argument for item in batch]
        try:
            values = await loop.run_in_executor(self._device_thread, batch[0].run, arguments)
        except Exception as error:  # noqa: BLE001 -- handed to whoever waits
            if len(batch) > 1:
                for item in batch:
                    await self._run([item])
                return
            self._charge(batch, time.monotonic() - started)
            if not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        ran_s = time.monotonic() - started
        if not batch[0].alone:  # tiles are not typical
            self._typical_run_s += 0.2 * (ran_s / len(batch) - self._typical_run_s)
        self._charge(batch, ran_s)
        for item, value in zip(batch, values, strict=True):
            if not item.answer.done():
                item.answer.set_result(Done(value, started - item.arrived, ran_s, len(batch)))

    def _charge(self, batch: list[_Item], ran_s: float) -> None:
        """Tell what the batch took in the end, whether or not it succeeded."""
        for item in batch:
            more_s = ran_s / len(batch) - item.cost_s
            self._order.correct(item.account, item.tag + item.cost_s, more_s, self._queue)
            item.ran(ran_s)
        self._sort()


def _greedier(held: Counter[str]) -> str | None:
    """Return the account that holds most, if the current one with one more still has fewer."""
    account, most = held.most_common(1)[0] if held else ("", 0)
    return account if most > held[current_account().name] + 1 else None
