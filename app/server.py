"""`anamorph serve`: the HTTP server, and the worker beside it."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn

from app.logs import configure_logs
from app.main import create_app
from app.settings import Settings, child_environment
from app.supervisor import Supervisor


class _Server(uvicorn.Server):
    """Tells others at once that it is to stop: streams of events would hold it up."""

    def __init__(self, config: uvicorn.Config, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._leave = leave

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Call `leave`, then stop as ever."""
        self._leave()
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; a worker beside it has then left a checkpoint."""
    configure_logs(settings.log_level)
    app = create_app(settings)
    command = [sys.executable, "-m", "app.cli", "worker", "--until-stdin-closes"]
    worker = Supervisor(command, child_environment(settings), settings.shutdown_timeout_s)

    def leave() -> None:
        app.state.leaving.set()
        worker.stop()

    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )
    server = _Server(config, leave)
    # uvicorn raises the signal again when it is done; the worker is yet to be waited for.
    signal.signal(signal.SIGTERM, _exit)
    _spare_collector()
    beside = worker if settings.worker else contextlib.nullcontext()
    with beside, contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise SystemExit(3)


def _spare_collector() -> None:
    """Keep what is imported out of garbage collections, which hold all requests up: 0.2 s each."""
    gc.collect()
    gc.freeze()


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
