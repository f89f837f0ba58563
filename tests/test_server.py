"""A real `anamorph serve` process on loopback, under load."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from tiny import encoded, opened, photo, publish_models, until, until_ready

QUEUE_LIMIT = 24
HALF_A_REQUEST = b"POST /v1/upscale HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\nabc"
STYLIZE = "/v1/stylize?style=starry-night&format=png"


class Server:
    """The process and a client for it."""

    def __init__(self, home: Path, log: Path, **settings: object) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        settings |= {"home": home, "shipped_weights": home / "no weights", "device": "cpu"}
        settings.setdefault("worker", False)
        variables = {f"ANAMORPH_{name.upper()}": str(value) for name, value in settings.items()}
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve", "--port", str(self.port)],
                env=os.environ | variables,
                cwd=Path(__file__).parents[1],
                stderr=stderr,
            )
        self.log = log
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            timeout=60,
            limits=httpx.Limits(max_connections=100),
        )

    def wait(self, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            assert self.process.poll() is None, self.log.read_text()
            try:
                self.client.get("/healthz")
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        until_ready(self.client, max(90, timeout_s))

    @contextmanager
    def ready(self, timeout_s: float = 60) -> Iterator[Server]:
        """Wait until it serves; it is stopped in the end, whatever happens."""
        try:
            self.wait(timeout_s)
            yield self
        finally:
            self.stop()

    def stop(self) -> int:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    publish_models(home, ("srresnet-x4", "starry-night"))
    server = Server(
        home,
        home / "log",
        max_batch=4,
        max_wait_ms=50,
        queue_limit=QUEUE_LIMIT,
        upload_timeout_s=3,
        threads=2,
    )
    with server.ready():
        yield server


def metric(client: httpx.Client, line: str) -> float:
    found = [row for row in client.get("/metrics").text.splitlines() if row.startswith(line)]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


def test_a_batch_equals_single_answers(server: Server) -> None:
    """Pictures that shared a forward pass come out as they do alone, to within rounding."""
    pictures = [encoded(photo(32, 32).rotate(45 * i)) for i in range(8)]
    single = [server.client.post(STYLIZE, content=data) for data in pictures]
    with ThreadPoolExecutor(8) as threads:
        posts = [threads.submit(server.client.post, STYLIZE, content=data) for data in pictures]
        together = [post.result() for post in posts]
    sizes = {response.headers["x-compute"].split("batch=")[1] for response in together}
    assert sizes - {"1"}, "no two of eight concurrent requests shared a batch"
    for one, other in zip(single, together, strict=True):
        difference = np.asarray(opened(one)).astype(int) - np.asarray(opened(other))
        assert np.abs(difference).max() <= 2


def test_a_bad_upload_harms_no_neighbour(server: Server) -> None:
    """Among concurrent requests, only the damaged ones fail."""
    good, bad = encoded(photo(32, 32)), encoded(photo(32, 32))[:200]
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda data: server.client.post(STYLIZE, content=data), [good, bad] * 8)
        )
    assert [answer.status_code for answer in answers] == [200, 422] * 8


def test_health_answers_under_load(server: Server) -> None:
    """With every core at work on pictures, /healthz stays under 50 ms at the 99th percentile."""
    data = encoded(photo(480, 640), "jpeg")
    stop = time.monotonic() + 6

    def load(_: int) -> int:
        count = 0
        with httpx.Client(base_url=server.client.base_url, timeout=60) as client:
            while time.monotonic() < stop:
                assert client.post(STYLIZE, content=data).status_code == 200
                count += 1
        return count

    probe = subprocess.Popen(
        [sys.executable, "-c", PROBE, str(server.port), "5"], stdout=subprocess.PIPE, text=True
    )
    with ThreadPoolExecutor(4) as threads:
        answered = sum(threads.map(load, range(4)))
    output, _ = probe.communicate(timeout=20)
    milliseconds = sorted(map(float, output.split()))
    assert answered > 4
    assert len(milliseconds) > 100
    p99_ms = milliseconds[int(len(milliseconds) * 0.99)]
    assert p99_ms < 50


# In a process of its own: the load's threads would delay a probe among them.
PROBE = """
import http.client, sys, time
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
stop = time.monotonic() + float(sys.argv[2])
while time.monotonic() < stop:
    started = time.perf_counter()
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    print((time.perf_counter() - started) * 1000)
    time.sleep(0.01)
