"""The API with a tiny network of every family behind it."""

from __future__ import annotations

import base64
import tempfile
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.main import create_app
from models.images import Format
from tiny import encoded, opened, photo, publish_models, tiny_settings, until_ready

TASKS = [
    ("/v1/translate", {"model": "facades"}, 1),
    ("/v1/translate", {"model": "horse2zebra"}, 1),
    ("/v1/translate", {"model": "colorize"}, 1),
    ("/v1/upscale", {}, 4),
    ("/v1/stylize", {"style": "starry-night"}, 1),
]


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
        ("image/*, image/png;q=0.1", "JPEG"),
        ("application/*;q=0.1, */*;q=0.2", "PNG"),
    ],
)
def test_accept_is_negotiated(client: TestClient, accept: str, kind: str) -> None:
    """The most wanted format is answered, the input's own among equals."""
    response = client.post(
        "/v1/upscale", files={"image": encoded(photo(8, 8))}, headers={"Accept": accept}
    )
    assert opened(response).format == kind
    assert response.headers["vary"] == "Accept"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (["application/*"], "application/json"),
        (["image/*;q=0, */*"], "application/json"),
        (["text/html", "image/webp"], "image/webp"),
        (["image/webp;q=0.1", "application/json"], "application/json"),
    ],
)
def test_accept_is_read_as_a_whole(client: TestClient, accept: list[str], kind: str) -> None:
    """A range within another decides for its types, and several Accept fields are one list."""
    headers = [("Accept", value) for value in accept]
    answer = client.post("/v1/upscale", content=encoded(photo(8, 8)), headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)


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
    assert len(client.get("/readyz").json()["models"]) == len(client.get("/v1/models").json())
    document = client.get("/openapi.json").json()
    upscale = document["paths"]["/v1/upscale"]["post"]
    form = upscale["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"image", "scale", "detail", "model", "format", "quality"}
    assert {"ImageAnswer", "Problem"} <= set(document["components"]["schemas"])
    assert "curl" in document["info"]["description"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/docs", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/v1/models", 200),
        ("/v1/models/starry-night", 200),
        ("/v1/models/nobody", 404),
        ("/v1/upscale", 405),
    ],
)
def test_head_is_get_without_the_content(client: TestClient, path: str, status: int) -> None:
    """What GET would answer, HEAD does, but for the content."""
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (whole.status_code, b"") == (status, b"")
    for name in ("content-type", "content-length", "cache-control", "allow"):
        assert head.headers.get(name) == whole.headers.get(name)
    assert client.delete("/v1/models").headers["allow"] == "GET, HEAD"


def test_metrics_count_what_happened(client: TestClient) -> None:
    """Prometheus sees requests by route and status, stages by model, and the queue."""
    client.post("/v1/upscale", files={"image": encoded(photo(8, 8))})
    client.get("/v1/nowhere")
    client.head("/v1/models/nobody")
    text = client.get("/metrics").text
    assert 'anamorph_requests_total{route="/v1/upscale",status="200"}' in text
    assert 'anamorph_requests_total{route="unmatched",status="404"}' in text
    assert 'anamorph_requests_total{route="/v1/models/{name}",status="404"}' in text
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
    assert list(ready["failed"]) == ["facades"]
    assert response.status_code == 200
