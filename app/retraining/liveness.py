"""Which workers are alive: each has a name of its own and touches a file while it lives.

    home/workers/<host>-<n>.lock   held by the process that is called so
    home/workers/<host>-<n>.beat   touched every two seconds

A worker that starts again takes the lowest free name of its host, so it finds its own jobs. Others
call it dead when its file has not been touched for a while by their own clock, so that clocks of
several machines need not agree.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from filelock import FileLock, Timeout

BEAT_S = 2.0
DEAD_AFTER_S = 14.0

log = structlog.get_logger()


class WorkerName:
    """A name that no other process has while this one lives."""

    def __init__(self, home: Path) -> None:
        folder = home / "workers"
        folder.mkdir(parents=True, exist_ok=True)
        for number in itertools.count():
            self.name = f"{socket.gethostname()}-{number}"
            self._lock = FileLock(folder / f"{self.name}.lock")
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                continue
            self.beat_file = folder / f"{self.name}.beat"
            return

    def __str__(self) -> str:
        return self.name


class Watch:
    """Tells the dead from the living by whether their files change."""

    def __init__(self, home: Path, dead_after_s: float = DEAD_AFTER_S) -> None:
        self._folder = home / "workers"
        self._dead_after_s = dead_after_s
        self._seen: dict[str, tuple[int, float]] = {}

    def dead(self, names: set[str]) -> list[str]:
        """Return those of `names` that have not moved for long; call it every few seconds."""
        now = time.monotonic()
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        for name in names:
            try:
                touched_ns = (self._folder / f"{name}.beat").stat().st_mtime_ns
            except OSError:
                touched_ns = 0
            if self._seen.get(name, (-1, 0.0))[0] != touched_ns:
                self._seen[name] = (touched_ns, now)
        return [name for name, (_, at) in self._seen.items() if now - at >= self._dead_after_s]


class Periodically(threading.Thread):
    """Calls `work` every `interval_s` until told to stop; a failure is logged and forgotten."""

    def __init__(self, name: str, interval_s: float, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._interval_s, self._work = interval_s, work
        self._stopping = threading.Event()

    def run(self) -> None:
        """See the class."""
        while True:
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 -- a database that is away comes back
                log.warning("periodic work failed", work=self.name, error=repr(error))
            if self._stopping.wait(self._interval_s):
                return

    def stop(self) -> None:
        """End after the call under way."""
        self._stopping.set()