"""


def test_an_overfull_queue_refuses_with_a_time(server: Server) -> None:
    """Beyond queue_limit requests get 503 with Retry-After at once, and the others an answer."""
    data = encoded(photo(400, 400), "jpeg")

    def post(_: int) -> httpx.Response:
        return server.client.post("/v1/stylize?style=starry-night", content=data)

    with ThreadPoolExecutor(3 * QUEUE_LIMIT) as threads:
        answers = list(threads.map(post, range(3 * QUEUE_LIMIT)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused
    assert {answer.status_code for answer in answers} == {200, 503}
    assert {answer.json()["code"] for answer in refused} == {"queue_full"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert metric(server.client, "anamorph_queue_depth") == 0


def test_a_client_that_leaves_is_forgotten(server: Server) -> None:
    """Work of clients who closed the connection leaves the queue; the next request is served."""
    data = encoded(photo(480, 640), "jpeg")
    head = f"POST {STYLIZE} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    left = 'anamorph_requests_total{route="/v1/stylize",status="499"}'
    left_before = metric(server.client, left)
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(12)]
    for connection in connections:
        connection.sendall(head + data)
    until(lambda: metric(server.client, "anamorph_queue_depth") > 0)
    for connection in connections:
        connection.close()
    until(lambda: metric(server.client, "anamorph_queue_depth") == 0, timeout_s=5)
    assert server.client.post(STYLIZE, content=encoded(photo(16, 16))).status_code == 200
    assert metric(server.client, left) - left_before >= 6
    until(lambda: metric(server.client, "anamorph_held_bytes") == 0)


def test_half_sent_requests_hold_nothing(server: Server) -> None:
    """A client that goes away in the middle of its upload leaves nothing behind."""
    for sent in (b"", HALF_A_REQUEST[:12], HALF_A_REQUEST):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(sent)
    until(lambda: metric(server.client, "anamorph_held_bytes") == 0)
    assert server.client.get("/healthz").status_code == 200


def test_two_lengths_are_refused(server: Server) -> None:
    """A body whose end two headers tell is a 400, and what follows it is no request."""
    both = b"POST /v1/upscale HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
    both += b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(both + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "half",
    [
        HALF_A_REQUEST,
        HALF_A_REQUEST.replace(b"/v1/upscale", b"/v1/training-jobs"),
        HALF_A_REQUEST.replace(b"/v1/upscale", b"/v1/models/a/promote"),
    ],
    ids=["picture", "job", "promotion"],
)
def test_a_stalled_upload_is_ended(server: Server, half: bytes) -> None:
    """A body that does not arrive within upload_timeout_s is a 408, and the connection ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(half)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"upload_timeout" in answer


