"""What a key may have in a minute."""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from anamorph import Client, errors
from app import rates
from app.accounts import Account, on_account
from app.callers import OPERATOR
from app.errors import QueueFull, RateLimited
from app.faces.finding import Turns
from app.keys import KeyStore, Scope
from app.main import create_app
from app.metrics import Laps
from app.rates import Meter, Rates
from app.service import Service
from test_keys import bearing, run
from tiny import encoded, photo, publish_models, tiny_settings, until_ready

STYLIZE = "/v1/stylize?style=starry-night"


class Clock:
    """A time that only tests move."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@given(st.integers(1, 600), st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_retry_after_is_when_it_is_admitted(quota: int, pauses: list[float]) -> None:
    """Whoever waits as long as the refusal says is admitted; nobody has more than the limit."""
    clock = Clock()
    known, began_s, admitted = Rates(clock), clock.now_s, 0
    with on_account(Account("a", requests_per_minute=quota)):
        for pause_s in pauses:
            clock.now_s += pause_s
            try:
                known.count_request()
            except RateLimited as refused:
                clock.now_s += refused.retry_after_s
                known.count_request()
            admitted += 1
            assert admitted <= quota * (1 + (clock.now_s - began_s) / 60) + 1e-3


def test_retry_after_is_no_longer_than_needed() -> None:
    """One a second: after the burst of a minute's worth the next is a second away."""
    clock = Clock()
    known = Rates(clock)
    with on_account(Account("a", requests_per_minute=60)):
        for _ in range(60):
            known.count_request()
        with pytest.raises(RateLimited, match=r"requests_per_minute.*60") as refused:
            known.count_request()
        assert refused.value.retry_after_s == 1
        assert known.headers()["RateLimit"] == '"requests";r=0;t=1'
    with on_account(Account("b", requests_per_minute=60)):
        known.count_request()  # another's bucket is its own
        assert known.headers() == {
            "RateLimit-Policy": '"requests";q=60;w=60',
            "RateLimit": '"requests";r=59;t=1',
        }


@given(st.integers(1, 100), st.floats(0.001, 1000))
def test_a_dear_picture_is_not_refused_for_ever(quota: int, cost_s: float) -> None:
    """Whatever a picture costs, it is admitted when the bucket is full, and paid for after it."""
    clock = Clock()
    known = Rates(clock)
    with on_account(Account("a", compute_s_per_minute=quota)):
        for _ in range(3):
            known.require_compute()
            known.charge(cost_s)
            try:
                known.require_compute()
            except RateLimited as refused:
                clock.now_s += refused.retry_after_s
        assert clock.now_s - 1000 <= 3 * math.ceil((cost_s + 1) * 60 / quota)


def test_full_buckets_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that came once do not stay in memory."""
    monkeypatch.setattr(rates, "_MANY", 10)
    clock = Clock()
    meter = Meter(clock)
    for number in range(100):
        meter.spend(f"client {number}", 60, 1)
        clock.now_s += 1
    assert len(meter._full_at) <= 10


def test_no_limit_costs_nothing() -> None:
    """Without limits nothing is counted, refused or told."""
    known = Rates()
    for _ in range(5):
        known.count_request()
        known.require_compute()
        known.charge(1000)
    assert known.headers() == {}
    assert not any(meter._full_at for meter in known._meters.values())


@pytest.fixture
def home(tmp_path: Path, without_openvino: None) -> Path:
    publish_models(tmp_path, ("starry-night",))
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The service's buckets on a clock that the test moves."""
    clock = Clock()
    monkeypatch.setattr(Rates.__init__, "__defaults__", (clock,))
    yield clock
    structlog.reset_defaults()


def test_a_key_over_its_limit_is_told_when_to_come_back(tmp_path: Path, quick: Clock) -> None:
    """The key's own limit wins over the service's; 429 names the limit and the time."""
    store = KeyStore(tmp_path)
    few = bearing(store.create({Scope.INFER}, requests_per_minute=2)[1])
    many = bearing(store.create({Scope.INFER})[1])
    settings = tiny_settings(tmp_path, require_keys=True, requests_per_minute=100)
    client = TestClient(create_app(settings))
    assert client.get("/v1/limits", headers=many).json()["requests_per_minute"] == 100
    answer = client.get("/v1/limits", headers=few)
    assert answer.json()["requests_per_minute"] == 2
    assert answer.headers["ratelimit-policy"] == '"requests";q=2;w=60'
    assert answer.headers["ratelimit"] == '"requests";r=1;t=30'
    client.get("/v1/limits", headers=few)
    refused = client.get("/v1/limits", headers=few)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.json()["violated-policies"] == ["requests"]
    assert refused.headers["retry-after"] == "30"
    assert refused.headers["ratelimit"] == '"requests";r=0;t=30'
    assert client.get("/v1/limits", headers=many).status_code == 200
    assert client.get("/healthz", headers=few).status_code == 200
    quick.now_s += 30
    assert client.get("/v1/limits", headers=few).status_code == 200


