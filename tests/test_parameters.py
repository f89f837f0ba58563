"""What the parameters of translate, upscale and stylize do to a picture."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app import interpolations
from app.main import create_app
from models import images, lab
from tiny import encoded, opened, photo, pixels, publish_models, tiny_settings, until_ready


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_scale_is_the_same_picture(client: TestClient, scale: int) -> None:
    """Scales without their own network are the x4 answer, reduced."""
    response = client.post(
        "/v1/upscale", data={"scale": scale}, files={"image": encoded(photo(12, 16))}
    )
    answer = opened(response)
    assert answer.size == (16 * scale, 12 * scale)
    by_four = opened(client.post("/v1/upscale", files={"image": encoded(photo(12, 16))}))
    reduced = by_four.resize(answer.size, Image.Resampling.BICUBIC)
    assert np.abs(pixels(answer) - pixels(reduced)).max() <= 1


def test_detail_goes_from_regression_to_adversarial(client: TestClient) -> None:
    """Detail 0 and 1 are the two networks, and between them both are named."""
    answers = {
        detail: client.post(
            "/v1/upscale", data={"detail": detail}, files={"image": encoded(photo(16, 16))}
        )
        for detail in (0, 0.5, 0.51, 1)
    }
    assert [answers[d].headers["x-model"] for d in (0, 0.5, 1)] == [
        "srresnet-x4@1",
        "srresnet-x4@1, srgan-x4@1",
        "srgan-x4@1",
    ]
    assert answers[0.5].content == answers[0.51].content
    assert len({answer.content for answer in answers.values()}) == 3


def test_few_networks_are_made_for_details_at_a_time(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each further `detail` takes a network that is made first; beyond a few, others wait."""
    may_open = threading.Event()
    work = interpolations.open_between
    monkeypatch.setattr(
        interpolations, "open_between", lambda *given: may_open.wait(60) and work(*given)
    )

    def answered(step: int) -> httpx.Response:
        fields = {"detail": 0.55 + 0.05 * step}
        return client.post("/v1/upscale", params=fields, content=encoded(photo(16, 16)))

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(answered, step) for step in range(8)]
        refused = [done.result() for done in itertools.islice(as_completed(answers), 4)]
        may_open.set()
    assert {answer.json()["code"] for answer in refused} == {"queue_full"}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert sorted(done.result().status_code for done in answers) == [200] * 4 + [503] * 4


def test_a_particular_upscaler_can_be_named(client: TestClient) -> None:
    """`model` chooses the network; without `detail` it runs as it is."""
    response = client.post(
        "/v1/upscale", data={"model": "srgan-x4"}, files={"image": encoded(photo(16, 16))}
    )
    assert response.headers["x-model"] == "srgan-x4@1"


def test_strength_blends(client: TestClient) -> None:
    """Strength 0 is the input, 1 the style, one half lies between."""
    none, half, full = (
        pixels(
            opened(
                client.post(
                    "/v1/stylize",
                    data={"style": "starry-night", "strength": strength},
                    files={"image": encoded(photo())},
                )
            )
        )
        for strength in (0, 0.5, 1)
    )
    assert np.array_equal(none, pixels(photo()))
    assert np.abs(half - (none + full) / 2).max() <= 1


def test_keep_colors_changes_only_brightness(client: TestClient) -> None:
    """With keep_colors a grey picture stays grey."""
    grey = photo(24, 24, "L").point(lambda level: 64 + level // 2)
    response = client.post(
        "/v1/stylize",
        data={"style": "starry-night", "keep_colors": "true"},
        files={"image": encoded(grey.convert("RGB"))},
    )
    answer = pixels(opened(response))
    assert np.ptp(answer, axis=2).max() <= 2
    assert np.ptp(answer) > 2


def test_large_pictures_run_in_tiles(tmp_path: Path, client: TestClient) -> None:
    """A picture beyond whole_pixels is run in tiles and comes out as if it had not been."""
    data = encoded(photo(96, 80))
    whole = pixels(opened(client.post("/v1/upscale", files={"image": data})))
    publish_models(tmp_path, ("srresnet-x4",))
    with TestClient(create_app(tiny_settings(tmp_path, whole_pixels=1, tile_px=128))) as tiled:
        until_ready(tiled)
        response = tiled.post("/v1/upscale", files={"image": data})
    assert np.abs(pixels(opened(response)) - whole).max() <= 1
    tiles = response.headers["x-compute"].split("; ")[2]
    assert int(tiles.removeprefix("tiles=")) > 1


def test_large_pictures_are_seen_small(tmp_path: Path) -> None:
    """A model with view_px answers a large picture in one piece, in the picture's own size."""
    publish_models(tmp_path, ("zebra2horse",))
    with TestClient(create_app(tiny_settings(tmp_path, whole_pixels=1))) as client:
        until_ready(client)
        response = client.post(
            "/v1/translate",
            data={"model": "zebra2horse"},
            files={"image": encoded(photo(200, 300))},
        )
    assert opened(response).size == (300, 200)
    assert "tiles=1" in response.headers["x-compute"]


@pytest.mark.parametrize("size", [(24, 40), (700, 1000)])
def test_colour_leaves_the_lightness(client: TestClient, size: tuple[int, int]) -> None:
    """A grey photo of any size gets colours, and at every pixel keeps its lightness."""
    grey = photo(*size, mode="L")
    fields = {"model": "colorize", "format": "png"}
    response = client.post("/v1/translate", data=fields, files={"image": encoded(grey)})
    painted = opened(response)
    assert "tiles=1" in response.headers["x-compute"]
    assert np.ptp(pixels(painted), axis=2).max() > 5
    before, after = (
        lab.split(images.to_tensor(pixels(p).astype(np.uint8)))[0] for p in (grey, painted)
    )
    assert (before - after).abs().max() * 50 < 0.5
