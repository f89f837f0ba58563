"""Every setting of the service, each also an `ANAMORPH_...` environment variable."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic.types import PathType
from pydantic_settings import BaseSettings, SettingsConfigDict

import models
from app.machine import usable_cores, usable_memory_bytes

_MIB = 1024**2
_GIB = 1024**3
_PREFIX = "ANAMORPH_"
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9._-]+)(:[0-9]+)?")


def _three_quarters_of_memory() -> int | None:
    memory_bytes = usable_memory_bytes()
    return None if memory_bytes is None else memory_bytes * 3 // 4


def _expanded(path: Path) -> Path:
    """Expand ~, as only a shell does, and not every variable comes from one."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: no home folder is known; set {_PREFIX}HOME") from error


_Path = Annotated[Path, AfterValidator(_expanded)]
_File = Annotated[_Path, PathType("file")]


class Settings(BaseSettings):
    """Frozen; arguments win over the environment, the environment over the defaults.

    Only this module reads the environment. Sizes are in bytes or pixels, times as their names say.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    home: _Path = Field(
        Path("~/.anamorph"),
        description="The one folder that holds everything the service keeps.",
    )
    shipped_weights: _Path = Field(
        Path(models.__file__).parent / "weights",
        description="Models beside those in `home`; a folder that is empty or absent has none.",
    )
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Where a proxy has put the service, if it takes this off: /pictures.",
    )
    require_keys: bool = Field(
        False, description="Ask for keys on a loopback address, too: behind a proxy."
    )
    insecure: bool = Field(False, description="Ask for no keys, not even on other addresses.")
    hosts: str = Field(
        "",
        pattern=r"^([^\s/:,]+(,[^\s/:,]+)*)?$",
        description="Names to answer to without keys, beside localhost, addresses and names "
        "without a dot: pictures.example.org, with commas.",
    )
    cors_origins: str = Field(
        "",
        description="Web pages that may ask from a browser: https://example.org, with commas.",
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(
        default_factory=usable_cores,
        ge=1,
        description="Threads of one forward pass.",
    )
    codec_threads: int = Field(
        default_factory=lambda: max(2, usable_cores()),
        ge=1,
        description="Pictures decoded or encoded at a time.",
    )
    reload_s: float = Field(
        1.0, gt=0, description="How often promotions by other processes are looked for."
    )
    worker: bool = Field(True, description="Start one worker that trains beside the service.")
    worker_threads: int = Field(
        default_factory=lambda: max(1, usable_cores() // 2),
        ge=1,
        description="Threads of a training step on a CPU.",
    )
    worker_niceness: int = Field(
        10, ge=0, le=19, description="Of the worker on a CPU: 0 is as important as the service."
    )
    worker_memory_bytes: int | None = Field(
        default_factory=_three_quarters_of_memory,
        ge=512 * _MIB,
        description="What the worker may have on a CPU; a job that needs more fails.",
    )
    worker_pause_ms: float = Field(
        2.0, ge=0, description="Between two training steps on a GPU, left to the service."
    )
    database_url: str | None = Field(
        None,
        repr=False,
        description="Of the queue of jobs; by default an SQLite file in `home`.",
    )
    vgg16: _File | None = Field(None, description="VGG16 weights, for training and evaluation.")
    face_detector: _File | None = Field(
        None, description="ONNX file of YuNet, to find faces instead of the MTCNN that is built in."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    max_upload_bytes: int = Field(64 * _MIB, ge=1)
    max_pixels: int = Field(50_000_000, ge=1, description="Of an uploaded picture.")
    max_side: int = Field(16_384, ge=1, description="Of an uploaded picture, in pixels.")
    max_output_pixels: int = Field(400_000_000, ge=1)
    max_memory_bytes: int = Field(
        3 * _GIB,
        ge=1,
        description="Uploads, decoded pictures and answers held at a time, together.",
    )
    whole_pixels: int = Field(
        2_100_000, ge=1, description="A picture whose answer has more pixels is run in tiles."
    )
    tile_px: int = Field(1440, ge=64, description="Side of a tile's answer, in pixels.")

    queue_limit: int = Field(64, ge=1, description="Pictures waiting for the device.")
    max_batch: int | None = Field(
        None, ge=1, description="Pictures in one forward pass; by default 8 on a GPU, 2 on a CPU."
    )
    max_wait_ms: float = Field(
        5.0, ge=0, description="How long the first picture of a batch waits for others."
    )
    deadline_s: float = Field(
        600.0,
        gt=0,
        description="From the upload's last byte to what the network makes; encoding follows.",
    )
    upload_timeout_s: float = Field(
        60.0,
        gt=0,
        description="For a whole upload, and for a client to take a piece of the answer.",
    )
    keep_alive_s: int = Field(
        125, ge=0, description="How long a connection stays open for another request."
    )
    requests_per_minute: int | None = Field(
        None, ge=1, description="Of each key that has no limit of its own; None: no limit."
    )
    compute_s_per_minute: int | None = Field(
        None, ge=1, description="The same, of the device's time."
    )
    restore_attempts_per_minute: int = Field(
        10,
        ge=1,
        description="Wrong passcodes for /v1/restore, of one client and for one picture.",
    )
    max_dataset_bytes: int = Field(2 * _GIB, ge=1, description="Of an uploaded zip.")
    max_dataset_unpacked_bytes: int = Field(8 * _GIB, ge=1, description="Of all its pictures.")
    max_dataset_files: int = Field(50_000, ge=1, description="In an uploaded zip, of any kind.")
    dataset_timeout_s: float = Field(3600.0, gt=0, description="For a zip to arrive.")
    shutdown_timeout_s: int = Field(
        30, ge=0, description="For requests and a training step under way at SIGTERM."
    )
    drain_s: float = Field(
        0.0, ge=0, description="How long /readyz is 503 at least before the port closes."
    )

    @field_validator("port", mode="before")
    @classmethod
    def _no_service_link(cls, given: object) -> object:
        """Kubernetes puts the address of a Service called anamorph into ANAMORPH_PORT."""
        is_link = isinstance(given, str) and given.startswith("tcp://")
        return cls.model_fields["port"].default if is_link else given

    @field_validator("cors_origins")
    @classmethod
    def _as_browsers_send_them(cls, given: str) -> str:
        origins = given.lower().split(",") if given else []
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin such as https://example.org")
        ports = {"http": ":80", "https": ":443"}  # which browsers leave out
        return ",".join(o.removesuffix(ports[o.partition(":")[0]]) for o in origins)

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, url: str | None) -> str | None:
        if url is not None:
            from sqlalchemy.engine import make_url  # late, as most commands ask no database
            from sqlalchemy.exc import SQLAlchemyError

            try:
                kind = make_url(url).get_backend_name()
            except (SQLAlchemyError, ValueError):
                kind = ""
            if kind not in ("postgresql", "sqlite"):
                raise ValueError("it is not of the form postgresql://user:password@host/database")
        return url

    @model_validator(mode="after")
    def _no_contradictions(self) -> Self:
        if self.require_keys and self.insecure:
            raise ValueError("require_keys and insecure contradict each other")
        if self.drain_s > self.shutdown_timeout_s:
            raise ValueError(
                f"drain_s = {self.drain_s:g} is longer than shutdown_timeout_s = "
                f"{self.shutdown_timeout_s}, after which the port closes in any case"
            )
        return self


def unknown_variables() -> list[str]:
    """Return the names in the environment that look like settings and are none."""
    known = {_PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(n for n in os.environ if n.upper().startswith(_PREFIX) and n.upper() not in known)


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which a child process has the same settings as this one."""
    given = settings.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return os.environ | {f"{_PREFIX}{name.upper()}": str(value) for name, value in given.items()}
