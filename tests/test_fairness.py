"""Nobody's flood keeps another key waiting, or out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import app.service
from app.accounts import Account, on_account
from app.admission import Budget
from app.errors import MemoryFull, QueueFull
from app.faces.finding import Turns, find_faces
from app.fairness import FairGate, FairOrder
from app.keys import KeyStore, Scope
from app.metrics import Laps
from app.pace import LargeQueue, Pace
from app.service import Service
from models.faces.detection import Detector, Face
from models.images import Pixels
from test_batcher import Doubler, opened, picture, until
from test_keys import bearing
from test_server import STYLIZE, Server
from tiny import MODELS, encoded, photo, publish_models, tiny_settings

FLOOD, SLOW = Account("flood"), Account("slow")


@dataclass
class Work:
    """What waits for its turn."""

    account: str
    tag: float


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.1, 9)), min_size=2, max_size=80))
def test_two_who_always_ask_get_the_same(asked: list[tuple[str, float]]) -> None:
    """While both have work waiting, what each was served differs by a piece each at most."""
    order = FairOrder()
    queue = [(order.tag(who, cost), who, cost) for who, cost in asked]
    served = {"a": 0.0, "b": 0.0}
    largest = sum(max((cost for who, cost in asked if who == name), default=0) for name in "ab")
    while {who for _, who, _ in queue} == {"a", "b"}:
        first = min(queue)
        queue.remove(first)
        order.begin(first[0])
        served[first[1]] += first[2]
        assert abs(served["a"] - served["b"]) <= largest + 1e-6


def test_who_comes_anew_is_next_and_saves_nothing_up() -> None:
    """After a pause an account is next, once; it has no claim to the time it did not use."""
    order = FairOrder()
    for _ in range(100):
        order.begin(order.tag("flood", 1))
    waiting = [order.tag("flood", 1) for _ in range(3)]
    slow = [order.tag("slow", 1) for _ in range(3)]
    assert min([*waiting, *slow]) == slow[0]
    assert sorted(slow + waiting)[1:3] == [slow[1], waiting[0]]
    order.begin(slow[0])
    first, second = (Work("slow", tag) for tag in slow[1:])
    order.withdraw(first, 1, [second])
    assert second.tag == slow[1]  # what left the queue counts for nothing, and the next moves up
    order.withdraw(second, 1, [])
    assert order.tag("slow", 1) == slow[1]


def test_what_work_took_counts_once() -> None:
    """An account that was inside for long is as far behind as that, however many came meanwhile."""
    order = FairOrder()
    order.begin(order.tag("long", 1))
    for _ in range(10):
        order.begin(order.tag("others", 1))
    order.correct("long", 1, 11, [])
    assert order.tag("long", 1) == 12


def test_a_gate_lets_accounts_in_by_turns() -> None:
    """Behind fifty of one account, another's first is next; a cancelled one holds no place."""

    async def scenario() -> None:
        gate, done = FairGate(1), []
        held = asyncio.Event()

        async def work(account: Account) -> None:
            with on_account(account):
                async with gate.turn():
                    await held.wait()
                    done.append(account.name)

        flood = [asyncio.create_task(work(FLOOD)) for _ in range(50)]
        await asyncio.sleep(0)
        slow = asyncio.create_task(work(SLOW))
        await asyncio.sleep(0)
        for task in (flood[1], flood[0], flood[2]):
            task.cancel()
        held.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*flood, slow)
        await asyncio.gather(*flood, slow, return_exceptions=True)
        assert done == ["slow", *["flood"] * 47]
        async with asyncio.timeout(1), gate.turn():
            pass

    asyncio.run(scenario())


