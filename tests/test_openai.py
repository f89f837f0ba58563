"""OpenAI's own Python package, pointed at a running service."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from fastapi.testclient import TestClient
from openai import OpenAI
from PIL import Image

from app.keys import KeyStore, Scope
from app.main import create_app
from models import images
from models.checkpoint import amend_card
from models.registry import Registry
from test_server import Server
from tiny import encoded, opened, photo, publish_models, tiny_settings, until_ready

PHOTO = encoded(photo(24, 40))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a service with a model of each task, and one that is somebody's own."""
    home = tmp_path_factory.mktemp("home")
    publish_models(home, ("facades", "srresnet-x4", "starry-night", "face-surroundings"))
    registry = Registry(home, home / "no weights")
    copy = home / "copy.safetensors"
    copy.write_bytes(registry.resolve("starry-night").path.read_bytes())
    amend_card(copy, {"lineage": {"owner": KeyStore(home).create({Scope.INFER})[0].id}})
    registry.promote("somebodys", registry.publish(copy, "somebodys").version)
    return home


@pytest.fixture(scope="module")
def key(home: Path) -> str:
    return KeyStore(home).create({Scope.INFER})[1]


@pytest.fixture(scope="module")
def server(home: Path, key: str) -> Iterator[Server]:
    server = Server(home, home / "log", require_keys=True, max_pixels=10_000)
    server.client.headers["Authorization"] = f"Bearer {key}"
    with server.ready(240):
        yield server


@pytest.fixture(scope="module")
def client(server: Server, key: str) -> Iterator[OpenAI]:
    base_url = f"http://127.0.0.1:{server.port}/v1"
    with OpenAI(api_key=key, base_url=base_url, max_retries=0) as client:
        yield client


def edit(client: OpenAI, **parameters: Any) -> Image.Image:
    """Return the one picture of an answer, whose format and size are as the answer says."""
    answer = client.images.edit(**{"image": PHOTO, "prompt": "any"} | parameters)
    assert answer.data
    [picture] = answer.data
    assert picture.b64_json
    image = Image.open(BytesIO(base64.b64decode(picture.b64_json)))
    assert image.format
    assert image.format.lower() == answer.output_format
    assert f"{image.width}x{image.height}" == answer.size
    return image


@pytest.mark.parametrize(
    ("model", "endpoint"),
    [
        ("facades", "translate?model=facades"),
        ("srresnet-x4@1", "upscale?model=srresnet-x4"),
        ("starry-night", "stylize?style=starry-night"),
    ],
)
def test_any_model_edits_a_picture(
    client: OpenAI, server: Server, model: str, endpoint: str
) -> None:
    """`images.edit` gives the picture that the model's own endpoint gives, as PNG by default."""
    image = edit(client, model=model)
    own = opened(server.client.post(f"/v1/{endpoint}&format=png", content=PHOTO))
    assert image.format == "PNG"
    assert np.array_equal(np.asarray(image), np.asarray(own))


def test_faces_are_looked_for(client: OpenAI) -> None:
    """A generator of faces refuses a picture without any, as /v1/anonymize does."""
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        edit(client, model="face-surroundings")
    assert refused.value.code == "no_face"


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "gif"])
def test_the_format_can_be_chosen(client: OpenAI, form: str) -> None:
    """`output_format` decides, with the quality that `output_compression` says."""
    assert edit(client, model="starry-night", output_format=form, output_compression=0)


@pytest.mark.parametrize(
    ("size", "expected"),
    [("auto", (160, 96)), ("1024x1024", (160, 96)), ("80x80", (80, 48)), ("1x99", (1, 1))],
)
def test_size_is_a_box_to_fit_into(client: OpenAI, size: str, expected: tuple[int, int]) -> None:
    """The answer is reduced to fit into `size`, never enlarged, and keeps its proportions."""
    clear = encoded(photo(24, 40, "RGBA"))
    image = edit(client, image=clear, model="srresnet-x4", size=size)
    assert image.size == expected
    assert image.mode == "RGBA"


def test_what_is_reduced_is_the_models_own_answer(client: OpenAI, server: Server) -> None:
    """With `size` the answer is that of the model's own endpoint, reduced once."""
    own = opened(server.client.post("/v1/upscale?format=png", content=PHOTO))
    image = edit(client, model="srresnet-x4", size="80x80")
    assert np.array_equal(np.asarray(image), images.resize(np.asarray(own), 48, 80))


def test_the_answer_may_be_longer_than_its_format_holds(client: OpenAI) -> None:
    """Sides are refused by what the format can hold of them once they are reduced."""
    long = encoded(photo(1, 4100))
    image = edit(client, image=long, model="srresnet-x4", output_format="webp", size="9999x9999")
    assert image.size == (9999, 2)
    for size in ("auto", "99999x99999"):
        with pytest.raises(openai.APIStatusError, match="a side of webp has at most 16,383"):
            edit(client, image=long, model="srresnet-x4", output_format="webp", size=size)


