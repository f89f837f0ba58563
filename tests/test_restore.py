"""POST /v1/restore and `anamorph restore`: whose passcode is right sees the faces, nobody else."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import SecretStr
from typer.testing import CliRunner

from app.cli import app as commands
from app.faces.carriers import carried
from app.faces.passcodes import STRONG, Cost
from app.faces.sealing import Region, seal
from app.main import create_app
from grace import CHEAP, PASSCODE, assert_refused, restore, rgb
from models import images
from models.images import Format, Limits, Pixels
from tiny import encoded, opened, photo, tiny_settings, until_ready

PER_MINUTE = 5
FACES = ((3, 5, 12, 9), (20, 0, 8, 24))
"""left, top, width, height"""


def original(mode: str = "RGB") -> Pixels:
    return images.decode(encoded(photo(mode=mode)), Limits()).rgb


def sealed(
    kind: Format = "png", passcode: str = PASSCODE, mode: str = "RGB", cost: Cost = CHEAP
) -> bytes:
    """Return a picture whose faces are painted over, with what was there sealed in it."""
    picture = images.decode(encoded(photo(mode=mode)), Limits())
    regions = []
    painted = picture.rgb.copy()
    for left, top, width, height in FACES:
        place = np.s_[top : top + height, left : left + width]
        regions.append(Region(left, top, picture.rgb[place].copy()))
        painted[place] = 200
    file = images.encode(images.Picture(painted, picture.alpha, kind), kind, 95)
    return seal(file, kind, regions, SecretStr(passcode), cost)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A service without any model."""
    settings = tiny_settings(tmp_path / "home", restore_attempts_per_minute=PER_MINUTE)
    with TestClient(create_app(settings)) as client:
        until_ready(client)
        yield client


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_right_passcode_brings_every_pixel_back(client: TestClient, mode: str) -> None:
    """From a PNG the original comes back bit for bit, inside the faces and outside."""
    response = restore(client, sealed(mode=mode))
    np.testing.assert_array_equal(rgb(response), original(mode))
    assert response.headers["x-restored"] == "exact"
    assert response.headers["cache-control"] == "no-store"
    assert "x-model" not in response.headers
    assert opened(response).mode == mode


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_faces_are_exact_even_where_the_picture_is_not(client: TestClient, kind: Format) -> None:
    """From a JPEG or WebP the faces come back exactly, if the answer is to be without loss."""
    answer = rgb(restore(client, sealed(kind), format="png"))
    for left, top, width, height in FACES:
        place = np.s_[top : top + height, left : left + width]
        np.testing.assert_array_equal(answer[place], original()[place])
    again = restore(client, sealed(kind))
    assert opened(again).format == kind.upper()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_the_answer_carries_neither_seal_nor_metadata(client: TestClient, kind: Format) -> None:
    """The restored file holds a picture and nothing else."""
    response = restore(client, sealed(kind))
    assert carried(response.content, kind) is None
    image = opened(response)
    image.load()
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop"} | (
        {"background", "timestamp", "duration"} if kind == "webp" else set()
    )
    assert not image.getexif()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_wrong_passcode_is_a_403(client: TestClient, kind: Format) -> None:
    """Another passcode gets a problem and no pixel."""
    assert_refused(restore(client, sealed(kind), "Grusse"), 403, "wrong_passcode")


def test_any_text_opens_what_it_sealed(client: TestClient) -> None:
    """1,024 characters arrive as sent, spaces, NUL and emoji, accents composed or not (NFC)."""
    emoji = "\0" + "🔑" * 1017 + " "
    file = sealed(passcode=" caf\u00e9" + emoji)
    assert restore(client, file, " cafe\u0301" + emoji).status_code == 200
    assert_refused(restore(client, file, "caf\u00e9" + emoji.strip()), 403, "wrong_passcode")


