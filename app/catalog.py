"""The models this process serves: found for requests, and kept in step with the registry."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import structlog
import torch

from app.callers import Caller
from app.compiled_cache import CompiledCache
from app.errors import InvalidParameter, NotReady, WrongTask
from app.interpolations import DETAIL_STEPS, Interpolations
from app.opening import Served, open_version
from models.errors import ModelNotFound, ModelProtected
from models.families import family
from models.family import Task
from models.registry import ModelVersion, Registry

T = TypeVar("T")

_DRAINED_S = 0.5
_AGAIN_S = 60.0
_NO_VERSION = 0

log = structlog.get_logger()


class Catalog:
    """Serves the promoted version of every name of a registry on a device.

    A switch to another version: the new one is loaded, warmed up and tried out beside the old,
    then takes its place between two requests. A request under way holds the `Served` it began
    with, so it ends with the old one, which is freed when the last of them has ended.
    """

    def __init__(self, registry: Registry, device: torch.device, cache: CompiledCache) -> None:
        self._registry = registry
        self._shipped_names = registry.shipped_names()
        self._device = device
        self._cache = cache
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="build")
        self._switching = asyncio.Lock()
        self._promoted: dict[str, int] = {}
        self._followed: dict[str, int | None] = {}
        self._served: dict[str, Served] = {}
        self._again_at: dict[str, tuple[int, float]] = {}  # what failed for the moment, and when
        self._interpolations = Interpolations(device, self._in_builder)
        self.failed: dict[str, str] = {}
        self.ready = False

    async def load(self, name: str | None = None, task: Task | None = None) -> None:
        """Serve the promoted versions, of `name` or for `task` alone if given; drop all others.

        A version that fails is logged, named in `failed` and not tried again, except after a minute
        where memory was short or its file unreadable; what its name served before goes on serving.
        Raises ModelNotFound where there is no model `name`.
        """
        promotions = await asyncio.to_thread(self._registry.promotions)
        if name and name not in promotions:
            raise ModelNotFound(f"no such model; there are: {', '.join(sorted(promotions))}")
        self._promoted = {n: v for n, v in promotions.items() if name in (None, n)}
        for other in sorted({*self._promoted, *self._followed}):
            number = self._promoted.get(other)
            failed_number, again_at = self._again_at.get(other, (number, 0.0))
            if number == self._followed.get(other):
                if self._again_at.pop(other, None):  # given up for what serves
                    self.failed.pop(other, None)
            elif number != failed_number or time.monotonic() >= again_at:
                await self._follow(other, task)
        self.ready = True

    async def keep_loading(self, interval_s: float) -> None:
        """`load` again and again, for promotions by other processes, until cancelled."""
        while True:
            try:
                await self.load()
            except Exception:  # the models at hand serve on, and the log tells
                log.exception("the models could not be listed")
            await asyncio.sleep(interval_s)

    async def switch(
        self, find: Callable[[], ModelVersion], record: Callable[[int], object]
    ) -> Served:
        """Open the version that is found, `record` its number and serve it, one at a time.

        An error changes nothing. Raises what `find`, `open_version` and `record` raise.
        """
        async with self._switching:
            version = await asyncio.to_thread(find)
            served = self._served.get(version.name)
            if served is None or served.version.version != version.version:
                served = await self._in_builder(
                    partial(open_version, version, self._device, self._cache, served)
                )
            await asyncio.to_thread(record, version.version)
            self._serve(served)
            return served

    async def delete(self, name: str, version: int) -> None:
        """Delete a version from the registry; the last of its name also serves no longer.

        Raises ModelProtected while it serves here and there are others, beside what the registry
        raises.
        """
        async with self._switching:
            served = self._served.get(name)
            serves = served is not None and served.version.version == version
            if serves and len(await asyncio.to_thread(self._registry.versions, name)) > 1:
                raise ModelProtected(f"{name}@{version} serves; promote another one first")
            await asyncio.to_thread(self._registry.delete, name, version)
            if serves:
                self._withdraw(name)

    async def _follow(self, name: str, task: Task | None) -> None:
        async with self._switching:
            # Asked again: others may have switched meanwhile.
            number = (await asyncio.to_thread(self._registry.promotions)).get(name)
            if self._followed.get(name) == number:
                return
            self._followed[name] = number
            self._again_at.pop(name, None)
            served = self._served.get(name)
            if number is None:
                self._withdraw(name)
                return
            try:
                if served is None or served.version.version != number:
                    version = await self._in_builder(
                        partial(self._registry.resolve, f"{name}@{number}")
                    )
                    if task and family(version.header.family).task is not task:
                        return
                    served = await self._in_builder(
                        partial(open_version, version, self._device, self._cache, served)
                    )
            except Exception as error:  # noqa: BLE001 -- what serves now serves on
                log.error("model not loaded", model=f"{name}@{number}", error=repr(error))
                self.failed[name] = type(error).__name__
                if _is_of_the_moment(error):
                    self._again_at[name] = number, time.monotonic() + _AGAIN_S
                    self._followed[name] = served.version.version if served else _NO_VERSION
            else:
                self._serve(served)

    def _serve(self, served: Served) -> None:
        """Let `served` take its name's place; nothing here waits, so no request sees half of it."""
        name = served.version.name
        old = self._served.get(name)
        self._served[name] = served
        self._followed[name] = served.version.version
        self.failed.pop(name, None)
        if old is not served:
            log.info("model loaded", model=served.label, instead_of=old.label if old else None)
        if old is not None and old is not served:
            self._retire(old)

    def _withdraw(self, name: str) -> None:
        self._followed.pop(name, None)
        self.failed.pop(name, None)
        old = self._served.pop(name, None)
        if old:
            log.info("model withdrawn", model=old.label)
            self._retire(old)

    def _retire(self, old: Served) -> None:
        """Forget what was made of `old`, and give its memory back once no request holds it."""
        self._interpolations.forget(old.label)
        if self._device.type == "cuda":
            loop = asyncio.get_running_loop()
            weakref.finalize(old.engine, _empty_cache_soon, loop).atexit = False

    async def close(self) -> None:
        """Let a build under way end and start no other."""
        self._interpolations.cancel()
        await asyncio.to_thread(self._builder.shutdown, cancel_futures=True)

    def models(self, caller: Caller) -> list[Served]:
        """Return what is served to the caller, by name."""
        served = (self._served[name] for name in sorted(self._served))
        return [model for model in served if caller.may_use(model.version.owner)]

    def serving(self, name: str) -> Served | None:
        """Return what serves `name` just now, if anything does."""
        return self._served.get(name)

    def get(self, reference: str, caller: Caller) -> Served:
        """Return the model "name" or "name@version", if the caller may use it.

        Raises ModelNotFound or NotReady.
        """
        name, _, version = reference.partition("@")
        served = self._served.get(name)
        if served and not caller.may_use(served.version.owner):
            served = None
        may_come = name in self._promoted or not self._promoted or not caller.sees_all
        if served is None and not self.ready and may_come:
            raise NotReady("the models are being loaded", retry_after_s=5)
        if served and version and version != str(served.version.version):
            raise ModelNotFound(f"{name}@{version} is not served; {served.label} is")
        if served is None:
            known = ", ".join(model.version.name for model in self.models(caller)) or "none"
            told = "no such model is served"
            if caller.sees_all and name in self.failed:
                told = f"{name} did not load ({self.failed[name]})"
            raise ModelNotFound(f"{told}; there are: {known}")
        return served

    def for_task(self, reference: str, task: Task, caller: Caller) -> Served:
        """Return the model if it does `task`; raises WrongTask beside what `get` raises."""
        served = self.get(reference, caller)
        if served.family.task is not task:
            task_name = served.family.task.value
            raise WrongTask(f"{served.label} is for /v1/{task_name} (anamorph {task_name})")
        return served

    async def upscaler(
        self,
        scale: int,
        detail: float | None,
        reference: str | None,
        caller: Caller,
    ) -> Served:
        """Return the network for `scale`, whose own scale may be larger, and `detail`.

        `detail` interpolates from the regression network (0) to the adversarial one (1) that names
        it in its card. Raises InvalidParameter where there is no such pair.
        """
        if reference:
            chosen = self.for_task(reference, Task.UPSCALE, caller)
        else:
            chosen = self._default_upscaler(scale, caller)
        if chosen.scale < scale:
            raise InvalidParameter(f"scale: {chosen.label} reaches {chosen.scale}")
        if reference and detail is None:
            return chosen
        pair = self._pair(chosen, caller)
        if pair is None:
            if detail:
                raise InvalidParameter(
                    f"detail: {chosen.label} has no counterpart to interpolate with"
                )
            return chosen
        step = round((detail or 0.0) * DETAIL_STEPS)
        if step == 0:
            return pair[0]
        return pair[1] if step == DETAIL_STEPS else await self._interpolations.get(*pair, step)

    def _default_upscaler(self, scale: int, caller: Caller) -> Served:
        upscalers = [m for m in self.models(caller) if m.family.task is Task.UPSCALE]
        able = [m for m in upscalers if m.scale >= scale]
        if not able:
            if not self.ready:
                raise NotReady("the models are being loaded", retry_after_s=5)
            raise ModelNotFound(f"no upscaler reaches scale {scale}")
        return min(able, key=lambda m: (m.scale, self._pair(m, caller) is None, *self._rank(m)))

    def _pair(self, model: Served, caller: Caller) -> tuple[Served, Served] | None:
        """Return (regression, adversarial) where `model` is one of them."""
        seen = self.models(caller)
        named = [m for m in seen if "regression_model" in m.version.header.card]
        for adversarial in sorted(named, key=self._rank):
            reference = str(adversarial.version.header.card["regression_model"])
            regression = self._served.get(reference.partition("@")[0])
            if regression and regression in seen and model in (regression, adversarial):
                return regression, adversarial
        return None

    def _rank(self, model: Served) -> tuple[bool, str]:
        """What ships comes first, so that a training under a new name takes nobody's place."""
        return model.version.name not in self._shipped_names, model.label

    async def _in_builder(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._builder, work)


def _is_of_the_moment(error: Exception) -> bool:
    """Tell whether the machine was at fault, or the file's place, and not what the file holds."""
    passing = OSError | MemoryError | torch.OutOfMemoryError
    return isinstance(error, passing) or isinstance(error.__cause__, passing)


def _empty_cache_soon(loop: asyncio.AbstractEventLoop) -> None:
    """Hand what torch keeps back to the GPU: a moment later, as an engine's finalizer comes first.

    In a thread, as it waits for the device.
    """
    if not loop.is_closed():
        later = partial(loop.run_in_executor, None, torch.cuda.empty_cache)
        loop.call_soon_threadsafe(loop.call_later, _DRAINED_S, later)