def test_turns_are_by_the_time_that_work_takes() -> None:
    """Beside a flood of slow work of unforeseen length, quick work waits for one piece of it."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened(max_batch=1)
        gate = FairGate(1)

        async def slow(_: int) -> None:
            for _ in range(4):
                await batcher.call(lambda: time.sleep(0.2), 60)

        async def slow_pixels(_: int) -> None:
            async with gate.turn():
                await asyncio.sleep(0.2)

        async def quick(_: int) -> None:
            await batcher.submit(engine, picture(0), 60, 0.01)

        async def quick_pixels(_: int) -> None:
            async with gate.turn():
                await asyncio.sleep(0.01)

        for flood, own in ((slow, quick), (slow_pixels, quick_pixels)):
            with on_account(FLOOD):
                flooding = [asyncio.create_task(flood(number)) for number in range(8)]
            await asyncio.sleep(0.3)
            began = time.monotonic()
            with on_account(SLOW):
                await asyncio.gather(*map(own, range(8)))
            assert time.monotonic() - began < 0.8
            for task in flooding:
                task.cancel()
            await asyncio.gather(*flooding, return_exceptions=True)
        await batcher.close()

    asyncio.run(scenario())


def test_a_full_queue_has_room_for_others() -> None:
    """Another account's picture takes the place of the flood's last, and is next to run."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened(max_batch=1, queue_limit=4)
        engine.gate.clear()
        with on_account(FLOOD):
            flood = [asyncio.create_task(batcher.submit(engine, picture(0), 60))]
            await until(lambda: engine.entered == 1)
            flood += [asyncio.create_task(batcher.submit(engine, picture(i), 60)) for i in range(4)]
            await until(lambda: batcher.depth == 4)
            with pytest.raises(QueueFull):
                batcher.ensure_room()
            with pytest.raises(QueueFull):
                await batcher.submit(engine, picture(9), 5)
        with on_account(SLOW):
            batcher.ensure_room()
            slow = asyncio.create_task(batcher.submit(engine, picture(7, side=8), 60))
        with pytest.raises(QueueFull) as refused:
            await flood[4]
        assert refused.value.retry_after_s >= 1
        engine.gate.set()
        await asyncio.gather(slow, *flood[:4])
        assert [shape[-1] for shape in engine.shapes] == [4, 8, 4, 4, 4]
        await batcher.close()

    asyncio.run(scenario())


def test_parts_of_what_was_admitted_shut_nobody_out() -> None:
    """Where one account's faces fill the queue, another's picture has room beyond its limit."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened(max_batch=1, queue_limit=4)
        engine.gate.clear()
        with on_account(FLOOD):
            faces = [asyncio.create_task(batcher.submit(engine, picture(0), 60))]
            await until(lambda: engine.entered == 1)
            faces += [asyncio.create_task(batcher.call(lambda: None, 60)) for _ in range(6)]
            await until(lambda: batcher.depth == 6)
        with on_account(SLOW):
            slow = asyncio.create_task(batcher.submit(engine, picture(7, side=8), 60))
            await until(lambda: batcher.depth == 7)
        with on_account(FLOOD), pytest.raises(QueueFull):
            await batcher.submit(engine, picture(9), 5)
        engine.gate.set()
        await asyncio.gather(slow, *faces)
        await batcher.close()

    asyncio.run(scenario())


def test_an_account_leaves_memory_to_others() -> None:
    """Whoever holds some of the memory already leaves an eighth; alone and first, all is theirs."""
    budget = Budget(800)
    with on_account(FLOOD), budget.share() as whole:
        whole.resize(800)
    with on_account(FLOOD), budget.share() as first, budget.share() as second:
        first.resize(400)
        second.resize(300)
        with pytest.raises(MemoryFull):
            second.resize(301)
        with on_account(SLOW), budget.share() as other:
            other.resize(100)
    assert not budget.held_by


def test_large_pictures_are_admitted_by_turns() -> None:
    """A queue that another account has filled up to the deadline still has room for one."""
    queue, known = LargeQueue(deadline_s=100), Pace(1.0)
    with contextlib.ExitStack() as stack:
        with on_account(FLOOD):
            for _ in range(4):
                stack.enter_context(queue.join(known, 25))
            with pytest.raises(QueueFull), queue.join(known, 25):
                pass
        with on_account(SLOW):
            stack.enter_context(queue.join(known, 75))
            with pytest.raises(QueueFull), queue.join(known, 25):
                pass


# In a process of its own: its threads would delay the slow client among them.
FLOODER = """
import http.client, json, sys, threading, time
port, key, threads, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
body, counts, waits = open(sys.argv[5], "rb").read(), {}, []
stop = time.monotonic() + seconds

