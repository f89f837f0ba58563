"""The memory and the time that a block may take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def forget_peak() -> None:
    """Let the process's peak of memory begin anew, or skip the test where that is not to be had."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the peak of memory can only be measured on Linux")


@contextmanager
def at_most(megabytes: float, seconds: float) -> Iterator[None]:
    """Fail if the block takes more time, or raises the process's peak memory by more."""

    def peak_kib() -> int:
        status = Path("/proc/self/status").read_text().split()
        return int(status[status.index("VmHWM:") + 1])

    forget_peak()
    before, start = peak_kib(), time.perf_counter()
    yield
    assert time.perf_counter() - start < seconds
    raised_megabytes = (peak_kib() - before) / 1024
    assert raised_megabytes < megabytes
