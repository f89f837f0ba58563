"""The client against small services that are full, gone or cut off, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn

import anamorph
from anamorph import AsyncClient, Client, Event, events, retries
from anamorph.events import Replay
from anamorph.retries import Retries, retry_after_s

Respond = Callable[..., Awaitable[None]]
JSON = b"application/json"


class Scripted:
    """An ASGI app that answers request number k by the k-th step, and keeps what was asked."""

    def __init__(self, *steps: Respond) -> None:
        self.steps = steps
        self.seen: list[tuple[str, dict[str, str], bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append((scope["path"], headers, body))
        await self.steps[min(len(self.seen), len(self.steps)) - 1](send)


def answer(status: int, body: bytes, kind: bytes = JSON, **headers: str) -> Respond:
    async def respond(send: Any) -> None:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [(name.encode(), value.encode()) for name, value in fields.items()]
        lines += [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": body})

    return respond


def full(retry_after: str = "0", status: int = 503) -> Respond:
    body = json.dumps({"code": "queue_full", "detail": "no room"}).encode()
    return answer(status, body, b"application/problem+json", retry_after=retry_after)


def stream(*pieces: str, cut: bool) -> Respond:
    async def respond(send: Any) -> None:
        kind = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
            await asyncio.sleep(0.02)
        if cut:
            raise ConnectionResetError("cut off")
        await send({"type": "http.response.body", "body": b""})

    return respond


PICTURE = answer(200, b"pixels", b"image/png", x_model="m@1", server_timing="decode;dur=1.5")


@contextlib.contextmanager
def serving(app: Scripted) -> Iterator[str]:
    """Run the app by uvicorn in a thread, and give its URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def test_a_full_service_is_asked_again_when_it_said() -> None:
    """After two 503 with Retry-After the same picture is sent a third time, and answered."""
    app = Scripted(full("1"), full("1"), PICTURE)
    with serving(app) as url, Client(url, api_key="secret") as client:
        started = time.monotonic()
        painting = client.stylize(b"photo", style="s", keep_colors=True)
        waited_s = time.monotonic() - started
    assert waited_s >= 2
    assert (painting.data, painting.model, painting.timings_ms) == (
        b"pixels",
        "m@1",
        {"decode": 1.5},
    )
    assert [path for path, _, _ in app.seen] == ["/v1/stylize"] * 3
    assert all(headers["authorization"] == "Bearer secret" for _, headers, _ in app.seen)
    assert all(b"photo" in body and b"keep_colors" in body for _, _, body in app.seen)


def test_async_asks_again_too() -> None:
    """AsyncClient waits and repeats alike, after a 429 as after a 503."""
    app = Scripted(full("1"), full("0", status=429), PICTURE)

    async def paint() -> bytes:
        async with AsyncClient("http://test", transport=httpx.ASGITransport(app)) as client:
            return bytes(await client.stylize(b"photo", style="s"))

    started = time.monotonic()
    assert asyncio.run(paint()) == b"pixels"
    assert time.monotonic() - started >= 1
    assert len(app.seen) == 3


@pytest.mark.parametrize(
    ("step", "requests", "call"),
    [
        (full(), 3, lambda client: client.upscale(b"x")),  # as often as is allowed
        (full("7"), 1, lambda client: client.upscale(b"x")),  # longer than is waited for
        (full(), 1, lambda client: client.rollback("m")),  # twice is not once
        (full(), 1, lambda client: client.readiness()),  # who asks wants to know now
    ],
)
def test_when_it_gives_up(step: Respond, requests: int, call: Callable[[Client], object]) -> None:
    """After the last attempt allowed, the problem is raised, with the time of the next try."""
    app = Scripted(step)
    with (
        serving(app) as url,
        Client(url, max_retries=2, max_wait_s=5) as client,
        pytest.raises(anamorph.Busy) as raised,
    ):
        call(client)
    assert (raised.value.code, len(app.seen)) == ("queue_full", requests)
    assert raised.value.retry_after_s in (0, 7)


