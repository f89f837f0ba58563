"""Faces that a generator brings back, where the seal is lost or a decoy is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from matplotlib.cbook import get_sample_data
from PIL import Image
from pydantic import SecretStr

from app.faces.attempts import Attempts
from app.faces.sealing import Region, seal
from app.main import create_app
from conftest import ROOT
from grace import CHEAP, PASSCODE, assert_refused, restore, rgb
from models import images
from models.images import Pixels
from tiny import encoded, opened, photo, promote, tiny_settings, until_ready


@pytest.fixture(scope="module")
def portrait() -> Pixels:
    """Rear Admiral Grace Hopper, a public-domain photo that comes with matplotlib."""
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return np.asarray(image.convert("RGB").resize((192, 225)))


@pytest.fixture(scope="module")
def mirrored(portrait: Pixels) -> Pixels:
    """The portrait with its face mirrored, as if made into another one."""
    picture = portrait.copy()
    picture[:, 40:150] = picture[:, 40:150][:, ::-1]
    return picture


@pytest.fixture(scope="module")
def sealed_portrait(portrait: Pixels, mirrored: Pixels) -> bytes:
    file = images.encode(images.Picture(mirrored, None, "png"), "png")
    return seal(file, "png", [Region(40, 0, portrait[:, 40:150])], SecretStr(PASSCODE), CHEAP)


def test_without_a_seal_faces_come_back_approximately(
    faces_client: TestClient, mirrored: Pixels
) -> None:
    """A stripped picture's faces go through the generator's inverse, and the answer says so."""
    stripped = images.encode(images.Picture(mirrored, None, "png"), "png")
    answers = {}
    for passcode in (PASSCODE, "another"):
        response = restore(faces_client, stripped, passcode)
        assert response.headers["x-restored"] == "approximate"
        assert response.headers["x-model"] == "face-identity@1"
        assert response.headers["x-compute"].startswith("cpu; ")
        answers[passcode] = rgb(response)
        changed = (answers[passcode] != mirrored).any(axis=2)
        assert changed[40:120, 60:120].mean() > 0.5
        assert not changed[:, :5].any()
        assert not changed[-30:].any()
    assert (answers[PASSCODE] != answers["another"]).any()
    again = rgb(restore(faces_client, stripped))
    np.testing.assert_array_equal(again, answers[PASSCODE])


def test_what_anonymize_sealed_restore_opens(faces_client: TestClient, portrait: Pixels) -> None:
    """There and back: the anonymized picture is another, the restored one is the original."""
    picture = encoded(Image.fromarray(portrait))
    fields = {"passcode": PASSCODE}
    done = faces_client.post("/v1/anonymize", files={"image": picture}, data=fields)
    assert (rgb(done) != portrait).any()
    restored = restore(faces_client, done.content)
    assert restored.headers["x-restored"] == "exact"
    np.testing.assert_array_equal(rgb(restored), portrait)
    assert_refused(restore(faces_client, done.content, "wrong"), 403, "wrong_passcode")


def test_a_transparent_portrait_comes_back_as_a_jpeg_shows_it(
    faces_client: TestClient, portrait: Pixels
) -> None:
    """A JPEG lays a picture on white, so the faces restored in one lie on white as well."""
    clear = np.where(np.arange(192) < 90, 0, 255).astype(np.uint8)
    cut_out = np.dstack((portrait, np.tile(clear, (225, 1))))
    fields = {"passcode": PASSCODE, "faces": "[[66, 38, 136, 124]]", "format": "jpeg"}
    picture = encoded(Image.fromarray(cut_out))
    done = faces_client.post("/v1/anonymize", files={"image": picture}, data=fields)
    restored = rgb(restore(faces_client, done.content, format="png"))
    assert (restored[45:115, 70:90] == 255).all()
    np.testing.assert_array_equal(restored[45:115, 90:130], portrait[45:115, 90:130])


def test_no_face_to_restore_is_a_clear_answer(faces_client: TestClient) -> None:
    """A picture without seal and without face is not handed back as if something were restored."""
    assert_refused(restore(faces_client, encoded(photo())), 422, "no_face")


def test_a_decoy_looks_like_the_real_answer(
    faces_client: TestClient, portrait: Pixels, mirrored: Pixels, sealed_portrait: bytes
) -> None:
    """With decoy=true a wrong passcode gets a face, and headers do not tell whose it is."""
    stripped = images.encode(images.Picture(mirrored, None, "png"), "png")
    answers = [
        restore(faces_client, file, passcode, decoy=True)
        for file, passcode in (
            (sealed_portrait, PASSCODE),
            (sealed_portrait, "wrong"),
            (stripped, PASSCODE),
        )
    ]
    np.testing.assert_array_equal(rgb(answers[0]), portrait)
    for decoy in answers[1:]:
        assert (rgb(decoy) != mirrored).any()
        assert (rgb(decoy) != portrait).any()
    assert (rgb(answers[1]) != rgb(answers[2])).any()
    headers = [
        {k: v for k, v in a.headers.items() if k not in ("x-request-id", "content-length")}
        for a in answers
    ]
    assert headers[0] == headers[1] == headers[2]
    assert headers[0]["x-restored"] == "undisclosed"
    assert not any("timing" in name for name in headers[0])
    documents = []
    for passcode in (PASSCODE, "wrong"):
        response = faces_client.post(
            "/v1/restore",
            files={"image": sealed_portrait},
            data={"passcode": passcode, "decoy": True},
            headers={"Accept": "application/json"},
        )
        documents.append({k: v for k, v in response.json().items() if k != "image"})
    assert documents[0] == documents[1]


def test_the_limit_does_not_give_a_decoy_away(
    faces_client: TestClient, sealed_portrait: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With decoy=true right passcodes count as well, or the 429 would tell them from wrong ones."""
    for passcode in (PASSCODE, "wrong"):
        service = faces_client.app.state.service  # type: ignore[attr-defined]
        monkeypatch.setattr(service, "restorations", Attempts(1))
        statuses = [
            restore(faces_client, sealed_portrait, passcode, decoy=True).status_code
            for _ in range(2)
        ]
        assert statuses == [200, 429]


def test_a_messenger_leaves_enough_to_restore(tmp_path: Path) -> None:
    """A JPEG that lost its seal shows the person again: the new face and the pattern suffice."""
    promote(tmp_path, ROOT / "models" / "weights" / "face-identity.safetensors")
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        hopper = image.convert("RGB")
    before = np.asarray(hopper).astype(int)
    with TestClient(create_app(tiny_settings(tmp_path))) as client:
        until_ready(client)
        files = {"image": encoded(hopper, "png")}
        fields = {"passcode": PASSCODE, "format": "png"}
        hidden = opened(client.post("/v1/anonymize", files=files, data=fields)).convert("RGB")
        sent = encoded(hidden, "jpeg", quality=85)
        back = {code: rgb(restore(client, sent, code, format="png")) for code in (PASSCODE, "no")}
    face = np.abs(np.asarray(hidden) - before).sum(axis=2) > 0

    def psnr(picture: Pixels) -> float:
        return float(10 * np.log10(255**2 / np.square(picture.astype(int) - before)[face].mean()))

    assert psnr(back[PASSCODE]) > 18
    assert max(psnr(np.asarray(hidden)), psnr(back["no"])) < psnr(back[PASSCODE]) - 4