def test_a_client_that_stops_reading_is_cut_off(server: Server) -> None:
    """One that takes nothing of its answer for upload_timeout_s keeps no connection."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    body = encoded(Image.fromarray(noise))
    head = f"POST /v1/upscale?format=png HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"

    def connected(port: int) -> bool:
        connections = psutil.Process(server.process.pid).net_connections()
        return any(each.raddr and each.raddr.port == port for each in connections)

    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(head.encode() + body)
        port = client.getsockname()[1]
        assert client.recv(12) == b"HTTP/1.1 200"
        assert connected(port)
        until(lambda: not connected(port), timeout_s=25)


def test_a_long_upload_is_refused_in_words(server: Server) -> None:
    """A client that sends far too much still gets to read why it is refused."""
    body = (bytes(2**20) for _ in range(80))
    response = server.client.post("/v1/upscale", content=body)
    assert (response.status_code, response.json()["code"]) == (413, "upload_too_large")


def test_memory_does_not_grow(server: Server) -> None:
    """Over 2,000 mixed requests, good and bad, memory and open files stay where they were."""
    chance = random.Random(0)
    process = psutil.Process(server.process.pid)
    pool = [
        encoded(photo(chance.randint(1, 48), chance.randint(1, 48), mode), kind)
        for kind, mode in [("png", "RGBA"), ("jpeg", "RGB"), ("webp", "RGB"), ("png", "L")] * 8
    ]
    pool += [data[: len(data) // 2] for data in pool[:8]] + [b"", b"x"]
    urls = [STYLIZE, "/v1/upscale?scale=2", "/v1/upscale?format=jpeg", "/v1/upscale?scale=9"]

    def send(count: int) -> None:
        for _ in range(count):
            response = server.client.post(chance.choice(urls), content=chance.choice(pool))
            assert response.status_code < 500, response.text

    def resident_mib() -> float:
        return process.memory_info().rss / 2**20

    send(500)
    before_mib, files = resident_mib(), process.num_fds()
    send(1500)
    assert resident_mib() - before_mib < 40
    assert process.num_fds() <= files + 2


def test_the_log_tells_no_secrets(server: Server) -> None:
    """The access log has routes and sizes, but neither queries nor file names."""
    server.client.post("/v1/upscale?secret=hunter2", files={"image": ("private.png", b"x")})
    until(lambda: '"route": "/v1/upscale"' in server.log.read_text())
    text = server.log.read_text()
    assert "hunter2" not in text
    assert "private.png" not in text
    assert "Traceback" not in text


def test_odd_settings(tmp_path: Path) -> None:
    """A service starts with a limit beyond the kernel's, and tells of settings that are none."""
    server = Server(tmp_path, tmp_path / "log", upload_timeout_s="inf", prot=8000)
    with server.ready():
        assert server.client.get("/v1/limits").json()["upload_timeout_s"] is None
    told = [json.loads(line) for line in server.log.read_text().splitlines()]
    [warned] = [line for line in told if line["event"] == "no settings, and ignored"]
    assert "ANAMORPH_PROT" in warned["variables"]


def test_a_home_that_cannot_be_written_to(tmp_path: Path) -> None:
    """A service says at the start that it can keep nothing, and tells its metrics all the same."""
    (tmp_path / "file").touch()
    server = Server(tmp_path / "file" / "home", tmp_path / "log")
    with server.ready():
        assert server.client.get("/metrics").status_code == 200
        refused = server.client.get("/v1/training-jobs")
    assert (refused.status_code, refused.json()["code"]) == (503, "jobs_unavailable")
    told = [json.loads(line) for line in server.log.read_text().splitlines()]
    [warned] = [line for line in told if line["event"].startswith("home cannot be written to")]
    assert str(tmp_path / "file") in warned["error"]


def test_sigterm_lets_requests_finish(tmp_path: Path) -> None:
    """On SIGTERM the service answers what it has begun, then exits; all its log is JSON."""
    publish_models(tmp_path, ("srresnet-x4",))
    server = Server(tmp_path, tmp_path / "log", threads=2)
    server.wait()
    data = encoded(photo(256, 256), "jpeg")
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(server.client.post, "/v1/upscale", content=data)
        until(lambda: server.client.get("/metrics").text.count("anamorph_held_bytes 0.0") == 0)
        server.process.send_signal(signal.SIGTERM)
        assert opened(answer.result()).size == (1024, 1024)
    assert server.process.wait(30) == 0
    told = [json.loads(line)["event"] for line in server.log.read_text().splitlines()]
    assert "Application shutdown complete." in told
    assert "model loaded" in told
    server.client.close()