@pytest.mark.usefixtures("without_openvino")
def test_the_answer_may_have_more_pixels_than_pillow_reads(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`size` bounds nothing but the answer: what is reduced is never read back from a file."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # as 178,956,970 are beyond a test
    with TestClient(create_app(tiny_settings(home))) as client:
        until_ready(client)
        form = {"model": "srresnet-x4", "size": "80x80"}
        answer = client.post("/v1/images/edits", files={"image": PHOTO}, data=form)
    assert (answer.status_code, answer.json().get("size")) == (200, "80x48"), answer.text


def test_what_clients_send_besides_is_taken(client: OpenAI) -> None:
    """Fields that could change nothing are ignored: prompts, qualities, users; also a list."""
    ignored: dict[str, Any] = {
        "prompt": "\u00e4" * 32_000,
        "quality": "high",
        "background": "auto",
        "input_fidelity": "high",
        "user": "somebody",
        "safety_identifier": "x",
        "n": 1,
        "stream": False,
        "response_format": "b64_json",
    }
    plain = edit(client, model="starry-night")
    image = edit(client, model="starry-night", image=[("a.png", PHOTO)], **ignored)
    assert np.array_equal(np.asarray(image), np.asarray(plain))


@pytest.mark.parametrize(
    ("parameters", "kind", "code", "param"),
    [
        ({"model": "dall-e-2"}, openai.NotFoundError, "model_not_found", None),
        ({"model": "somebodys"}, openai.NotFoundError, "model_not_found", None),
        ({}, openai.UnprocessableEntityError, "invalid_parameter", "model"),
        ({"image": b"x"}, openai.APIStatusError, "unsupported_image", None),
        ({"image": PHOTO[:200]}, openai.UnprocessableEntityError, "corrupt_image", None),
        ({"image": b""}, openai.UnprocessableEntityError, "missing_image", None),
        ({"image": encoded(photo(101, 100))}, openai.APIStatusError, "image_too_large", None),
        ({"image": [PHOTO] * 2}, openai.UnprocessableEntityError, "several_images", None),
        ({"mask": PHOTO}, openai.UnprocessableEntityError, "several_images", None),
        *(
            ({name: value}, openai.UnprocessableEntityError, "invalid_parameter", name)
            for name, value in {
                "n": 2,
                "size": "large",
                "response_format": "url",
                "output_format": "svg",
                "output_compression": 101,
                "stream": True,
            }.items()
        ),
        (
            {"extra_body": {"strenght": 1}},
            openai.UnprocessableEntityError,
            "invalid_parameter",
            "strenght",
        ),
    ],
)
def test_a_refusal_is_the_right_exception(
    client: OpenAI,
    parameters: dict[str, Any],
    kind: type[openai.APIStatusError],
    code: str,
    param: str | None,
) -> None:
    """What cannot be done raises the package's exception for it, with our code and the field."""
    model = {} if not parameters else {"model": "starry-night"}
    with pytest.raises(kind) as refused:
        client.images.edit(**{"image": PHOTO, "prompt": "any"} | model | parameters)
    error = refused.value
    assert (error.code, error.type, error.param) == (code, "invalid_request_error", param)
    assert isinstance(error.body, dict)
    assert error.body["message"]
    assert error.request_id


def test_a_wrong_key_is_refused(client: OpenAI, home: Path) -> None:
    """A wrong key raises AuthenticationError, one of another scope PermissionDeniedError."""
    with pytest.raises(openai.AuthenticationError) as refused:
        edit(client.with_options(api_key="sk-no"), model="starry-night")
    assert (refused.value.code, refused.value.type) == ("unauthenticated", "authentication_error")
    trainer = KeyStore(home).create({Scope.TRAIN})[1]
    with pytest.raises(openai.PermissionDeniedError) as refused_too:
        edit(client.with_options(api_key=trainer), model="starry-night")
    assert refused_too.value.type == "permission_error"


def test_a_problem_is_told_in_both_shapes(tmp_path: Path) -> None:
    """An error below /v1/images is RFC 9457's problem and has OpenAI's `error` besides."""
    client = TestClient(create_app(tiny_settings(tmp_path, max_upload_bytes=100)))
    for answer, kind in (
        (client.get("/v1/images/edits"), "invalid_request_error"),
        (client.post("/v1/images/edits", content=bytes(101)), "invalid_request_error"),
        (client.post("/v1/images/edits?model=x", content=PHOTO[:99]), "server_error"),
    ):
        told = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert told["error"] == {
            "message": told.get("detail", told["title"]),
            "type": kind,
            "param": None,
            "code": told["code"],
        }
    assert "error" not in client.get("/v1/nothing").json()


def test_the_client_without_the_package(server: Server) -> None:
    """The picture can be the whole body as well, and the answer is JSON whatever is accepted."""
    answer = server.client.post(
        "/v1/images/edits?model=starry-night", content=PHOTO, headers={"Accept": "image/png"}
    )
    assert answer.status_code == httpx.codes.OK, answer.text
    assert answer.headers["x-model"] == "starry-night@1"
    assert answer.headers["x-compute"].startswith("cpu; ")
    assert answer.json().keys() == {"created", "data", "output_format", "size"}
