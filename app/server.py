"""`anamorph serve`: the HTTP server, and the worker beside it."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import structlog
import uvicorn

from app.logs import configure_logs
from app.main import create_app
from app.retraining.supervisor import Supervisor
from app.settings import Settings, child_environment, unknown_variables

_GRACE_S = 10.0  # beyond shutdown_timeout_s, for what no thread can be made to leave
_MAX_STALL_TIMEOUT_MS = 2**31 - 1  # that the option can have: 24 days

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """Ends in good order: what is under way is answered, and new requests with 503; then it closes.

    At the first signal it calls `leave` and goes on listening, for `drain_s` at least and for
    `timeout_s` at most; a second one closes the port at once. A client that takes nothing of what
    it is sent for `stall_timeout_s` is cut off by the kernel, as closing would wait for it.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        leave: Callable[[], None],
        timeout_s: float,
        drain_s: float,
        stall_timeout_s: float,
    ) -> None:
        super().__init__(config)
        self._leave = leave
        self._timeout_s, self._drain_s = timeout_s, drain_s
        self._stall_timeout_s = stall_timeout_s
        self._told_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; what is accepted inherits the socket's options."""
        await super().startup(sockets)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            stall_timeout_ms = round(min(1000 * self._stall_timeout_s, _MAX_STALL_TIMEOUT_MS))
            for listening in (each for server in self.servers for each in server.sockets):
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, stall_timeout_ms)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; see the class."""
        super().handle_exit(sig, frame)
        if self._told_at is None and self.started:
            self._told_at = time.monotonic()
            self.should_exit = False  # for now
            self._leave()
            _exit_at_the_latest(self._timeout_s + _GRACE_S)

    async def on_tick(self, counter: int) -> bool:
        """Tell uvicorn, which asks every 0.1 s, whether to close."""
        if self._told_at is not None and not self.should_exit:
            gone_s = time.monotonic() - self._told_at
            left_s = self._timeout_s - gone_s
            drained = gone_s >= self._drain_s and not self.server_state.tasks
            if drained or left_s <= 0:
                self.config.timeout_graceful_shutdown = max(1, round(left_s))
                self.should_exit = True
        return await super().on_tick(counter)


def _exit_at_the_latest(seconds: float) -> None:
    """End this process by then, whatever it hangs on; a worker beside it notices and ends, too."""

    def end() -> None:
        log.error("not stopped in time: what is under way is cut off", after_s=seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; a worker beside it has then left a checkpoint."""
    configure_logs(settings.log_level)
    if unknown := unknown_variables():
        log.warning("no settings, and ignored", variables=unknown)
    if fault := _why_unwritable(settings.home):
        log.warning("home cannot be written to: what is to be kept will fail", error=fault)
    app = create_app(settings)
    # -P: what is called `app` in the folder that the service was started in is somebody else's.
    command = [sys.executable, "-P", "-m", "app.cli", "worker", "--until-stdin-closes"]
    worker = Supervisor(command, child_environment(settings), settings.shutdown_timeout_s)

    def leave() -> None:
        app.state.leaving.set()
        worker.stop()

    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        root_path=settings.root_path,
        access_log=False,
        log_config=None,
        log_level=settings.log_level,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=max(1, settings.shutdown_timeout_s),
    )
    server = _Server(
        config,
        leave,
        timeout_s=settings.shutdown_timeout_s,
        drain_s=settings.drain_s,
        stall_timeout_s=settings.upload_timeout_s,
    )
    # uvicorn raises the signal again when it is done; the worker is yet to be waited for.
    signal.signal(signal.SIGTERM, _exit)
    _spare_collector()
    beside = worker if settings.worker else contextlib.nullcontext()
    with beside, contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise SystemExit(3)


def _why_unwritable(folder: Path) -> str | None:
    """Try, as neither owner nor mode tells of a mount, and root may do what others may not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return str(error)


def _spare_collector() -> None:
    """Keep what is imported out of garbage collections, which hold all requests up: 0.2 s each."""
    gc.collect()
    gc.freeze()


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
