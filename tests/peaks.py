"""The memory and the time that work may take."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

_TRIES = 3


def forget_peak() -> None:
    """Let the process's peak of memory begin anew, or skip the test where that is not to be had."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the peak of memory can only be measured on Linux")


def takes_at_most(work: Callable[[], object], *, megabytes: float, seconds: float) -> None:
    """Fail if each of three runs takes more time, or raises the process's peak memory by more.

    Three, since what other threads of the process do meanwhile counts as well.
    """
    costs = []
    for _ in range(_TRIES):
        forget_peak()
        before, start = _peak_kib(), time.perf_counter()
        work()
        costs.append(((_peak_kib() - before) / 1024, time.perf_counter() - start))
        if costs[-1][0] < megabytes and costs[-1][1] < seconds:
            return
    pytest.fail(f"took (MiB, s) {costs}, more than {megabytes} MiB or {seconds} s each time")


def _peak_kib() -> int:
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1])
