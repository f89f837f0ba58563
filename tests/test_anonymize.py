"""POST /v1/anonymize and `anamorph anonymize`: no face leaves as it came, unless it is sealed."""

from __future__ import annotations

import base64
import json
import unicodedata
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import structlog
from fastapi.testclient import TestClient
from PIL import Image

import app.faces.anonymizing
from app.faces.sealing import Region
from app.main import create_app
from app.service import Service
from grace import FACE, PASSCODE, PNG, anonymize, assert_refused, hopper, rgb
from models.faces.detection import Detector, Face
from models.faces.obscuring import WAYS
from tiny import encoded, opened, photo, tiny_settings, until_ready

WEAK = ["blur", "pixelate", "solid"]
BOX = json.dumps([FACE])


@pytest.mark.parametrize("method", ["generate", *WEAK])
def test_the_face_is_found_and_goes(faces_client: TestClient, method: str) -> None:
    """Each method changes the face, and nothing farther than half a face away from it."""
    response = anonymize(faces_client, method=method)
    changed = np.abs(rgb(response) - rgb(hopper())).max(axis=2)
    assert changed[30:45, 38:52].mean() > 8
    away = changed.copy()
    away[0:72, 12:78] = 0
    assert away.max() == 0
    headers = response.headers
    assert (headers["x-faces"], headers["x-method"]) == ("1", method)
    assert (headers["x-faces-uncertain"], headers["x-sealed"]) == ("0", "false")
    assert headers["cache-control"] == "no-store"
    assert headers.get("x-model") == ("face-surroundings@1" if method == "generate" else None)


def test_json_lists_the_faces(faces_client: TestClient) -> None:
    """With Accept: application/json the answer tells box, confidence and method of each face."""
    answer = anonymize(faces_client, method="solid", accept="application/json").json()
    [face] = answer["faces"]
    assert np.abs(np.subtract(face["box"], FACE)).max() <= 4
    assert face["confidence"] > 0.97
    assert (face["uncertain"], face["method"]) == (False, "solid")
    assert (answer["width"], answer["height"], answer["model"]) == (85, 100, None)
    assert rgb(base64.b64decode(answer["image"])).shape == (100, 85, 3)
    assert list(answer["timings_ms"]) == ["decode", "detect", "queue", "forward", "encode"]


@pytest.mark.parametrize("how", ["face-identity", "face-surroundings", "blur"])
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_the_passcode_brings_the_face_back(faces_client: TestClient, how: str, kind: str) -> None:
    """With a passcode the face travels sealed, and /v1/restore gives it back bit for bit."""
    fields = {"method": how} if how == "blur" else {"model": how}
    response = anonymize(faces_client, **fields, passcode=PASSCODE, format=kind)
    assert response.headers["x-sealed"] == "true"
    assert response.headers.get("x-model", "blur").startswith(how)
    hidden = rgb(response)
    assert np.abs(hidden - rgb(hopper()))[30:45, 38:52].mean() > 5
    restored = faces_client.post(
        "/v1/restore",
        files={"image": response.content},
        data={"passcode": PASSCODE, "format": "png"},
    )
    where = np.s_[:] if kind == "png" else np.s_[17:56, 30:60]
    np.testing.assert_array_equal(rgb(restored)[where], rgb(hopper())[where])


@pytest.mark.parametrize("whose", ["astronaut", "female_3.jpg", "male_10.jpg"])
def test_portraits_go_there_and_back(
    faces_client: TestClient, whose: str, request: pytest.FixtureRequest
) -> None:
    """Eileen Collins and people who never were: the one face goes, and comes back bit for bit."""
    if whose == "astronaut":
        before = skimage.data.astronaut()
    else:
        folder = request.getfixturevalue("shared") / "data" / "faces" / "synthetic_sd3_cc0"
        before = rgb((folder / whose).read_bytes()).astype(np.uint8)
    response = anonymize(faces_client, encoded(Image.fromarray(before)), passcode=PASSCODE)
    assert response.headers["x-faces"] == "1"
    changed = (rgb(response) != before).any(axis=2)
    assert 0.01 < changed.mean() < 0.3
    fields = {"passcode": PASSCODE}
    restored = faces_client.post("/v1/restore", files={"image": response.content}, data=fields)
    np.testing.assert_array_equal(rgb(restored), before)


