"""Folders for uploads under way: gone when they end, however they end."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from app.errors import StorageFull

_PREFIX, _LOCK = ".incoming-", ".lock"


@contextlib.contextmanager
def incoming_folder(root: Path) -> Iterator[Path]:
    """Give a new folder below `root` that is removed at the end.

    It exists only while its lock is held, so what lies there unlocked belongs to a killed process.
    Raises StorageFull for an OSError that says so.
    """
    folder = root / f"{_PREFIX}{uuid.uuid4().hex}"
    lock = folder.with_suffix(_LOCK)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, thread_local=False):
            try:
                folder.mkdir()
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        if full := StorageFull.of(error):
            raise full from error
        raise
    finally:
        lock.unlink(missing_ok=True)


def sweep(root: Path) -> None:
    """Remove what killed processes left; folders in use are locked, and stay."""
    for lock in root.glob(f"{_PREFIX}*{_LOCK}"):
        with contextlib.suppress(Timeout, OSError), FileLock(lock, timeout=0):
            folder = lock.with_suffix("")
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                lock.unlink(missing_ok=True)
