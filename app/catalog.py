"""The models this process serves: loaded, warmed up and ready to be asked for by name."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog
import torch

from app.engines import Engine, build_engine, interpolate
from app.errors import InvalidParameter, NotReady, WrongTask
from models.checkpoint import LoadedGenerator, load_generator
from models.errors import InvalidCheckpoint, ModelNotFound
from models.families import family
from models.family import Family, SizeRule, Task
from models.registry import ModelVersion, Registry

T = TypeVar("T")

_DETAIL_STEPS = 20
_MAX_INTERPOLATED = 4

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One model on its device; `label` is name@version, of two models when interpolated."""

    label: str
    sha256: str
    version: ModelVersion
    family: Family
    engine: Engine
    rule: SizeRule
    scale: int
    channels_in: int
    parameters: int


class Catalog:
    """Loads every promoted version of a registry onto a device and finds models for requests."""

    def __init__(self, registry: Registry, device: torch.device) -> None:
        self._registry = registry
        self._device = device
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="build")
        self._promoted: dict[str, ModelVersion] = {}
        self._served: dict[str, Served] = {}
        self._interpolated: OrderedDict[tuple[str, str, int], asyncio.Task[Served]] = OrderedDict()
        self.failed: dict[str, str] = {}
        self.ready = False

    async def load(self, name: str | None = None, task: Task | None = None) -> None:
        """Load every promoted model, or that of `name` or those for `task`.

        One that fails is logged and left out.
        """
        versions = await self._in_builder(self._registry.list)
        self._promoted = {
            version.name: version
            for version in versions
            if version.promoted
            and (name is None or version.name == name)
            and (task is None or family(version.header.family).task is task)
        }
        for version in self._promoted.values():
            try:
                self._served[version.name] = await self._in_builder(partial(self._open, version))
            except Exception as error:  # noqa: BLE001 -- the other models serve on
                log.error("model not loaded", model=_label(version), error=repr(error))
                self.failed[version.name] = type(error).__name__
            else:
                log.info("model loaded", model=_label(version))
        self.ready = True

    async def close(self) -> None:
        """Let a build under way end and start no other."""
        for task in self._interpolated.values():
            task.cancel()
        await asyncio.to_thread(self._builder.shutdown, cancel_futures=True)

    def models(self) -> list[Served]:
        """Return what is served, by name."""
        return [self._served[name] for name in sorted(self._served)]

    def get(self, reference: str) -> Served:
        """Return the model "name" or "name@version"; raises ModelNotFound or NotReady."""
        name, _, version = reference.partition("@")
        served = self._served.get(name)
        if served is None and not self.ready and (name in self._promoted or not self._promoted):
            raise NotReady("the models are being loaded", retry_after_s=5)
        if served is None or (version and version != str(served.version.version)):
            known = ", ".join(sorted(self._served)) or "none"
            raise ModelNotFound(f"no such model is served; there are: {known}")
        return served

    def for_task(self, reference: str, task: Task) -> Served:
        """Return the model if it does `task`; raises WrongTask beside what `get` raises."""
        served = self.get(reference)
        if served.family.task is not task:
            raise WrongTask(f"this model is asked for at /v1/{served.family.task.value}")
        return served

    async def upscaler(self, scale: int, detail: float | None, reference: str | None) -> Served:
        """Return the network for `scale`, whose own scale may be larger, and `detail`.

        `detail` interpolates from the regression network (0) to the adversarial one (1) that names
        it in its card. Raises InvalidParameter where there is no such pair.
        """
        if reference:
            chosen = self.for_task(reference, Task.UPSCALE)
        else:
            chosen = self._default_upscaler(scale)
        if chosen.scale < scale:
            raise InvalidParameter(f"scale: {chosen.label} reaches {chosen.scale}")
        if reference and detail is None:
            return chosen
        pair = self._pair(chosen)
        if pair is None:
            if detail:
                raise InvalidParameter(f"detail: {chosen.label} has no adversarial counterpart")
            return chosen
        step = round((detail or 0.0) * _DETAIL_STEPS)
        if step == 0:
            return pair[0]
        return pair[1] if step == _DETAIL_STEPS else await self._interpolation(*pair, step)

    def _default_upscaler(self, scale: int) -> Served:
        able = [m for m in self.models() if m.family.task is Task.UPSCALE and m.scale >= scale]
        if not able:
            if not self.ready:
                raise NotReady("the models are being loaded", retry_after_s=5)
            raise ModelNotFound(f"no upscaler reaches scale {scale}")
        return min(able, key=lambda m: (m.scale, self._pair(m) is None, m.label))

    def _pair(self, model: Served) -> tuple[Served, Served] | None:
        """Return (regression, adversarial) where `model` is one of them."""
        for adversarial in self.models():
            reference = str(adversarial.version.header.card.get("regression_model", ""))
            regression = self._served.get(reference.partition("@")[0])
            if regression and model in (regression, adversarial):
                return regression, adversarial
        return None

    async def _interpolation(self, regression: Served, adversarial: Served, step: int) -> Served:
        key = (regression.label, adversarial.label, step)
        task = self._interpolated.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            detail = step / _DETAIL_STEPS
            task = asyncio.create_task(
                self._in_builder(lambda: self._open_between(regression, adversarial, detail))
            )
            self._interpolated[key] = task
        self._interpolated.move_to_end(key)
        while len(self._interpolated) > _MAX_INTERPOLATED:
            self._interpolated.popitem(last=False)
        return await asyncio.shield(task)  # others may wait for the same one

    def _open(self, version: ModelVersion) -> Served:
        loaded = load_generator(version.path)
        return self._warm(loaded, version, _label(version), version.sha256)

    def _open_between(self, regression: Served, adversarial: Served, detail: float) -> Served:
        first, second = (load_generator(m.version.path) for m in (regression, adversarial))
        return self._warm(
            interpolate(first, second, detail),
            adversarial.version,
            f"{regression.label}, {adversarial.label}",
            f"{regression.sha256}, {adversarial.sha256}",
        )

    def _warm(
        self, loaded: LoadedGenerator, version: ModelVersion, label: str, sha256: str
    ) -> Served:
        engine = build_engine(loaded, self._device)
        rule = loaded.family.size_rule(loaded.config)
        channels_in = int(getattr(loaded.config, "channels_in", 3))
        if channels_in not in (1, 3):
            raise InvalidCheckpoint(f"{label} takes {channels_in} channels, not a picture")
        engine(torch.rand(1, channels_in, *rule.padded(64, 64)) * 2 - 1)
        return Served(
            label=label,
            sha256=sha256,
            version=version,
            family=loaded.family,
            engine=engine,
            rule=rule,
            scale=loaded.family.scale(loaded.config),
            channels_in=channels_in,
            parameters=sum(p.numel() for p in loaded.module.parameters()),
        )

    async def _in_builder(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._builder, work)


def _label(version: ModelVersion) -> str:
    return f"{version.name}@{version.version}"
