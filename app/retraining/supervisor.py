"""The worker beside `anamorph serve`: started, started again when it dies, and never left alone."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import structlog

_STEADY_S = 60.0
_LONGEST_WAIT_S = 30.0

log = structlog.get_logger()


class Supervisor:
    """Keeps one worker process running while the context lasts.

    The worker reads its standard input and stops when that ends, which happens however this
    process ends: no worker outlives it, and none is killed in the middle of a checkpoint.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], stop_timeout_s: float
    ) -> None:
        self._command, self._environment = command, environment
        self._stop_timeout_s = stop_timeout_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Let the worker end; leaving the context waits for it."""
        self._stopping.set()

    def _run(self) -> None:
        wait_s = 1.0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                with subprocess.Popen(  # noqa: S603 -- the server's own command
                    self._command, stdin=subprocess.PIPE, env=self._environment
                ) as process:
                    self._await(process)
                end: int | str = process.returncode
            except OSError as error:  # no more processes, or no memory for one: for now
                end = str(error)
            if self._stopping.is_set():
                return
            wait_s = 1.0 if time.monotonic() - started > _STEADY_S else wait_s
            log.warning("the worker ended", status=end, again_in_s=wait_s)
            self._stopping.wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the worker ends by itself or, once this process stops, end it."""
        while process.poll() is None and not self._stopping.wait(0.2):
            pass
        assert process.stdin is not None
        process.stdin.close()
        process.terminate()  # one that is not yet up to reading its input ends at once
        try:
            process.wait(self._stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
