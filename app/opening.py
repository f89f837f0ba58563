"""From a version's file to a network on its device, warmed up and tried out."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
import torch
from torch import Tensor

from app.compiled_cache import CompiledCache
from app.engines import Engine, build_engine, interpolate, probe_picture
from app.errors import NotReady
from app.pace import Pace, measure_pace
from models.blocks import parameter_count
from models.checkpoint import LoadedGenerator, load_generator
from models.errors import InvalidCheckpoint
from models.family import Family, SizeRule, Task, channels
from models.registry import ModelVersion
from models.views import View, view_of

_GOLDEN_PX = 64
_PACE_PX = 384  # side of the answer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One model on its device; `label` is name@version, of two models when interpolated."""

    label: str
    sha256: str
    version: ModelVersion
    family: Family
    engine: Engine
    pace: Pace
    rule: SizeRule
    scale: int
    channels_in: int
    view: View
    parameters: int

    @property
    def compute(self) -> str:
        """Where it runs, and in what precision."""
        return f"{self.engine.device}; {self.engine.dtype}"


def open_version(
    version: ModelVersion,
    device: torch.device,
    cache: CompiledCache | None = None,
    before: Served | None = None,
) -> Served:
    """Load a version onto `device` and try it out; `before` is what serves its name so far.

    Raises InvalidCheckpoint for a file that does not load, or whose answer to a golden picture is
    of another size, constant or not finite.
    """
    loaded = load_generator(version.path)
    return _open(loaded, version, version.label, version.sha256, device, cache, before)


def open_between(
    regression: Served, adversarial: Served, detail: float, device: torch.device
) -> Served:
    """Return the upscaler `detail` of the way between two.

    Raises as `open_version` does, and NotReady where a file is gone: others are to serve then.
    """
    try:
        first, second = (load_generator(m.version.path) for m in (regression, adversarial))
    except InvalidCheckpoint as error:
        log.warning("no network between two", detail=detail, error=str(error))
        raise NotReady("the models have just been exchanged", retry_after_s=5) from error
    return _open(
        interpolate(first, second, detail),
        adversarial.version,
        f"{regression.label}, {adversarial.label}",
        f"{regression.sha256}, {adversarial.sha256}",
        device,
    )


def _open(
    loaded: LoadedGenerator,
    version: ModelVersion,
    label: str,
    sha256: str,
    device: torch.device,
    cache: CompiledCache | None = None,
    before: Served | None = None,
) -> Served:
    if loaded.family.task is not Task.ANONYMIZE:
        _check_channels(loaded, label)
    engine = build_engine(loaded, device, cache)
    scale = loaded.family.scale(loaded.config)
    golden = probe_picture(loaded, _GOLDEN_PX)
    try:
        _check_answer(engine(golden), golden, scale)
    except (InvalidCheckpoint, FloatingPointError) as error:
        raise InvalidCheckpoint(f"{label} fails on a test picture: {error}") from error
    pace = _known_pace(before, version, engine)
    return Served(
        label=label,
        sha256=sha256,
        version=version,
        family=loaded.family,
        engine=engine,
        pace=pace or measure_pace(engine, probe_picture(loaded, _PACE_PX // scale)),
        rule=loaded.family.size_rule(loaded.config),
        scale=scale,
        channels_in=channels(loaded.config)[0],
        view=view_of(loaded.config),
        parameters=parameter_count(loaded.module),
    )


def _known_pace(before: Served | None, version: ModelVersion, engine: Engine) -> Pace | None:
    """Return the pace of a network that differs in its weights alone, if `before` is one.

    Measuring takes the device from the requests of a service that swaps versions under load.
    """
    if before is None:
        return None
    old, new = before.version.header, version.header
    alike = (old.family, old.generator) == (new.family, new.generator)
    alike &= (before.engine.backend, before.engine.dtype) == (engine.backend, engine.dtype)
    return before.pace if alike else None


def _check_channels(loaded: LoadedGenerator, label: str) -> None:
    taken, given = channels(loaded.config)
    if taken not in (1, 3) or given not in (1, 2, 3) or (given == 2 and taken != 1):
        raise InvalidCheckpoint(
            f"{label} turns {taken} channels into {given}, not a picture into another"
        )


def _check_answer(answer: Tensor, picture: Tensor, scale: int) -> None:
    """Raise InvalidCheckpoint for an answer no picture could have; the engine has seen to NaN."""
    height, width = picture.shape[2:]
    if answer.shape[2:] != (height * scale, width * scale):
        raise InvalidCheckpoint(
            f"{width} x {height} pixels became {answer.shape[3]} x {answer.shape[2]}"
        )
    low, high = answer.clamp(-1, 1).aminmax()
    if low == high:
        raise InvalidCheckpoint("the answer is one flat colour")