@pytest.mark.parametrize(
    ("passcode", "status", "code"),
    [
        ("", 422, "invalid_passcode"),
        ("x" * 1025, 422, "invalid_passcode"),
        ("x" * 2**20, 400, "bad_multipart"),
    ],
)
def test_what_is_no_passcode_is_a_clear_error(
    client: TestClient, passcode: str, status: int, code: str
) -> None:
    """An empty or overlong passcode is refused before any work, and is no attempt."""
    for _ in range(PER_MINUTE + 1):
        response = restore(client, sealed(), passcode)
        assert_refused(response, status, code)
        assert "xxx" not in response.text


def test_the_passcode_is_required(client: TestClient) -> None:
    """Without one there is nothing to try."""
    response = client.post("/v1/restore", files={"image": sealed()})
    assert_refused(response, 422, "invalid_parameter")


def test_the_passcode_may_come_in_a_header(client: TestClient) -> None:
    """With a raw body, X-Passcode holds the passcode as UTF-8."""
    headers = {"X-Passcode": PASSCODE.encode(), "Content-Type": "image/png"}
    response = client.post("/v1/restore", content=sealed(), headers=headers)
    np.testing.assert_array_equal(rgb(response), original())

    async def raw() -> httpx.Response:  # TestClient would make UTF-8 of these bytes
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as bare:
            return await bare.post("/v1/restore", headers={"X-Passcode": b"\xff\xfe"})

    assert_refused(asyncio.run(raw()), 422, "invalid_parameter")


def test_the_passcode_never_comes_in_the_url(client: TestClient) -> None:
    """A query parameter is refused, even the right one: proxies and browsers keep URLs."""
    for query in ({"passcode": PASSCODE}, {"passcode": PASSCODE, "format": "png"}):
        response = client.post("/v1/restore", params=query, content=sealed())
        assert_refused(response, 422, "invalid_parameter")
        assert "X-Passcode" in response.json()["detail"]
    document = client.get("/openapi.json").json()["paths"]["/v1/restore"]["post"]
    places = {parameter["name"]: parameter["in"] for parameter in document["parameters"]}
    assert (places["X-Passcode"], "passcode" in places) == ("header", False)
    assert {"403", "429"} <= set(document["responses"])


def test_passcodes_are_not_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing the service writes holds a passcode, right, wrong or misplaced."""
    secret = "s3cret-marker"
    with TestClient(create_app(tiny_settings(tmp_path, log_level="debug"))) as client:
        restore(client, sealed(passcode=secret), secret)
        restore(client, sealed(), secret)
        restore(client, b"no picture", secret)
        restore(client, sealed(), secret * 100)
        restore(client, sealed(), secret, paßcode=secret)
        client.post("/v1/restore", params={"passcode": secret}, content=sealed())
    output = "".join(capsys.readouterr())
    assert "/v1/restore" in output
    assert secret not in output


def test_json_tells_how_the_faces_came_back(client: TestClient) -> None:
    """With Accept: application/json the answer is an object."""
    response = client.post(
        "/v1/restore",
        files={"image": sealed()},
        data={"passcode": PASSCODE},
        headers={"Accept": "application/json"},
    )
    answer = response.json()
    assert (answer["restored"], answer["model"]) == ("exact", None)
    assert (answer["width"], answer["height"], answer["media_type"]) == (40, 24, "image/png")
    assert set(answer["timings_ms"]) == {"decode", "open", "encode"}


def test_wrong_passcodes_are_limited_by_picture_and_client(client: TestClient) -> None:
    """After so many wrong passcodes in a minute, a 429 says when to come back."""
    file = sealed()
    for _ in range(PER_MINUTE):
        assert_refused(restore(client, file, "guess"), 403, "wrong_passcode")
    limited = restore(client, file)
    assert_refused(limited, 429, "too_many_attempts")
    assert 1 <= int(limited.headers["retry-after"]) <= 60
    assert_refused(restore(client, sealed()), 429, "too_many_attempts")  # the client's own share


def test_other_clients_cannot_guess_at_the_same_picture(client: TestClient) -> None:
    """The picture has a share of its own, however many addresses the guesses come from."""
    file = sealed()
    for host in range(PER_MINUTE):
        client._transport.client = (f"192.0.2.{host}", 50000)  # type: ignore[attr-defined]
        assert_refused(restore(client, file, "guess"), 403, "wrong_passcode")
    client._transport.client = ("192.0.2.99", 50000)  # type: ignore[attr-defined]
    assert_refused(restore(client, file), 429, "too_many_attempts")
    assert restore(client, sealed()).status_code == 200


def test_what_is_too_large_is_no_attempt(tmp_path: Path) -> None:
    """A picture that the memory does not bear is refused as that, however often it comes."""
    settings = tiny_settings(tmp_path, restore_attempts_per_minute=1, max_memory_bytes=100_000)
    with TestClient(create_app(settings)) as small:
        until_ready(small)
        for _ in range(3):
            assert_refused(restore(small, sealed()), 413, "image_too_large")


def test_restoring_with_the_passcode_is_not_limited(client: TestClient) -> None:
    """Success counts for nothing."""
    file = sealed()
    for _ in range(PER_MINUTE * 2):
        assert restore(client, file).status_code == 200


def test_a_wrong_passcode_is_as_much_work_as_a_right_one(client: TestClient) -> None:
    """Nothing ends early: by the processor's time, to which others add none, the two are alike."""
    file = sealed(cost=STRONG)
    times: dict[str, list[float]] = {PASSCODE: [], "wrong": []}
    for _ in range(PER_MINUTE):
        for passcode, measured in times.items():
            started = time.process_time()
            restore(client, file, passcode)
            measured.append(time.process_time() - started)
    right, wrong = map(statistics.median, times.values())
    assert right > 0.03  # the key derivation is what takes the time
    assert 0.75 < wrong / right < 1.33


