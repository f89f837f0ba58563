"""The API with a tiny network of every family behind it."""

from __future__ import annotations

import base64
import itertools
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from io import BytesIO
from pathlib import Path
from typing import get_args

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app import catalog
from app.main import create_app
from models import images, lab
from models.images import Format
from tiny import encoded, opened, photo, publish_models, tiny_settings, until_ready

TASKS = [
    ("/v1/translate", {"model": "facades"}, 1),
    ("/v1/translate", {"model": "horse2zebra"}, 1),
    ("/v1/translate", {"model": "colorize"}, 1),
    ("/v1/upscale", {}, 4),
    ("/v1/stylize", {"style": "starry-night"}, 1),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    publish_models(folder)
    return folder


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[TestClient]:
    with TestClient(create_app(tiny_settings(home))) as client:
        until_ready(client)
        yield client


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize(("url", "fields", "scale"), TASKS)
@pytest.mark.parametrize("size", [(24, 40), (1, 1), (1, 37), (53, 19), (64, 64)])
def test_the_answer_has_the_inputs_size(client: TestClient, url, fields, scale, size) -> None:
    """Any size goes in, odd and 1 x 1 too, and comes back times the scale."""
    response = client.post(url, data=fields, files={"image": encoded(photo(*size))})
    assert opened(response).size == (size[1] * scale, size[0] * scale)


@pytest.mark.parametrize("kind", get_args(Format))
def test_the_answer_has_the_inputs_format(client: TestClient, kind: str) -> None:
    """Without a wish, each accepted format is answered in kind."""
    response = client.post("/v1/upscale", files={"image": encoded(photo(), kind)})
    assert opened(response).format == kind.upper()
    assert response.headers["content-type"] == f"image/{kind}"


def test_an_upload_needs_no_disk(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture of megabytes is taken where no temporary file can be made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    data = encoded(photo(700, 700), "tiff")
    assert len(data) > 2**20
    response = client.post("/v1/stylize?style=starry-night&format=jpeg", files={"image": data})
    assert opened(response).size == (700, 700)


@pytest.mark.parametrize("kind", get_args(Format))
def test_format_chooses_the_encoding(client: TestClient, kind: str) -> None:
    """The parameter `format` wins over Accept and over the input's format."""
    response = client.post(
        "/v1/upscale",
        data={"format": kind, "scale": 2},
        files={"image": encoded(photo())},
        headers={"Accept": "image/webp"},
    )
    assert opened(response).format == kind.upper()


def test_quality_makes_files_smaller(client: TestClient) -> None:
    """A lower quality gives fewer bytes."""
    sizes = [
        len(
            client.post(
                "/v1/upscale",
                data={"format": "jpeg", "quality": quality},
                files={"image": encoded(photo(64, 64))},
            ).content
        )
        for quality in (20, 95)
    ]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "PNG"),
        ("image/*", "PNG"),
        ("image/webp", "WEBP"),
        ("image/webp, image/png", "PNG"),
        ("image/png;q=0.5, image/jpeg", "JPEG"),
        ("image/avif,image/webp,image/apng,image/*,*/*;q=0.8", "PNG"),
        ("image/png;q=0, image/*", "JPEG"),
        ("text/html, image/webp;q=0.3", "WEBP"),
        ("application/json;q=0.1, image/*", "PNG"),
    ],
)
def test_accept_is_negotiated(client: TestClient, accept: str, kind: str) -> None:
    """The most wanted format is answered, the input's own among equals."""
    response = client.post(
        "/v1/upscale", files={"image": encoded(photo(8, 8))}, headers={"Accept": accept}
    )
    assert opened(response).format == kind
    assert response.headers["vary"] == "Accept"


def test_json_holds_the_picture_and_how_it_came_about(client: TestClient) -> None:
    """With Accept: application/json the answer is an object with base64 and the details."""
    response = client.post(
        "/v1/upscale",
        data={"scale": 3},
        files={"image": encoded(photo(10, 20))},
        headers={"Accept": "application/json"},
    )
    answer = response.json()
    assert (answer["width"], answer["height"]) == (60, 30)
    assert (answer["input_width"], answer["input_height"]) == (20, 10)
    assert Image.open(BytesIO(base64.b64decode(answer["image"]))).size == (60, 30)
    assert answer["media_type"] == "image/png"
    assert answer["model"] == "srresnet-x4@1"
    assert set(answer["timings_ms"]) == {"decode", "queue", "forward", "encode"}


@pytest.mark.parametrize(("url", "fields", "scale"), TASKS)
def test_a_raw_body_is_the_same_as_a_form(client: TestClient, url, fields, scale) -> None:
    """The image as the whole body with query parameters answers what the form answers."""
    data = encoded(photo())
    form = client.post(url, data=fields, files={"image": data})
    raw = client.post(url, params=fields, content=data)
    assert raw.status_code == 200
    assert raw.content == form.content


