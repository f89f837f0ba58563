"""What of the machine this process may use: in a container, what its control group (v2) leaves."""

from __future__ import annotations

import math
import os
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def usable_cores(group: Path = _GROUP) -> int:
    """Return the cores that the process may run on, at most its CPU quota rounded up."""
    pinned = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if pinned else os.cpu_count() or 1
    quota_us, _, period_us = _limit(group / "cpu.max").partition(" ")
    if quota_us.isdigit():
        cores = min(cores, math.ceil(int(quota_us) / int(period_us)))
    return max(1, cores)


def usable_memory_bytes(group: Path = _GROUP) -> int | None:
    """Return the machine's memory or, if it has less, the group's; None where nothing tells."""
    if not hasattr(os, "sysconf"):
        return None
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _limit(group / "memory.max")
    return min(memory_bytes, int(limit)) if limit.isdigit() else memory_bytes


def _limit(file: Path) -> str:
    """Return what a group says, "" where there is no such group."""
    return file.read_text().strip() if file.exists() else ""