def test_an_altered_picture_says_so(client: TestClient) -> None:
    """A seal moved to another picture does not open, with any passcode, and blames none."""
    file = sealed()
    chunk = file[file.index(b"anSL") - 4 : -12]
    other = images.encode(images.decode(encoded(photo(30, 30)), Limits()), "png")
    moved = other[:-12] + chunk + other[-12:]
    for passcode in (PASSCODE, "wrong"):
        assert_refused(restore(client, moved, passcode), 422, "damaged_seal")


@pytest.mark.parametrize("kind", ["jpeg", "webp", "png"])
def test_a_messenger_strips_the_seal(client: TestClient, kind: Format) -> None:
    """Once re-encoded, a picture has no seal, and without a generator the answer says so."""
    with Image.open(BytesIO(sealed(kind))) as image:
        stripped = encoded(image.convert("RGB"), kind)
    response = restore(client, stripped)
    assert_refused(response, 422, "no_seal")
    assert "face-identity" in response.json()["detail"]


def test_decoys_need_a_generator(client: TestClient) -> None:
    """Without one, right and wrong passcodes are refused alike."""
    for passcode in (PASSCODE, "wrong"):
        assert_refused(restore(client, sealed(), passcode, decoy=True), 404, "model_not_found")


def run(tmp_path: Path, file: bytes, passcode: str, target: str = "out.png"):
    (tmp_path / "in.png").write_bytes(file)
    (tmp_path / "passcode").write_text(passcode + "\n", encoding="utf-8")
    arguments = ["restore", "in.png", target, "--passcode-file", "passcode"]
    return CliRunner().invoke(
        commands,
        [a if a.startswith("-") or a == "restore" else str(tmp_path / a) for a in arguments],
    )


def test_restoring_needs_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`anamorph restore` does the same; a wrong passcode writes nothing and exits with 1."""
    monkeypatch.setenv("ANAMORPH_SHIPPED_WEIGHTS", str(tmp_path / "no weights"))
    done = run(tmp_path, sealed(), PASSCODE)
    assert (done.exit_code, "exact" in done.output) == (0, True), done.output
    with Image.open(tmp_path / "out.png") as image:
        np.testing.assert_array_equal(np.asarray(image), original())
    wrong = run(tmp_path, sealed(), "wrong", "other.png")
    assert wrong.exit_code == 1
    assert "does not open" in wrong.output
    assert not (tmp_path / "other.png").exists()