def test_computing_is_counted_by_pixels_and_pace(
    home: Path, quick: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times the pixels cost four times as much; what is refused or fails costs nothing."""
    with TestClient(create_app(tiny_settings(home, compute_s_per_minute=60))) as client:
        until_ready(client)
        service: Any = client.app.state.service  # type: ignore[attr-defined]
        [model] = service.catalog.models(OPERATOR)
        monkeypatch.setattr(model.pace, "seconds", lambda pixels: pixels * 0.01)

        def left(content: bytes) -> str:
            return client.post(STYLIZE, content=content).headers["ratelimit"]

        assert left(b"no picture").startswith('"compute-seconds";r=60')
        assert left(encoded(photo(20, 60))).startswith('"compute-seconds";r=48')
        assert left(encoded(photo(40, 120))) == '"compute-seconds";r=0;t=1'
        refused = client.post(STYLIZE, content=encoded(photo(8, 8)))
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert refused.json()["violated-policies"] == ["compute-seconds"]
        assert client.get("/v1/models").status_code == 200  # costs no computing
        quick.now_s += 1
        assert client.post(STYLIZE, content=encoded(photo(8, 8))).status_code == 200
        quick.now_s += 600  # one row costs as much as the 16 that the network needs
        assert left(encoded(photo(1, 100))).startswith('"compute-seconds";r=44')
        quick.now_s += 600
        form = {"method": "solid", "allow_no_face": "true"}  # faces by what finding them takes
        answer = client.post("/v1/anonymize", files={"image": encoded(photo(64, 64))}, data=form)
        assert answer.status_code == 200
        assert re.match(r'"compute-seconds";r=5\d;', answer.headers["ratelimit"])


@pytest.mark.parametrize("tile_px", [1440, 64], ids=["whole", "in tiles"])
def test_what_did_not_run_is_paid_back(
    home: Path, quick: Clock, monkeypatch: pytest.MonkeyPatch, tile_px: int
) -> None:
    """A picture that found the queue full, or whose tiles failed, has cost nothing."""

    def full(*_: Any, **__: Any) -> None:
        raise QueueFull("the queue is full", retry_after_s=1)

    whole_pixels = tile_px**2
    settings = tiny_settings(
        home, compute_s_per_minute=60, tile_px=tile_px, whole_pixels=whole_pixels
    )
    with TestClient(create_app(settings)) as client:
        until_ready(client)
        service: Any = client.app.state.service  # type: ignore[attr-defined]
        [model] = service.catalog.models(OPERATOR)
        monkeypatch.setattr(model.pace, "seconds", lambda pixels: pixels * 0.001)
        monkeypatch.setattr(service.batcher, "_make_room", full)
        monkeypatch.setattr(service.batcher, "call", full)
        answer = client.post(STYLIZE, content=encoded(photo(80, 100)))
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
    assert answer.headers["ratelimit"].startswith('"compute-seconds";r=60')


def test_who_leaves_pays_for_what_runs(tmp_path: Path) -> None:
    """What finding faces took is charged to a client who left while it ran."""
    begun, gate = threading.Event(), threading.Event()

    def look() -> None:
        begun.set()
        gate.wait(5)

    async def scenario() -> None:
        service = Service(tiny_settings(tmp_path))
        service.start(load=False)
        with on_account(Account("left", compute_s_per_minute=60)):
            turns = Turns(service, time.monotonic() + 60, Laps())
            leaving = asyncio.create_task(turns.run(look))
            await asyncio.to_thread(begun.wait, 5)
            leaving.cancel()
            await asyncio.sleep(0.2)
            gate.set()
            await asyncio.gather(leaving, return_exceptions=True)
            await service.batcher.call(lambda: None, 60)
            assert re.search(r'"compute-seconds";r=59;', service.rates.headers()["RateLimit"])
        await service.close()

    asyncio.run(scenario())


def test_our_client_comes_back_when_told(tmp_path: Path) -> None:
    """The Python client waits as long as Retry-After says and then has its answer."""
    inside = TestClient(create_app(tiny_settings(tmp_path, requests_per_minute=60)))

    def ask(request: httpx.Request) -> httpx.Response:
        answer = inside.request(request.method, request.url.path)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    forward = httpx.MockTransport(ask)
    with Client("http://testserver", transport=forward, max_retries=0) as client:
        answered = (client.limits() for _ in range(300))
        with pytest.raises(errors.RateLimited) as refused:
            list(answered)
        began = time.monotonic()
        assert refused.value.retry_after_s == 1
    with Client("http://testserver", transport=forward) as client:
        assert client.limits().requests_per_minute == 60
        assert time.monotonic() - began > 0.9


def test_keys_are_made_with_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`anamorph keys create` takes a key's own limits, and refuses none at all."""
    monkeypatch.setenv("ANAMORPH_HOME", str(tmp_path))
    words = ("create", "--scope", "infer", "--requests-per-minute", "30")
    text = run(*words, "--compute-s-per-minute", "5").stdout.strip()
    key = KeyStore(tmp_path).find(text)
    assert key
    assert key.account(Account("", 10, 10)) == Account(key.id, 30, 5)
    other, _ = KeyStore(tmp_path).create({Scope.INFER})
    assert other.account(Account("", 10, None)) == Account(other.id, 10, None)
    assert run("create", "--scope", "infer", "--requests-per-minute", "0").exit_code != 0


def test_addresses_are_counted_where_there_are_no_keys(tmp_path: Path, quick: Clock) -> None:
    """Without keys each client address has the service's limits to itself."""
    service = create_app(tiny_settings(tmp_path, requests_per_minute=1))
    for address in ("10.0.0.1", "10.0.0.2"):
        client = TestClient(service, client=(address, 1))
        assert [client.get("/v1/limits").status_code for _ in range(2)] == [200, 429]