def test_a_job_is_created_once() -> None:
    """What is sent again bears the same Idempotency-Key and body."""
    job = {"id": "a" * 32, "state": "queued", "family": "srgan", "name": "n", "dataset": "d"}
    job |= {"created_at": "2026-01-02T03:04:05Z", "request": {}}
    app = Scripted(full(), answer(202, json.dumps(job).encode()))
    with serving(app) as url, Client(url) as client:
        created = client.create_job(family="srgan", dataset="d", name="n", steps=3)
    assert (created.id, created.state, created.ended) == ("a" * 32, "queued", False)
    first, second = ((headers["idempotency-key"], body) for _, headers, body in app.seen)
    assert first == second
    assert json.loads(first[1]) == {
        "family": "srgan", "dataset": "d", "name": "n", "steps": 3, "auto_promote": False,
    }  # fmt: skip


EVENT = 'event: {0}\ndata: {{"n": 1}}\nid: {1}\n\n'
END = 'event: end\ndata: {"state": "succeeded"}\n\n'
BROKEN = (
    stream(EVENT.format("state", 1), EVENT.format("progress", 2)[:20], cut=True),
    stream(EVENT.format("progress", 2), cut=False),  # as when the service is told to stop
    full(),
    answer(502, b"<html>", b"text/html"),  # as a proxy says while the service starts anew
    stream(EVENT.format("published", 3), END, cut=False),
)
KINDS = [("state", 1), ("progress", 2), ("published", 3), ("end", None)]


def test_events_go_on_where_the_connection_broke() -> None:
    """Over a connection that breaks, one that ends, a 503 and a 502, each event comes once."""
    app = Scripted(*BROKEN)
    with serving(app) as url, Client(url) as client:
        told = list(client.job_events("a" * 32))
    assert [(event.kind, event.id) for event in told] == KINDS
    assert [headers["last-event-id"] for _, headers, _ in app.seen] == ["0", "1", "2", "2", "2"]


def test_async_events_go_on_too() -> None:
    """AsyncClient goes on alike, from an event that was seen long before."""
    app = Scripted(*BROKEN[1:])

    async def watch(url: str) -> list[Event]:
        async with AsyncClient(url) as client:
            return [event async for event in client.job_events("a" * 32, last_event_id=1)]

    with serving(app) as url:
        told = asyncio.run(watch(url))
    assert [(event.kind, event.id) for event in told] == KINDS[1:]
    assert [headers["last-event-id"] for _, headers, _ in app.seen] == ["1", "2", "2", "2"]


def test_events_of_no_job_are_refused() -> None:
    """A problem before the stream is raised, and so is a stream that never ends with `end`."""
    missing = answer(404, b'{"code": "job_not_found"}', b"application/problem+json")
    with serving(Scripted(missing)) as url, Client(url) as client:
        with pytest.raises(anamorph.NotFound) as raised:
            list(client.job_events("a"))
        assert raised.value.code == "job_not_found"
    page = Scripted(answer(200, b"<html>", b"text/html"))
    with serving(page) as url, Client(url) as client:
        with pytest.raises(anamorph.UnexpectedAnswer):
            list(client.job_events("a"))
        assert len(page.seen) == 1
    empty = Scripted(stream(cut=False))
    with serving(empty) as url, Client(url, max_retries=0) as client:
        with pytest.raises(anamorph.UnexpectedAnswer):
            list(client.job_events("a"))
        assert len(empty.seen) == 1


@pytest.mark.parametrize("brought", [": ping\n\n", ""])
def test_a_quiet_job_is_waited_for(monkeypatch: pytest.MonkeyPatch, brought: str) -> None:
    """A connection that was held for a while was no failure, though it brought no event."""
    monkeypatch.setattr(events, "_GOOD_S", 0.0)
    monkeypatch.setattr(retries, "_FIRST_WAIT_S", 0.01)
    quiet = Scripted(*[stream(brought, cut=True)] * 5, stream(END, cut=False))
    with serving(quiet) as url, Client(url, max_retries=1) as client:
        assert [event.kind for event in client.job_events("a")] == ["end"]