def flood():
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while time.monotonic() < stop:
        connection.request("POST", sys.argv[6], body, {"X-API-Key": key})
        answer = connection.getresponse()
        told = answer.read()
        if answer.status == 200:
            waits.append(float(answer.headers["Server-Timing"].split("queue;dur=")[1].split(",")[0]))
        else:
            assert int(answer.headers["Retry-After"]) >= 1
            time.sleep(0.05)  # and comes back far too early
        counts[answer.status] = counts.get(answer.status, 0) + 1

all_threads = [threading.Thread(target=flood) for _ in range(threads)]
[thread.start() for thread in all_threads]
[thread.join() for thread in all_threads]
print(json.dumps({"counts": counts, "median_ms": sorted(waits)[len(waits) // 2]}))
"""


def test_a_flood_beside_a_slow_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow client is never refused and waits for about a batch, not for the flood's queue."""
    # As large as people's, so that the device and nothing else is what all wait for.
    monkeypatch.setitem(MODELS, "starry-night", ("style", {"base_channels": 32}, {}))
    publish_models(tmp_path, ("starry-night",))
    store = KeyStore(tmp_path)
    flood, slow = (store.create({Scope.INFER})[1] for _ in range(2))
    server = Server(
        tmp_path, tmp_path / "log", require_keys=True, queue_limit=16, threads=1, max_batch=2
    )
    picture_file = tmp_path / "picture.jpeg"
    picture_file.write_bytes(data := encoded(photo(256, 256), "jpeg"))

    with server.ready(240):
        words = [str(server.port), flood, "40", "8", str(picture_file), STYLIZE]
        with subprocess.Popen(
            [sys.executable, "-c", FLOODER, *words], stdout=subprocess.PIPE, text=True
        ) as flooding:
            time.sleep(2)
            waits_ms, stop = [], time.monotonic() + 5
            while time.monotonic() < stop:
                answer = server.client.post(STYLIZE, content=data, headers=bearing(slow))
                assert answer.status_code == 200, answer.text
                told = answer.headers["server-timing"]
                waits_ms.append(float(told.split("queue;dur=")[1].split(",")[0]))
                time.sleep(0.05)
            flooded = json.loads(flooding.communicate(timeout=90)[0])
    assert set(flooded["counts"]) == {"200", "503"}
    # In units of the flood's own wait, as a machine that does other things too slows both.
    assert np.percentile(waits_ms, 95) < flooded["median_ms"] / 2, (waits_ms, flooded)


class Crowd(Detector):
    """Finds the same thousands of faces in every picture, side by side."""

    faces = [
        Face((x, y, x + 9, y + 9), np.zeros((5, 2)), 0.99)
        for x, y in itertools.product(range(0, 600, 10), repeat=2)
    ]

    def look(self, rgb: Pixels) -> list[Face]:
        return self.faces


def test_a_crowd_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a picture's 3,600 faces are told from one another, the event loop answers others."""
    monkeypatch.setattr(app.service, "open_detector", lambda *_: Crowd())

    async def longest_silence_s(work: asyncio.Task[list[Face]]) -> float:
        longest_s, last_s = 0.0, time.monotonic()
        while not work.done():
            await asyncio.sleep(0.01)
            now_s = time.monotonic()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s
        return longest_s

    async def scenario() -> None:
        service = Service(tiny_settings(tmp_path))
        service.start(load=False)
        rgb = np.zeros((600, 600, 3), np.uint8)
        turns = Turns(service, time.monotonic() + 60, Laps())
        finding = asyncio.create_task(find_faces(turns, rgb))
        assert await longest_silence_s(finding) < 1
        assert len(finding.result()) == 3600
        await service.close()

    asyncio.run(scenario())
