"""Large pictures that would pass the deadline are refused before their pixels are touched."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from app import inference, pace
from app.callers import OPERATOR
from app.errors import QueueFull, TakesTooLong
from app.main import create_app
from app.pace import LargeQueue, Pace
from app.plans import stylize_plan
from app.schemas.pictures import StylizeParams
from app.service import Service
from models import images
from models.family import Task
from tiny import encoded, photo, publish_models, tiny_settings, until_ready


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(1e-3, 100)), min_size=1, max_size=30))
def test_the_pace_is_between_the_slowest_and_the_fastest_seen(
    pieces: list[tuple[int, float]],
) -> None:
    """Whatever tiles take, the prediction is a mean of what was measured, the first included."""
    known = Pace(1e-5)
    rates = [1e-5, *(seconds / pixels for pixels, seconds in pieces)]
    for pixels, seconds in pieces:
        known.observe(pixels, seconds)
    assert min(rates) * 0.999 <= known.seconds(1) <= max(rates) * 1.001


def test_a_machine_that_slows_down_is_noticed_and_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prediction follows the tiles' times; unobserved for long, it is the first one again."""
    known = Pace(1.0)
    for _ in range(60):
        known.observe(1, 5.0)
    assert known.seconds(1) > 4.5
    monkeypatch.setattr(pace, "_FORGOTTEN_S", 0)
    assert known.seconds(1) == pytest.approx(1.0)


def test_who_could_never_end_in_time_is_told_so() -> None:
    """Alone past the deadline is refused for good, past it because of others for a while."""
    queue, known = LargeQueue(deadline_s=100), Pace(1.0)
    with pytest.raises(TakesTooLong, match=r"101 s.*deadline_s.*100 s"), queue.join(known, 101):
        pass
    with queue.join(known, 60) as picture:
        with pytest.raises(QueueFull, match="deadline_s") as refused, queue.join(known, 60):
            pass
        assert refused.value.retry_after_s == 20
        picture.advance(40, 40.0)
        with queue.join(known, 60):
            pass
    with queue.join(known, 100):
        pass
    with LargeQueue(math.inf).join(known, 10**9):  # the command line waits as long as it takes
        pass


@pytest.mark.usefixtures("without_openvino")
def test_by_its_header_before_any_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that would take too long is a 413 that names prediction and limit, undecoded."""
    publish_models(tmp_path, ("starry-night",))
    small, large = encoded(photo(32, 32)), encoded(photo(128, 128))
    settings = tiny_settings(tmp_path, whole_pixels=32 * 32, tile_px=64, deadline_s=20.0)
    with TestClient(create_app(settings)) as client:
        until_ready(client)
        ask = "/v1/stylize?style=starry-night"
        assert client.post(ask, content=large).status_code == 200
        [model] = client.app.state.service.catalog.models(OPERATOR)  # type: ignore[attr-defined]
        monkeypatch.setattr(model.pace, "seconds", lambda pixels: pixels * 0.01)
        with monkeypatch.context() as patch:
            patch.setattr(images, "decode", lambda *_: pytest.fail("a pixel was decoded"))
            refused = client.post(ask, content=large)
        served = client.post(ask, content=small)
    assert (refused.status_code, refused.json()["code"]) == (413, "takes_too_long")
    assert "(deadline_s) is 20 s" in refused.json()["detail"]
    assert served.status_code == 200  # not in tiles, so never refused


@pytest.mark.usefixtures("without_openvino")
def test_tiles_that_run_are_observed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pixel that the queue was told of is run and observed; then the queue is empty."""
    publish_models(tmp_path, ("starry-night",))
    seen: list[int] = []
    monkeypatch.setattr(Pace, "observe", lambda self, pixels, seconds: seen.append(pixels))

    async def scenario() -> None:
        settings = tiny_settings(tmp_path, whole_pixels=1, tile_px=64, deadline_s=math.inf)
        service = Service(settings)
        service.start(load=False)
        try:
            await service.catalog.load(task=Task.STYLIZE)
            plan = await stylize_plan(service, StylizeParams(style="starry-night"), OPERATOR)
            await inference.run(service, encoded(photo(150, 90)), plan)
            rule = plan.model.rule
            assert sum(seen) == inference.work_pixels(150, 90, 64, rule)
            assert not service.large_queue._pictures
        finally:
            await service.close()

    asyncio.run(scenario())
