"""What the commands share that read a picture and write one."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from app.commands.common import settings_from

if TYPE_CHECKING:
    from app.service import Service
    from models.images import Format

T = TypeVar("T")

Input = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Picture to read.")]


def in_a_folder(target: Path | None) -> Path | None:
    """Refuse a file to be written where there is no folder for it, before the work."""
    if target and not target.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {target.parent}")
    return target


Output = Annotated[
    Path,
    typer.Argument(
        help="Picture to write; its suffix chooses the format.",
        dir_okay=False,
        callback=in_a_folder,
    ),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda")]
Quality = Annotated[int | None, typer.Option(min=1, max=100, help="For jpeg, webp and avif.")]


def with_service(device: str | None, work: Callable[[Service], Awaitable[T]]) -> T:
    """Return the result of `work`, for which a service runs in this process, without a deadline.

    It has no model until `work` loads one.
    """
    from app.logs import configure_logs
    from app.service import Service

    configure_logs("warning")

    async def worked() -> T:
        service = Service(settings_from(device=device, deadline_s=math.inf))
        service.start(load=False)
        try:
            return await work(service)
        finally:
            await service.close()

    return asyncio.run(worked())


def format_of(target: Path) -> Format:
    """Return the format of a file to be written; raises typer.BadParameter."""
    from models.images import FORMAT_OF_SUFFIX

    try:
        return FORMAT_OF_SUFFIX[target.suffix.lower()]
    except KeyError:
        raise typer.BadParameter(
            f"the suffix must be one of {', '.join(FORMAT_OF_SUFFIX)}"
        ) from None


def write_whole(target: Path, data: bytes) -> None:
    """Write a file whole or not at all; who may read what was there may read what is."""
    target = target.resolve()  # what a link points to, not the link
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with partial.open("xb") as file:
            if target.exists():
                shutil.copymode(target, partial)
            file.write(data)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
