"""The budget of memory."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.accounts import Account, on_account
from app.admission import Budget, Places
from app.errors import Busy, MemoryFull
from app.main import create_app
from app.service import Service
from models.errors import ImageTooLarge
from tiny import encoded, photo, publish_models, tiny_settings, until_ready


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 150)), max_size=30))
def test_shares_never_exceed_the_budget(requests: list[tuple[int, int]]) -> None:
    """Whatever is asked for, the shares' sum is at most the budget, and all is given back."""
    budget = Budget(100)
    with contextlib.ExitStack() as stack:
        shares = [stack.enter_context(budget.share()) for _ in range(4)]
        for index, size in requests:
            with contextlib.suppress(MemoryFull, ImageTooLarge):
                shares[index].resize(size)
            assert 0 <= budget.held_bytes <= 100
    assert budget.held_bytes == 0


def test_who_could_never_fit_is_told_so() -> None:
    """Too much for the whole budget is too large; too much beside others may come back."""
    budget = Budget(100)
    with budget.share() as first, budget.share() as second:
        with pytest.raises(ImageTooLarge, match="max_memory_bytes"):
            first.resize(101)
        first.resize(60)
        with pytest.raises(MemoryFull):
            second.resize(60)
        second.resize(40)


@pytest.mark.parametrize("in_tiles", [False, True])
def test_what_a_thread_works_on_is_held(tmp_path: Path, in_tiles: bool) -> None:
    """Of a client who left, memory is given back once the thread that works there lets it go."""
    begun, told, gate = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        gate.wait(5)

    async def request(service: Service) -> None:
        with service.budget.share() as share:
            share.resize(1000)
            if in_tiles:
                await service.in_tiler(work, 1.0, told.set)
            else:
                await service.in_codecs(work)

    async def scenario() -> None:
        service = Service(tiny_settings(tmp_path))
        service.start(load=False)
        running = asyncio.create_task(request(service))
        await asyncio.to_thread(begun.wait, 5)
        running.cancel()
        await asyncio.sleep(0.1)
        assert service.budget.held_bytes == 1000
        assert told.is_set() == in_tiles
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert service.budget.held_bytes == 0
        await service.close()

    asyncio.run(scenario())


@pytest.mark.usefixtures("without_openvino")
def test_a_picture_beyond_the_budget_is_refused_beforehand(tmp_path: Path) -> None:
    """A picture whose answer would not fit into memory is a 413 that names the limit."""
    publish_models(tmp_path, ("srresnet-x4",))
    small, large = encoded(photo(8, 8)), encoded(photo(64, 64))
    with TestClient(create_app(tiny_settings(tmp_path, max_memory_bytes=100_000))) as client:
        not_yet = client.post("/v1/upscale", content=small)
        waiting = client.get("/readyz")
        until_ready(client)
        response = client.post("/v1/upscale", content=large)
        served = client.post("/v1/upscale", content=small)
    assert [answer.json()["code"] for answer in (not_yet, waiting)] == ["not_ready"] * 2
    assert int(not_yet.headers["retry-after"]) >= 1
    assert (response.status_code, response.json()["code"]) == (413, "image_too_large")
    assert "max_memory_bytes" in response.json()["detail"]
    assert served.status_code == 200


@pytest.mark.usefixtures("without_openvino")
def test_what_a_picture_is_padded_with_needs_memory(tmp_path: Path) -> None:
    """One row of pixels is foreseen to take as much as the 32 rows that the network is shown."""
    publish_models(tmp_path, ("facades",))
    with TestClient(create_app(tiny_settings(tmp_path, max_memory_bytes=500_000))) as client:
        until_ready(client)
        answers = [
            client.post("/v1/translate?model=facades", content=encoded(photo(1, width), "jpeg"))
            for width in (1000, 2000)
        ]
    assert [answer.status_code for answer in answers] == [200, 413]


@pytest.mark.usefixtures("without_openvino")
@pytest.mark.parametrize(("size", "status"), [("100x800", 413), ("800x100", 200)])
def test_a_box_is_for_the_upright_picture(tmp_path: Path, size: str, status: int) -> None:
    """What a picture reduced into a box takes is the same whether EXIF turns it upright or not."""
    publish_models(tmp_path, ("starry-night",))
    upright, turned = photo(800, 100), photo(100, 800)
    orientation = Image.Exif()
    orientation[274] = 6
    pictures = encoded(upright, "jpeg"), encoded(turned, "jpeg", exif=orientation)
    form = {"model": "starry-night", "size": size, "output_format": "avif"}
    with TestClient(create_app(tiny_settings(tmp_path, max_memory_bytes=2_500_000))) as client:
        until_ready(client)
        answers = [
            client.post("/v1/images/edits", files={"image": picture}, data=form)
            for picture in pictures
        ]
    assert [answer.status_code for answer in answers] == [status] * 2


@pytest.mark.usefixtures("without_openvino")
def test_what_is_reduced_needs_more_memory(tmp_path: Path) -> None:
    """By a network for x4, an answer at x2 is foreseen to take more memory than one at x4."""
    publish_models(tmp_path, ("srresnet-x4",))
    with TestClient(create_app(tiny_settings(tmp_path, max_memory_bytes=500_000))) as client:
        until_ready(client)
        picture = encoded(photo(64, 64), "jpeg")
        answers = [client.post(f"/v1/upscale?scale={n}", content=picture) for n in (4, 2)]
    assert [answer.status_code for answer in answers] == [200, 413]


@pytest.mark.usefixtures("without_openvino")
def test_transparency_needs_more_memory(tmp_path: Path) -> None:
    """An answer with transparency is foreseen to take more memory than the same without."""
    publish_models(tmp_path, ("starry-night",))
    with TestClient(create_app(tiny_settings(tmp_path, max_memory_bytes=1_500_000))) as client:
        until_ready(client)
        pictures = [encoded(photo(200, 200, mode)) for mode in ("RGB", "RGBA")]
        style = "/v1/stylize?style=starry-night&format=webp"
        answers = [client.post(style, content=picture) for picture in pictures]
    assert [answer.status_code for answer in answers] == [200, 413]


def test_places_are_not_for_one_alone() -> None:
    """Who has all places that one may have leaves some to others; what ends makes room."""
    places, full = Places(of_one=2, of_all=3), Busy("full", retry_after_s=1)
    with contextlib.ExitStack() as held:
        for _ in range(2):
            held.enter_context(places.place(full))
        with pytest.raises(Busy), places.place(full):
            pass
        with on_account(Account("another")):
            held.enter_context(places.place(full))
            with pytest.raises(Busy), places.place(full):
                pass
    with places.place(full):
        pass


def test_a_share_that_grows_counts_once() -> None:
    """What a request held before does not stand in the way of its own larger share."""
    budget = Budget(100)
    with budget.share() as share:
        share.resize(60)
        share.resize(70)
        assert budget.held_bytes == 70
