"""Everything one process serves with, for HTTP and the command line, opened and closed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

import structlog
import torch

from app.admission import Budget, Places
from app.batcher import Batcher
from app.catalog import Catalog
from app.datasets.store import open_datasets
from app.faces.attempts import Attempts
from app.fairness import FairGate
from app.installation import choose_device, open_cache, open_registry
from app.metrics import Metrics
from app.pace import LargeQueue
from app.rates import Rates
from app.settings import Settings
from models.faces.detection import Detector, open_detector
from models.images import Limits

T = TypeVar("T")

log = structlog.get_logger()


class Service:
    """The models, the datasets, the queue in front of the device and the threads for pixels."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = choose_device(settings.device)
        self.image_limits = Limits(max_pixels=settings.max_pixels, max_side=settings.max_side)
        self.registry = open_registry(settings)
        self.catalog = Catalog(self.registry, self.device, open_cache(settings))
        # A batch is no faster per picture on a CPU, it only keeps its first picture waiting.
        default_batch = 2 if self.device.type == "cpu" else 8
        self.batcher = Batcher(
            settings.max_batch or default_batch, settings.max_wait_ms, settings.queue_limit
        )
        self.budget = Budget(settings.max_memory_bytes)
        self.restorations = Attempts(settings.restore_attempts_per_minute)
        self.rates = Rates()
        self.large_queue = LargeQueue(settings.deadline_s)
        self.metrics = Metrics()
        self._add_gauges()
        self._codecs = ThreadPoolExecutor(
            settings.codec_threads, thread_name_prefix="codec", initializer=_yield_to_event_loop
        )
        # One more than there are threads, so that none waits for the event loop.
        self._codec_turns = FairGate(settings.codec_threads + 1)
        # One large picture at a time, in no thread that a small one could need.
        self._tiler_turns = FairGate(1)
        self._tiler = ThreadPoolExecutor(1, thread_name_prefix="tiler")
        # One upload of training data at a time, beside the pictures that somebody waits for.
        self._checker = ThreadPoolExecutor(
            1, thread_name_prefix="datasets", initializer=_yield_to_event_loop
        )
        self.datasets = open_datasets(settings)
        self.dataset_uploads = Places(of_one=4, of_all=8)
        self._loading: asyncio.Task[None] | None = None
        self._detector: asyncio.Task[Detector] | None = None

    def _add_gauges(self) -> None:
        gauges: list[tuple[str, str, Callable[[], float]]] = [
            ("ready", "1 once every model is loaded", lambda: self.catalog.ready),
            ("queue_depth", "Pictures waiting for the device", lambda: self.batcher.depth),
            ("queue_limit", "Beyond it they are refused", lambda: self.settings.queue_limit),
            ("large_pictures", "Under way, to be run in tiles", lambda: self.large_queue.depth),
            ("held_bytes", "Of max_memory_bytes", lambda: self.budget.held_bytes),
            ("max_memory_bytes", "The setting", lambda: self.settings.max_memory_bytes),
            ("device_bytes", "A GPU's memory in torch's hands", self._device_bytes),
        ]
        for name, text, read in gauges:
            self.metrics.gauge(f"anamorph_{name}", text, read)

    def _device_bytes(self) -> float:
        return torch.cuda.memory_reserved(self.device) if self.device.type == "cuda" else 0.0

    def start(self, *, load: bool = True) -> None:
        """Begin to take work and to `load` the models; call within the running event loop."""
        torch.set_num_threads(self.settings.threads)
        log.info("service begins", device=str(self.device), threads=self.settings.threads)
        self.batcher.start()
        if load:
            self._checker.submit(self.datasets.sweep)
            self._loading = asyncio.create_task(self.catalog.keep_loading(self.settings.reload_s))

    async def close(self) -> None:
        """Stop taking work and wait for what runs."""
        if self._loading:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self.batcher.close()
        await self.catalog.close()
        self.datasets.close()
        for pool in (self._tiler, self._codecs, self._checker):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    async def detector(self) -> Detector:
        """Return what finds faces, opened when somebody first asks for it.

        What could not be opened is tried again: memory may have been short, or a file not there.
        """
        if self._detector is None or _failed(self._detector):
            path = self.settings.face_detector
            opening = self.in_codecs(partial(open_detector, self.device, path))
            self._detector = asyncio.create_task(opening)
        return await asyncio.shield(self._detector)  # others may wait for the same one

    def tile_px(self, scale: int) -> int:
        """Side of a tile in input pixels, for a network that enlarges `scale` times."""
        return self.settings.tile_px // scale

    async def in_codecs(self, work: Callable[[], T]) -> T:
        """Run `work()` in one of the threads for decoding, encoding and other pixel work."""
        async with self._codec_turns.turn():
            return await _to_its_end(self._codecs.submit(work))

    async def in_checker(self, work: Callable[[], T]) -> T:
        """Run `work()` in the thread that checks uploaded datasets."""
        return await asyncio.get_running_loop().run_in_executor(self._checker, work)

    async def in_tiler(
        self, work: Callable[[], T], cost_s: float, give_up: Callable[[], None]
    ) -> T:
        """Run `work()`, which takes about `cost_s`, where large pictures are cut into tiles.

        When nobody waits for it any more, `give_up` is called, and is to end it.
        """
        on_account = partial(copy_context().run, work)
        async with self._tiler_turns.turn(cost_s):
            return await _to_its_end(self._tiler.submit(on_account), give_up)


async def _to_its_end(running: Future[T], give_up: Callable[[], None] = lambda: None) -> T:
    """Wait for a thread, cancelled or not: until it is done it has its place and its memory."""
    waiting = asyncio.wrap_future(running)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        give_up()
        if not running.cancel():  # it has begun
            await asyncio.gather(waiting, return_exceptions=True)
        raise


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _yield_to_event_loop() -> None:
    """Lower this thread's priority (Linux: niceness is per thread), so that answers stay prompt."""
    if hasattr(os, "nice"):
        os.nice(5)
