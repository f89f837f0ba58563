"""The queue in front of a device."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from app.batcher import Batcher
from app.errors import DeadlineExceeded, NotReady, QueueFull


class Doubler:
    """Doubles pictures and remembers the batches it saw; `gate` holds it back."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = 0

    def __call__(self, batch: Tensor) -> Tensor:
        self.entered += 1
        self.gate.wait(5)
        self.shapes.append(tuple(batch.shape))
        if bool((batch == -99).any()):
            raise ValueError("a picture this engine cannot stand")
        return batch * 2


def picture(value: float, side: int = 4) -> Tensor:
    return torch.full((3, side, side), value)


async def opened(max_batch: int = 4, max_wait_ms: float = 20, queue_limit: int = 64) -> Batcher:
    batcher = Batcher(max_batch, max_wait_ms, queue_limit)
    batcher.start()
    return batcher


def test_who_leaves_the_queue_has_used_nothing() -> None:
    """A picture that is late before it runs says so; one that ran, or runs, does not."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened(max_batch=1)
        engine.gate.clear()
        unused: list[str] = []
        running = asyncio.create_task(
            batcher.submit(engine, picture(0), 60, unused=lambda: unused.append("running"))
        )
        await until(lambda: engine.entered == 1)
        with pytest.raises(DeadlineExceeded):
            await batcher.submit(engine, picture(1), 0.05, unused=lambda: unused.append("late"))
        engine.gate.set()
        await running
        assert unused == ["late"]
        await batcher.close()

    asyncio.run(scenario())


def test_who_leaves_as_the_device_comes_free_has_used_nothing() -> None:
    """A picture that is late at the very moment it could have run gets its cost back."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened(max_batch=1)
        engine.gate.clear()
        unused: list[str] = []
        running = asyncio.create_task(batcher.submit(engine, picture(0), 60))
        await until(lambda: engine.entered == 1)
        late = asyncio.create_task(
            batcher.submit(engine, picture(1), 60, unused=lambda: unused.append("late"))
        )
        await until(lambda: batcher.depth == 1)
        engine.gate.set()
        time.sleep(0.05)  # noqa: ASYNC251 -- the loop is busy while the device comes free
        await asyncio.sleep(0)
        late.cancel()
        await asyncio.gather(running, late, return_exceptions=True)
        await batcher.close()
        assert (engine.entered, unused) == (1, ["late"])

    asyncio.run(scenario())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 -- conditions of another thread
            await asyncio.sleep(0.001)


@given(
    requests=st.lists(st.tuples(st.integers(-9, 9), st.sampled_from([4, 5, 8])), max_size=24),
    max_batch=st.integers(1, 5),
)
@settings(max_examples=25, deadline=None)
def test_everyone_gets_their_own_answer(requests: list[tuple[int, int]], max_batch: int) -> None:
    """Every picture gets its own answer, and batches hold one size and at most max_batch."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened(max_batch, max_wait_ms=1)
        with batcher.announced():
            answers = await asyncio.gather(
                *(batcher.submit(engine, picture(value, side), 5) for value, side in requests)
            )
        for (value, side), done in zip(requests, answers, strict=True):
            assert torch.equal(done.value, picture(2 * value, side))
        assert sum(shape[0] for shape in engine.shapes) == len(requests)
        assert all(shape[0] <= max_batch for shape in engine.shapes)
        await batcher.close()

    asyncio.run(scenario())


def test_a_busy_device_fills_batches() -> None:
    """Pictures that arrive while the device is busy run together."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened()
        engine.gate.clear()
        first = asyncio.create_task(batcher.submit(engine, picture(1), 5))
        await until(lambda: engine.entered == 1)
        rest = [asyncio.create_task(batcher.submit(engine, picture(i), 5)) for i in range(4)]
        await until(lambda: batcher.depth == 4)
        engine.gate.set()
        await asyncio.gather(first, *rest)
        assert [shape[0] for shape in engine.shapes] == [1, 4]
        assert (await rest[0]).batch_size == 4
        await batcher.close()

    asyncio.run(scenario())


