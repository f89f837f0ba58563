"""What of the machine a service takes for granted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.machine import usable_cores, usable_memory_bytes

CORES = len(os.sched_getaffinity(0))
MEMORY_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000\n", CORES),
        ("50000 100000\n", 1),
        ("100000 100000\n", 1),
        (f"{CORES * 100000 - 1} 100000\n", CORES),
        ("6400000 50000\n", min(128, CORES)),
    ],
)
def test_cores_within_a_containers_quota(quota: str, cores: int, tmp_path: Path) -> None:
    """A container's share of a core counts as one more; none given, all cores are the process's."""
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("limit", "memory_bytes"),
    [("max\n", MEMORY_BYTES), ("1048576\n", 2**20), (f"{2**60}\n", MEMORY_BYTES)],
)
def test_memory_within_a_containers_limit(limit: str, memory_bytes: int, tmp_path: Path) -> None:
    """A container's limit counts where it is below what the machine has."""
    (tmp_path / "memory.max").write_text(limit)
    assert usable_memory_bytes(tmp_path) == memory_bytes


def test_outside_of_a_container(tmp_path: Path) -> None:
    """Without a control group all cores and the whole memory are there."""
    assert usable_cores(tmp_path) == CORES
    assert usable_memory_bytes(tmp_path) == MEMORY_BYTES


def test_no_more_threads_than_cores_of_the_process() -> None:
    """A process pinned to some cores starts no threads for the others."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, mine)