def test_a_passcode_decides_the_face(faces_client: TestClient) -> None:
    """The same picture and passcode give the same pixels, however it was typed; another does not.

    Whatever else is asked of the service meanwhile.
    """
    first, *others = (
        anonymize(faces_client, passcode=passcode)
        for passcode in (
            PASSCODE,
            PASSCODE,
            unicodedata.normalize("NFD", PASSCODE),
            "another",
        )
    )
    header = faces_client.post(
        "/v1/anonymize", content=PNG, headers={"X-Passcode": PASSCODE.encode()}
    )
    same = [np.array_equal(rgb(first), rgb(answer)) for answer in (*others, header)]
    assert same == [True, True, False, True]
    assert first.headers["x-model"] == "face-identity@1"


def test_chance_decides_without_a_passcode(faces_client: TestClient) -> None:
    """Without a passcode each request makes another face, which nobody can ask for again."""
    assert not np.array_equal(rgb(anonymize(faces_client)), rgb(anonymize(faces_client)))


def test_what_the_generator_never_saw_it_cannot_leak(
    faces_client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a passcode two people in the same surroundings get the very same new face."""
    monkeypatch.setattr(app.faces.anonymizing.secrets, "randbits", lambda _bits: 7)
    answers = []
    for colour in ((200, 30, 30), (10, 90, 250)):
        picture = photo(160, 160)
        picture.paste(colour, (65, 60, 95, 100))
        answer = anonymize(faces_client, encoded(picture), faces="[[40, 30, 120, 140]]")
        answers.append(rgb(answer))
    np.testing.assert_array_equal(*answers)


def test_no_face_is_an_answer_of_its_own(faces_client: TestClient) -> None:
    """A picture without faces is a 422, or comes back as it was when that is allowed."""
    file = encoded(photo(64, 64))
    assert_refused(anonymize(faces_client, file), 422, "no_face")
    for fields in ({}, {"passcode": PASSCODE}):
        response = anonymize(faces_client, file, allow_no_face="true", **fields)
        assert (response.headers["x-faces"], response.headers["x-sealed"]) == ("0", "false")
        assert "x-model" not in response.headers
        np.testing.assert_array_equal(rgb(response), rgb(photo(64, 64)))


@pytest.mark.parametrize(
    "faces",
    [
        "[]",
        "[[1, 2, 3]]",
        "[[10, 10, 5, 20]]",
        "[[10, 10, 10, 20]]",
        "[[-1, 0, 20, 20]]",
        "[[0, 0, 86, 20]]",
        "[[0, 0, 20, 101]]",
        "[[0, 0, NaN, 20]]",
        "[[0, 0, 1e999, 20]]",
        '[["a", 0, 20, 20]]',
        "10,10,20,20",
        "{}",
        "[" * 2000,
        json.dumps([[0, 0, 9, 9]] * 257),
    ],
)
def test_bad_boxes_are_refused(faces_client: TestClient, faces: str) -> None:
    """Boxes that are none, or lie outside the picture, are a 422."""
    assert_refused(anonymize(faces_client, method="blur", faces=faces), 422, "invalid_parameter")


def test_boxes_that_overlap_too_much_are_refused(
    faces_client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a passcode, what is too much to seal is refused before a pixel of it is copied."""
    monkeypatch.setattr(Region, "of", lambda *_: pytest.fail("a face is copied"))
    boxes = json.dumps([(0, 0, *hopper().size)] * 17)
    response = anonymize(faces_client, method="solid", faces=boxes, passcode=PASSCODE)
    assert_refused(response, 422, "invalid_parameter")
    assert "overlap" in response.json()["detail"]


@pytest.mark.parametrize("method", ["generate", "solid"])
def test_given_boxes_take_the_place_of_what_is_found(faces_client: TestClient, method: str) -> None:
    """Only the boxes of the request are anonymized, whether a face is in them or not."""
    file = encoded(photo(120, 200))
    boxes = [[10, 10, 40, 50], [150, 60, 190, 119]]
    answer = anonymize(
        faces_client, file, faces=json.dumps(boxes), method=method, accept="application/json"
    ).json()
    assert [face["box"] for face in answer["faces"]] == boxes
    assert {(face["confidence"], face["uncertain"]) for face in answer["faces"]} == {(None, False)}
    changed = np.abs(rgb(base64.b64decode(answer["image"])) - rgb(photo(120, 200))).max(axis=2)
    assert changed[20:40, 18:32].mean() > 8
    assert changed[80:100, 160:180].mean() > 8
    assert changed[:, 75:110].max() == 0


def test_boxes_to_be_hidden_need_no_detector(
    faces_client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is looked for in a given box whose every pixel goes."""
    monkeypatch.delattr(Service, "detector")
    answer = anonymize(faces_client, faces=BOX, method="solid")
    assert (answer.status_code, answer.headers["x-faces"]) == (200, "1")


def test_a_second_seal_is_refused(faces_client: TestClient) -> None:
    """A picture with sealed faces is not sealed anew, which would lose them."""
    sealed = anonymize(faces_client, passcode=PASSCODE)
    again = anonymize(faces_client, sealed.content, passcode=PASSCODE, faces="[[0, 0, 20, 20]]")
    assert_refused(again, 422, "invalid_parameter")
    assert "restore it first" in again.json()["detail"]


class Unsure(Detector):
    """Finds one face everywhere, and is not sure of it."""

    def look(self, rgb: np.ndarray) -> list[Face]:
        landmarks = np.array([(42.0, 40), (58, 40), (50, 50), (43, 60), (57, 60)])
        return [Face((35.0, 20.0, 65.0, 75.0), landmarks, 0.7)]


@pytest.mark.parametrize("method", ["generate", "pixelate"])
def test_uncertain_faces_go_too(
    faces_client: TestClient, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """What may be a face is anonymized and reported as uncertain."""

    async def unsure(_service: Service) -> Detector:
        return Unsure()

    monkeypatch.setattr(Service, "detector", unsure)
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    answer = anonymize(faces_client, encoded(Image.fromarray(noise)), method=method)
    assert (answer.headers["x-faces"], answer.headers["x-faces-uncertain"]) == ("1", "1")
    assert np.abs(rgb(answer) - noise)[30:65, 40:60].mean() > 20


def test_all_faces_of_a_group_go(faces_client: TestClient) -> None:
    """Each of several faces is replaced, and none is brought back by its neighbour's square."""
    one = hopper(4)
    group = Image.new("RGB", (one.width * 3, one.height), (90, 90, 90))
    for place in range(3):
        group.paste(one, (one.width * place, 0))
    answer = anonymize(faces_client, encoded(group))
    assert answer.headers["x-faces"] == "3"
    changed = np.abs(rgb(answer) - rgb(group)).max(axis=2)
    for place in range(3):
        left = one.width * place
        assert changed[45:70, left + 55 : left + 80].mean() > 8


def test_all_faces_of_a_crowd_go_and_come_back(faces_client: TestClient) -> None:
    """200 faces in one picture are found, replaced, sealed and restored."""
    one = hopper(7)
    crowd = Image.new("RGB", (one.width * 20, one.height * 10))
    for place in range(200):
        crowd.paste(one, (one.width * (place % 20), one.height * (place // 20)))
    answer = anonymize(faces_client, encoded(crowd), passcode=PASSCODE)
    assert int(answer.headers["x-faces"]) >= 200  # and perhaps what looks like one
    changed = np.abs(rgb(answer) - rgb(crowd)).max(axis=2)
    faces = changed.reshape(10, one.height, 20, one.width)[:, 24:42, :, 30:45]
    assert faces.mean(axis=(1, 3)).min() > 5
    restored = faces_client.post(
        "/v1/restore", files={"image": answer.content}, data={"passcode": PASSCODE}
    )
    np.testing.assert_array_equal(rgb(restored), rgb(crowd))


@pytest.mark.parametrize("kind", ["gif", "avif", "tiff"])
def test_seals_travel_in_three_formats(faces_client: TestClient, kind: str) -> None:
    """With a passcode the other formats are refused, whether asked for or the input's own."""
    file = encoded(hopper(), kind)
    assert_refused(anonymize(faces_client, file, passcode="x"), 422, "invalid_parameter")
    assert_refused(anonymize(faces_client, passcode="x", format=kind), 422, "invalid_parameter")
    assert opened(anonymize(faces_client, file, method="solid")).format == kind.upper()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"passcode": ""}, "invalid_passcode"),
        ({"passcode": "x" * 1025}, "invalid_passcode"),
        ({"method": "smear"}, "invalid_parameter"),
        ({"method": "blur", "model": "face-identity"}, "invalid_parameter"),
        ({"model": "face-identity"}, "invalid_parameter"),
        ({"model": "starry-night"}, "wrong_task"),
        ({"strength": "1"}, "invalid_parameter"),
    ],
)
def test_other_parameters_are_refused(
    faces_client: TestClient, fields: dict[str, str], code
) -> None:
    """What cannot be is a 422 that does not repeat the passcode."""
    response = anonymize(faces_client, **fields)
    assert_refused(response, 422, code)
    assert "xxx" not in response.text


def test_passcodes_stay_out_of_urls_and_logs(faces_client: TestClient) -> None:
    """A passcode in the query is refused, and no log line has one from anywhere."""
    with structlog.testing.capture_logs() as lines:
        query = faces_client.post("/v1/anonymize", params={"passcode": "hunter2"}, content=PNG)
        form = anonymize(faces_client, passcode="hunter2", method="solid")
        wrong = anonymize(faces_client, passcode="hunter2", format="gif")
    assert_refused(query, 422, "invalid_parameter")
    assert_refused(wrong, 422, "invalid_parameter")
    assert [fault["field"] for fault in wrong.json()["errors"]] == ["format"]
    assert form.status_code == 200
    assert lines
    assert "hunter2" not in repr(lines) + query.text + wrong.text


def test_transparency_is_carried_through(faces_client: TestClient) -> None:
    """The alpha channel comes back as it was."""
    image = hopper().convert("RGBA")
    alpha = Image.linear_gradient("L").resize(image.size)
    image.putalpha(alpha)
    answer = opened(anonymize(faces_client, encoded(image), faces=BOX))
    np.testing.assert_array_equal(np.asarray(answer.getchannel("A")), np.asarray(alpha))


def test_openais_clients_can_have_it_smaller(faces_client: TestClient) -> None:
    """`size` of /v1/images/edits is for pictures with other faces, too, and for their alpha."""
    clear = hopper()
    clear.putalpha(200)
    answer = faces_client.post(
        "/v1/images/edits",
        files={"image": encoded(clear)},
        data={"model": "face-surroundings", "size": "50x50"},
    )
    assert answer.headers["x-model"] == "face-surroundings@1"
    image = Image.open(BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
    assert (image.size, image.mode) == ((42, 50), "RGBA")


@pytest.mark.parametrize("way", WEAK)
@pytest.mark.parametrize("side", [3, 40, 400])
def test_large_faces_are_hidden_no_less_than_small_ones(way: str, side: int) -> None:
    """A face is left with at most ten by ten values, whatever its size."""
    part = np.random.default_rng(0).integers(0, 256, (side, side * 3 // 4 + 1, 3), np.uint8)
    hidden = WAYS[way](part)
    assert hidden.shape == part.shape
    if way != "blur":
        assert len(np.unique(hidden.reshape(-1, 3), axis=0)) <= 100
    for channel in np.moveaxis(hidden.astype(float), 2, 0):  # whatever ten rows cannot say
        rest = np.linalg.svd(channel, compute_uv=False)[10:]
        assert np.sqrt((rest**2).sum() / channel.size) < 0.5, "more than what rounding adds"


def test_the_deadline_holds(tmp_path: Path) -> None:
    """A picture whose faces cannot be found in time is a 504."""
    settings = tiny_settings(tmp_path, deadline_s=0.001)
    with TestClient(create_app(settings)) as hurried:
        until_ready(hurried)
        assert_refused(anonymize(hurried, method="blur"), 504, "deadline_exceeded")