def test_the_clock_starts_at_the_first_picture() -> None:
    """A picture waits for announced others, but never longer than max_wait_ms."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened(max_wait_ms=60)
        with batcher.announced():
            started = time.monotonic()
            first = asyncio.create_task(batcher.submit(engine, picture(1), 5))
            await asyncio.sleep(0.04)
            second = asyncio.create_task(batcher.submit(engine, picture(2), 5))
            await asyncio.gather(first, second)
            assert 0.05 < time.monotonic() - started < 0.095
        assert engine.shapes == [(2, 3, 4, 4)]
        await batcher.close()

    asyncio.run(scenario())


def test_a_lone_picture_does_not_wait() -> None:
    """With no other request announced, a picture runs at once."""

    async def scenario() -> None:
        batcher = await opened(max_wait_ms=5000)
        started = time.monotonic()
        await batcher.submit(Doubler(), picture(1), 9)
        assert time.monotonic() - started < 1
        await batcher.close()

    asyncio.run(scenario())


def test_what_runs_alone_does_not_wait() -> None:
    """A tile or a look for faces, which shares its run with nothing, waits for no announced one."""

    async def scenario() -> None:
        batcher = await opened(max_wait_ms=5000)
        started = time.monotonic()
        with batcher.announced():
            assert (await batcher.call(lambda: "done", 9)).value == "done"
        assert time.monotonic() - started < 1
        await batcher.close()

    asyncio.run(scenario())


def test_a_full_queue_refuses() -> None:
    """Beyond queue_limit a picture is refused with a time to come back."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened(queue_limit=2)
        engine.gate.clear()
        running = asyncio.create_task(batcher.submit(engine, picture(0), 5))
        await until(lambda: engine.entered == 1)
        waiting = [asyncio.create_task(batcher.submit(engine, picture(i), 5, 20)) for i in (1, 2)]
        await until(lambda: batcher.depth == 2)
        with pytest.raises(QueueFull) as refusal:
            await batcher.submit(engine, picture(3), 5)
        assert refusal.value.retry_after_s == pytest.approx(40)  # what those before are to take
        with pytest.raises(QueueFull):
            batcher.ensure_room()
        engine.gate.set()
        await asyncio.gather(running, *waiting)
        await batcher.close()

    asyncio.run(scenario())


def test_who_leaves_or_is_late_is_not_run() -> None:
    """A cancelled and an expired picture leave the queue without reaching the engine."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened(max_batch=1)
        engine.gate.clear()
        running = asyncio.create_task(batcher.submit(engine, picture(0), 5))
        await until(lambda: engine.entered == 1)
        leaver = asyncio.create_task(batcher.submit(engine, picture(1), 5))
        late = asyncio.create_task(batcher.submit(engine, picture(2), 0.02))
        await until(lambda: batcher.depth == 2)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        with pytest.raises(DeadlineExceeded, match="deadline_s"):
            await late
        assert batcher.depth == 0
        engine.gate.set()
        await running
        assert len(engine.shapes) == 1
        await batcher.close()

    asyncio.run(scenario())


def test_an_error_reaches_only_its_picture() -> None:
    """When one picture of a batch breaks the engine, its neighbours still get their answers."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened(max_batch=3)
        with batcher.announced():
            answers = await asyncio.gather(
                *(batcher.submit(engine, picture(value), 5) for value in (1, -99, 3)),
                return_exceptions=True,
            )
        assert torch.equal(answers[0].value, picture(2))
        assert isinstance(answers[1], ValueError)
        assert torch.equal(answers[2].value, picture(6))
        assert engine.shapes[0][0] == 3
        await batcher.close()

    asyncio.run(scenario())


def test_closing_answers_everyone() -> None:
    """Closing refuses those who wait, and later ones, instead of leaving them hanging."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened(max_batch=1)
        engine.gate.clear()
        tasks = [asyncio.create_task(batcher.submit(engine, picture(i), 5)) for i in range(3)]
        await until(lambda: batcher.depth == 2)
        engine.gate.set()
        await batcher.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, NotReady) for outcome in outcomes[1:])
        with pytest.raises(NotReady):
            await batcher.submit(engine, picture(9), 5)

    asyncio.run(scenario())


def test_closing_answers_a_batch_that_failed() -> None:
    """Closing refuses the pictures of a failed batch, too, while they run one by one."""
    one_by_one, gate = threading.Event(), threading.Event()

    def engine(batch: Tensor) -> Tensor:
        if len(batch) > 1:
            raise ValueError("too many for this engine")
        one_by_one.set()
        gate.wait(5)
        return batch

    async def scenario() -> None:
        batcher = await opened(max_batch=3)
        submitted = (batcher.submit(engine, picture(value), 60) for value in range(3))
        tasks = [asyncio.create_task(waiting) for waiting in submitted]
        await until(one_by_one.is_set)
        closing = asyncio.create_task(batcher.close())
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [NotReady] * 3
        gate.set()
        await closing

    asyncio.run(scenario())


def test_work_that_fails_is_charged() -> None:
    """Who makes the device work to no end is told what that took, as one whose work succeeds."""

    def failing() -> None:
        time.sleep(0.05)
        raise ArithmeticError

    async def scenario() -> None:
        took_s: list[float] = []
        batcher = await opened()
        with pytest.raises(ArithmeticError):
            await batcher.call(failing, 5, ran=took_s.append)
        assert [ran_s >= 0.05 for ran_s in took_s] == [True]
        await batcher.close()

    asyncio.run(scenario())


def test_work_runs_alone_and_in_turn() -> None:
    """A call shares the device's thread with the batches and returns what its work returns."""

    async def scenario() -> None:
        engine, batcher = Doubler(), await opened()
        thread = await batcher.call(lambda: threading.current_thread().name, 5)
        picture_done = await batcher.submit(engine, picture(1), 5)
        assert thread.value.startswith("device")
        assert thread.batch_size == picture_done.batch_size == 1
        await batcher.close()

    asyncio.run(scenario())
