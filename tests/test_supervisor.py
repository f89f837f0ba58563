"""The process beside the server, played by a few lines of Python."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.retraining.supervisor import Supervisor
from tiny import until


def program(folder: Path, then: str) -> list[str]:
    """Write the process's id into a file of its own, then do `then`."""
    note = f"import os, pathlib, sys, time; pathlib.Path({str(folder)!r}, str(os.getpid())).touch()"
    return [sys.executable, "-c", f"{note}; {then}"]


def until_started(folder: Path, count: int) -> list[psutil.Process]:
    until(lambda: len(list(folder.iterdir())) >= count, timeout_s=60)
    pids = [int(path.name) for path in folder.iterdir()]
    return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]


def test_a_dead_worker_is_started_again(tmp_path: Path) -> None:
    """What is killed comes back, and ends with the context."""
    with Supervisor(program(tmp_path, "sys.stdin.read()"), os.environ, 10):
        (first,) = until_started(tmp_path, 1)
        first.kill()
        (second,) = until_started(tmp_path, 2)
    assert not second.is_running()


@pytest.mark.parametrize(
    "then",
    [
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); sys.stdin.read()",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
    ],
    ids=["ends with its input", "is killed at last"],
)
def test_no_worker_outlives_its_supervisor(tmp_path: Path, then: str) -> None:
    """A worker ends with its input; one that does not is killed."""
    with Supervisor(program(tmp_path, then), os.environ, 2):
        (worker,) = until_started(tmp_path, 1)
    assert not worker.is_running()


def test_a_worker_that_cannot_start_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no process can be had for a moment, the worker comes a moment later."""
    start, refused = subprocess.Popen, []

    def full_at_first(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        if not refused:
            refused.append(arguments)
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return start(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", full_at_first)
    with Supervisor(program(tmp_path, "sys.stdin.read()"), os.environ, 10):
        until_started(tmp_path, 1)
    assert refused


def test_the_worker_is_ours_wherever_the_service_starts(tmp_path: Path) -> None:
    """In a folder with a package `app` of its own, the worker is still the service's."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('another app')")
    home = tmp_path / "home"
    variables = {"ANAMORPH_HOME": str(home), "ANAMORPH_PORT": "0", "ANAMORPH_DEVICE": "cpu"}
    variables["ANAMORPH_SHIPPED_WEIGHTS"] = str(home / "none")
    script = Path(sys.executable).with_name("anamorph")
    with subprocess.Popen([script, "serve"], cwd=tmp_path, env=os.environ | variables) as process:
        try:
            until(lambda: any(home.glob("workers/*.beat")), timeout_s=60)
        finally:
            process.terminate()