def test_silence_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections on which the service falls silent at once are given up, however long each was."""
    now_s = 0.0
    monkeypatch.setattr(events, "time", SimpleNamespace(monotonic=lambda: now_s))
    replay = Replay("a", 0, Retries(count=1))

    def fall_silent() -> None:
        nonlocal now_s
        replay.request(httpx.Timeout(1))
        replay.begin()
        assert not list(replay.take(b": ping\n\n"))
        now_s += 46
        replay.pause_s(httpx.ReadTimeout(""))

    for _ in range(3):
        fall_silent()
    with pytest.raises(anamorph.Unreachable):
        fall_silent()


def test_a_garbled_answer() -> None:
    """An answer that does not unpack is Unreachable, as one that breaks off is."""
    garbled = Scripted(answer(200, b"no gzip", content_encoding="gzip"))
    with serving(garbled) as url, Client(url) as client, pytest.raises(anamorph.Unreachable):
        client.list_models()


def test_keys_from_files() -> None:
    """A key's line break does not count; what cannot be a key is refused and not repeated."""
    app = Scripted(answer(200, b"[]"))
    with serving(app) as url, Client(url, api_key="secret\r\n") as client:
        assert client.list_models() == []
    assert app.seen[0][1]["authorization"] == "Bearer secret"
    for key in ("sec\nret", "s\u00e9cret", "", "\n"):
        with pytest.raises(ValueError, match="API key") as raised:
            Client(api_key=key)
        assert not key or key not in str(raised.value)


def test_a_service_that_is_not_there() -> None:
    """A connection that is refused raises Unreachable, whatever the call."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with Client(url, max_retries=0) as client:
        for call in (client.list_models, lambda: list(client.job_events("a"))):
            with pytest.raises(anamorph.Unreachable) as raised:
                call()
            assert (raised.value.code, raised.value.status) == ("unreachable", None)


def test_the_wait_grows_and_ends() -> None:
    """Without Retry-After the waits double; after the last attempt there is none."""
    waits = [Retries(3).wait_s(httpx.Response(503), k, repeatable=True) for k in range(4)]
    assert waits[3] is None
    assert all(
        least <= wait <= 1.25 * least for least, wait in zip((0.5, 1, 2), waits[:3], strict=True)
    )
    impatient = [Retries(3, max_wait_s=0.1).pause_s(k) for k in range(4)]
    assert impatient[3] is None
    assert all(0.1 <= wait <= 0.125 for wait in impatient[:3])


@pytest.mark.parametrize(
    ("outcome", "repeatable", "again"),
    [
        (httpx.Response(429), True, True),
        (httpx.Response(429), False, False),
        (httpx.Response(500), True, False),
        (httpx.Response(504), True, False),
        (httpx.ConnectError("x"), False, True),
        (httpx.ReadError("x"), True, True),
        (httpx.ReadError("x"), False, False),
        (httpx.RemoteProtocolError("x"), True, True),
        (httpx.ReadTimeout("x"), True, False),
        (httpx.LocalProtocolError("x"), True, False),
    ],
)
def test_what_is_worth_another_try(outcome, repeatable: bool, again: bool) -> None:
    """A full service and a broken connection are; a slow answer or a faulty request is not."""
    assert (Retries().wait_s(outcome, 0, repeatable=repeatable) is not None) == again


def test_retry_after_may_be_a_date() -> None:
    """Retry-After is read as seconds or as a date; anything else is ignored."""

    def asked(text: str) -> float | None:
        return retry_after_s(httpx.Response(503, headers={"Retry-After": text}))

    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert asked("3") == 3
    assert 25 < (asked(soon) or 0) <= 30
    assert asked("Thu, 01 Jan 1970 00:00:00 GMT") == 0
    assert asked("soon") is None
    assert asked("Thu, 01 Jan 9999999999 00:00:00 GMT") is None
    assert asked("-1") is None