def test_headers_tell_model_weights_and_times(client: TestClient) -> None:
    """Every answer names the weights that made it and where its time went."""
    response = client.post(
        "/v1/stylize", data={"style": "starry-night@1"}, files={"image": encoded(photo())}
    )
    details = client.get("/v1/models/starry-night").json()
    headers = response.headers
    assert headers["x-model"] == "starry-night@1"
    assert headers["x-weights-sha256"] == details["sha256"]
    device, dtype, tiles, batch = headers["x-compute"].split("; ")
    assert (device, dtype) == (details["device"], details["dtype"])
    assert (tiles, batch) == ("tiles=1", "batch=1")
    stages = [entry.split(";dur=")[0] for entry in headers["server-timing"].split(", ")]
    assert stages == ["decode", "queue", "forward", "encode"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(("url", "fields", "scale"), TASKS)
def test_alpha_is_carried_through(client: TestClient, url, fields, scale) -> None:
    """Transparency comes back, enlarged with the picture."""
    image = photo(16, 16, "RGBA")
    alpha = Image.new("L", (16, 16), 255)
    alpha.paste(0, (0, 0, 8, 16))
    image.putalpha(alpha)
    answer = opened(client.post(url, data=fields, files={"image": encoded(image)}))
    assert answer.mode == "RGBA"
    assert answer.size == (16 * scale, 16 * scale)
    columns = np.asarray(answer)[..., 3].mean(axis=0)
    assert columns[: 6 * scale].max() < 8
    assert columns[10 * scale :].min() > 247


@pytest.mark.parametrize("kind", sorted({*get_args(Format)} - {"jpeg"}))
def test_alpha_survives_in_every_format_but_jpeg(client: TestClient, kind: str) -> None:
    """Clear and opaque pixels stay so in all formats that can say it, a GIF's and a TIFF's too."""
    image = photo(16, 16, "RGBA")
    image.putalpha(Image.new("L", (16, 16), 255))
    image.paste((0, 0, 0, 0), (0, 0, 8, 16))
    answer = opened(client.post("/v1/upscale", files={"image": encoded(image, kind)}))
    assert answer.format == kind.upper()
    columns = np.asarray(answer.convert("RGBA"))[..., 3].mean(axis=0)
    assert columns[:24].max() < 8
    assert columns[40:].min() > 247


def test_photos_come_back_upright_and_without_metadata(client: TestClient) -> None:
    """EXIF orientation is applied once; the answer carries no EXIF."""
    exif = Image.Exif()
    exif[274] = 6
    exif[271] = "a maker"
    response = client.post(
        "/v1/upscale", data={"scale": 2}, files={"image": encoded(photo(20, 40), "jpeg", exif=exif)}
    )
    answer = opened(response)
    assert answer.size == (40, 80)
    assert not answer.getexif()
    assert b"a maker" not in response.content


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
    work = catalog.open_between
    monkeypatch.setattr(catalog, "open_between", lambda *given: may_open.wait(60) and work(*given))

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


def test_models_are_listed(client: TestClient) -> None:
    """Every promoted model is listed with its task, family and digest."""
    listed = {model["name"]: model for model in client.get("/v1/models").json()}
    assert {name: model["task"] for name, model in listed.items()} == {
        "colorize": "translate",
        "facades": "translate",
        "horse2zebra": "translate",
        "srgan-x4": "upscale",
        "srresnet-x4": "upscale",
        "starry-night": "stylize",
    }
    assert listed["srgan-x4"]["scale"] == 4
    assert listed["horse2zebra"]["licence"] == "CC0"
    details = client.get("/v1/models/srgan-x4").json()
    assert details["card"]["regression_model"] == "srresnet-x4"
    assert details["parameters"] > 0
    assert details["size_multiple_of"] == 1


def test_service_routes_answer(client: TestClient) -> None:
    """Liveness, readiness, metrics, the OpenAPI document and its page are there."""
    assert client.get("/healthz").json() == {"status": "ok"}
    for path in ("/healthz", "/readyz", "/"):
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
    assert len(client.get("/readyz").json()["models"]) == len(client.get("/v1/models").json())
    document = client.get("/openapi.json").json()
    upscale = document["paths"]["/v1/upscale"]["post"]
    form = upscale["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"image", "scale", "detail", "model", "format", "quality"}
    assert {"ImageAnswer", "Problem"} <= set(document["components"]["schemas"])
    assert "curl" in document["info"]["description"]


def test_metrics_count_what_happened(client: TestClient) -> None:
    """Prometheus sees requests by route and status, stages by model, and the queue."""
    client.post("/v1/upscale", files={"image": encoded(photo(8, 8))})
    client.get("/v1/nowhere")
    text = client.get("/metrics").text
    assert 'anamorph_requests_total{route="/v1/upscale",status="200"}' in text
    assert 'anamorph_requests_total{route="unmatched",status="404"}' in text
    assert 'anamorph_stage_seconds_count{model="srresnet-x4",stage="forward"}' in text
    assert "anamorph_queue_depth 0.0" in text
    assert "anamorph_held_bytes 0.0" in text


def test_request_ids_are_returned(client: TestClient) -> None:
    """A sound X-Request-ID comes back, any other is replaced."""
    assert client.get("/healthz", headers={"X-Request-ID": "a-1"}).headers["x-request-id"] == "a-1"
    replaced = client.get("/healthz", headers={"X-Request-ID": "a b"}).headers["x-request-id"]
    assert len(replaced) == 32


def test_a_damaged_model_is_left_out(tmp_path: Path) -> None:
    """A model that does not load is named in /readyz, and the others serve."""
    publish_models(tmp_path, ("facades", "starry-night"))
    [weights] = (tmp_path / "models" / "facades").glob("*.safetensors")
    weights.chmod(0o644)
    data = weights.read_bytes()
    weights.write_bytes(data[:-64])
    with TestClient(create_app(tiny_settings(tmp_path))) as client:
        until_ready(client)
        ready = client.get("/readyz").json()
        response = client.post(
            "/v1/stylize", data={"style": "starry-night"}, files={"image": encoded(photo())}
        )
    assert ready["models"] == ["starry-night@1"]
    assert list(ready["failed"]) in (["facades"], [])
    assert response.status_code == 200
