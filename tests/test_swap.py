"""Versions changing places in a real server process, while 16 clients ask it for pictures."""

from __future__ import annotations

import gc
import itertools
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from models.registry import Registry
from test_server import Server
from tiny import encoded, photo, publish_models, until

CLIENTS, SWAPS, VERSIONS = 16, 20, 3
pytestmark = pytest.mark.long
ROUNDS = 3
QUIET_S = 3
STYLIZE = "/v1/stylize?style=starry-night&format=png"


@dataclass
class Load:
    """What the clients saw: the seconds of each answer, what came, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    answers: set[tuple[str, str, bytes]] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    def p99_s(self) -> float:
        return p99_s(self.seconds)


def p99_s(seconds: list[float]) -> float:
    return float(np.percentile(seconds, 99))


@contextmanager
def clients(server: Server) -> Iterator[Load]:
    """Keep CLIENTS asking, each for its next picture when it has the last one.

    Connecting is no part of the load: it begins when each has had an answer. Nor is collecting this
    process's garbage, for which all 16 would wait 0.2 s.
    """
    load, stop, data = Load(), threading.Event(), encoded(photo(32, 32))
    connected = threading.Barrier(CLIENTS + 1)

    def ask() -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=60) as client:
            client.post(STYLIZE, content=data)
            connected.wait(60)
            while not stop.is_set():
                started = time.perf_counter()
                try:
                    response = client.post(STYLIZE, content=data)
                    response.raise_for_status()
                except httpx.HTTPError as error:
                    load.failures.append(repr(error))
                    continue
                load.seconds.append(time.perf_counter() - started)
                headers = response.headers
                load.answers.add(
                    (headers["x-model"], headers["x-weights-sha256"], response.content)
                )

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    connected.wait(60)
    gc.disable()
    try:
        yield load
    finally:
        gc.enable()
        stop.set()
        for thread in threads:
            thread.join()


def without_swaps(server: Server) -> Load:
    """Return what the clients see in QUIET_S."""
    with clients(server) as load:
        time.sleep(QUIET_S)
    return load


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    publish_models(home, ("starry-night",) * VERSIONS)
    server = Server(home, home / "log", threads=1, reload_s=0.1, worker=False)
    with server.ready(180):
        yield server


def promote(server: Server, home: Path, version: int, *, over_http: bool) -> None:
    """Let a version serve, by a route or, as the command line and the worker do, by the files."""
    if over_http:
        response = server.client.post("/v1/models/starry-night/promote", json={"version": version})
        assert response.json()["version"] == version, response.text
        return
    Registry(home, home / "no weights").promote("starry-night", version)
    promoted = "/v1/models/starry-night"
    until(lambda: server.client.get(promoted).json()["version"] == version, timeout_s=60)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data))).astype(int)


def test_swaps_under_load(server: Server) -> None:
    """Over 20 swaps no request fails, and answers are of the version they name.

    Memory stays where it was. In the median round the slowest hundredth takes at most twice what it
    does without swaps.
    """
    home = server.log.parent
    expected = {}
    for version in range(1, VERSIONS + 1):
        promote(server, home, version, over_http=True)
        response = server.client.post(STYLIZE, content=encoded(photo(32, 32)))
        label, sha256 = response.headers["x-model"], response.headers["x-weights-sha256"]
        assert label == f"starry-night@{version}"
        expected[label, sha256] = pixels(response.content)
    looks = list(expected.values())
    assert all(np.abs(a - b).mean() > 10 for a, b in itertools.pairwise(looks))

    with clients(server):  # what the first requests set up once is no matter of swaps
        time.sleep(1)
    process = psutil.Process(server.process.pid)
    quiet = [without_swaps(server)]
    before_mib, files = process.memory_info().rss / 2**20, process.num_fds()
    ratios = []
    for _ in range(ROUNDS):
        with clients(server) as busy:
            for swap in range(SWAPS):
                promote(server, home, swap % VERSIONS + 1, over_http=swap % 2 == 0)
        quiet.append(without_swaps(server))
        ratios.append(busy.p99_s() / p99_s(quiet[-2].seconds + quiet[-1].seconds))
        assert not busy.failures + quiet[-2].failures + quiet[-1].failures
        assert {label for label, _, _ in busy.answers} == {label for label, _ in expected}
        for label, sha256, data in busy.answers:
            assert np.abs(pixels(data) - expected[label, sha256]).max() <= 2
    grown_mib = process.memory_info().rss / 2**20 - before_mib
    print([f"{ratio:.2f}" for ratio in ratios], f"{grown_mib:.1f} MiB more")  # noqa: T201 -- for -s
    assert statistics.median(ratios) <= 2, ratios
    assert grown_mib < 40
    until(lambda: process.num_fds() <= files + 2)  # connections of the last clients end a bit later
