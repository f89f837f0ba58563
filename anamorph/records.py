"""What the service tells in JSON, as frozen objects.

Fields that are not known here are left out, so that a newer service can be talked to.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import httpx

R = TypeVar("R")
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is served; `channels_in` is 1 where it sees lightness alone."""

    name: str
    version: int
    task: str
    family: str
    scale: int
    channels_in: int
    sha256: str
    task_note: str | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDetails(Model):
    """The same with its card and where it runs; sizes in pixels."""

    device: str
    dtype: str
    backend: str
    parameters: int
    size_multiple_of: int
    size_minimum: int
    card: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model: `promoted` for every process, `serving` by the one that answered."""

    version: int
    sha256: str
    promoted: bool
    serving: bool
    lineage: dict[str, Any]
    metrics: list[dict[str, Any]]
    gate: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service takes and gives at most, a side in pixels; None where it has no limit."""

    max_upload_bytes: int
    max_pixels: int
    max_side: int
    max_frames: int
    max_output_pixels: int
    max_memory_bytes: int
    queue_limit: int
    deadline_s: float | None
    upload_timeout_s: float | None
    max_dataset_bytes: int
    max_dataset_unpacked_bytes: int
    max_dataset_files: int
    dataset_timeout_s: float | None
    requests_per_minute: int | None = None
    compute_s_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Stored training data; `bytes` of all its pictures, which `counts` counts by part."""

    id: str
    name: str
    kind: str
    created_at: datetime
    counts: dict[str, int]
    bytes: int
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class DatasetDetails(Dataset):
    """The same with the shorter sides (min, median, max; pixels) and why files are not in it."""

    sizes: dict[str, int]
    skipped: dict[str, str]


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job failed; `code` is stable."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Job:
    """A training; `position` in the queue, from 1."""

    id: str
    state: JobState
    family: str
    name: str
    dataset: str
    created_at: datetime
    position: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: JobFailure | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens unless somebody resumes it."""
        return self.state in {"succeeded", "failed", "cancelled"}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is, with its latest losses and other `figures`."""

    step: int
    steps: int
    steps_per_s: float
    seconds_left: float
    figures: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetails(Job):
    """The same with what it asked for, how far it is and what came of it.

    Attributes:
        verdict: the comparison with the version that served.
        published: name@version.
    """

    request: dict[str, Any]
    worker: str | None = None
    progress: Progress | None = None
    verdict: dict[str, Any] | None = None
    published: str | None = None
    promoted: bool = False


@dataclass(frozen=True, slots=True)
class Readiness:
    """A service that is ready: its models by name@version, and why others did not load.

    Where keys are asked for, only one with `admin` is told more than `status`.
    """

    status: str
    device: str | None = None
    models: list[str] | None = None
    failed: dict[str, str] | None = None


def read_as(kind: type[R], data: Any) -> R:
    """Return JSON as `kind`: a dataclass, a list or an optional of one, a time, or what JSON has.

    Raises TypeError or ValueError for what is not of that form.
    """
    return cast("R", _value(kind, data))


def reader(kind: type[R]) -> Callable[[httpx.Response], R]:
    """Return what reads an answer's JSON as `kind`."""
    return lambda response: read_as(kind, response.json())


def _value(kind: Any, data: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if data is None else _value(inner[0], data)
    if origin is list:
        return [_value(inner[0], item) for item in _as_list(data)]
    if origin is tuple:
        return tuple(_as_list(data))
    if kind is datetime:
        return datetime.fromisoformat(data)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        known = {f.name: data[f.name] for f in fields(kind) if f.name in data}
        return cast("Any", kind)(**{name: _value(hints[name], known[name]) for name in known})
    return data


def _as_list(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise TypeError(f"not a list but {type(data).__name__}")
    return data
