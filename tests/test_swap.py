"""Versions changing places in a real server process, while 16 clients ask it for pictures."""

from __future__ import annotations

import itertools
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
from tiny import encoded, photo, publish_models

CLIENTS, SWAPS, VERSIONS = 16, 20, 3
QUIET_S = 4
STYLIZE = "/v1/stylize?style=starry-night&format=png"


@dataclass
class Load:
    """What the clients saw: the seconds of each answer, what came, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    answers: set[tuple[str, str, bytes]] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    def p99_s(self) -> float:
        return float(np.percentile(self.seconds, 99))


@contextmanager
def clients(server: Server) -> Iterator[Load]:
    """Keep CLIENTS asking, each for its next picture when it has the last one.

    Connecting is no part of the load: it begins when each has had an answer.
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
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    publish_models(home, ("starry-night",) * VERSIONS)
    server = Server(home, home / "log", threads=1, reload_s=0.1, worker=False)
    try:
        server.wait(180)
        yield server
    finally:
        server.stop()


def promote(server: Server, home: Path, version: int, *, over_http: bool) -> None:
    """Let a version serve, by a route or, as the command line and the worker do, by the files."""
    if over_http:
        response = server.client.post("/v1/models/starry-night/promote", json={"version": version})
        assert response.json()["version"] == version, response.text
        return
    Registry(home, home / "no weights").promote("starry-night", version)
    deadline = time.monotonic() + 60
    while server.client.get("/v1/models/starry-night").json()["version"] != version:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data))).astype(int)


def test_swaps_under_load(server: Server) -> None:
    """Over 20 swaps no request fails, and answers are of the version they name.

    Memory stays where it was. The slowest hundredth stays below four times what it is without
    swaps: building the next version takes one of two cores. Twice is the aim (issue 3).
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
    with clients(server) as quiet:
        time.sleep(QUIET_S)
    process = psutil.Process(server.process.pid)
    before_mib, files = process.memory_info().rss / 2**20, process.num_fds()
    with clients(server) as busy:
        for swap in range(SWAPS):
            promote(server, home, swap % VERSIONS + 1, over_http=swap % 2 == 0)
    with clients(server) as quiet_again:
        time.sleep(QUIET_S)
    grown_mib = process.memory_info().rss / 2**20 - before_mib
    quiet.seconds += quiet_again.seconds

    assert not quiet.failures + busy.failures + quiet_again.failures
    assert {label for label, _, _ in busy.answers} == {label for label, _ in expected}
    for label, sha256, data in busy.answers:
        assert np.abs(pixels(data) - expected[label, sha256]).max() <= 2
    figures = f"{len(busy.seconds)} answers, p99 {busy.p99_s():.3f} s, quiet {quiet.p99_s():.3f} s"
    print(figures, f"{grown_mib:.1f} MiB more")  # noqa: T201 -- for pytest -s
    assert busy.p99_s() <= 4 * quiet.p99_s(), figures
    assert grown_mib < 40
    assert process.num_fds() <= files + 2
