"""Anonymization is measured as an attacker and an owner of the passcode would see it."""

from __future__ import annotations

import numpy as np
import pytest

from app.faces.exactness import seal_table
from models.evaluation.face_protocols import (
    Portrait,
    cut_tightly,
    passcode_table,
    reidentification_table,
)
from models.evaluation.tone_protocol import tone_table
from models.faces.alignment import LANDMARKS, Alignment
from models.faces.detection import Detector, Face
from models.images import Pixels

FACE = Face((32.0, 24.0, 97.0, 115.0), LANDMARKS, 0.99)


class Finds(Detector):
    """Finds the one aligned face wherever the picture is not black."""

    def look(self, rgb: Pixels) -> list[Face]:
        return [FACE] if rgb[40:100, 40:90].any() else []

    __call__ = look


def judge(face: Pixels) -> np.ndarray:
    """Tells people by the mean colour of their faces."""
    return face[50:90, 45:83].mean((0, 1)) / 64


def people() -> list[Portrait]:
    """Four photos each of four people, each of a colour."""
    random = np.random.default_rng(0)
    photos = []
    for number, colour in enumerate([(250, 40, 40), (40, 250, 40), (40, 40, 250), (250, 250, 40)]):
        for _ in range(4):
            rgb = (np.array(colour) + random.integers(-5, 6, (128, 128, 3))).clip(0, 255)
            alignment = Alignment.of_landmarks(LANDMARKS, (128, 128))
            photos.append(Portrait(rgb.astype(np.uint8), str(number), FACE, alignment))
    return photos


def test_recognition_before_and_after():
    """Unchanged people are known again; under one face for all, only by chance, yet all found."""
    grey = np.full((128, 128, 3), 120, np.uint8)
    changes = {"one for all": lambda _: grey, "black": lambda _: np.zeros_like(grey)}
    table = reidentification_table("four", people(), changes, Finds(), judge)
    assert list(table.protocols) == [
        *("rank 1", "AUC", "same", "linked", "apart", "linked AUC", "found", "shift")
    ]
    assert table.rows["unchanged"][:2] == (1.0, 1.0)
    rank_1, auc, same, linked, apart, linked_auc, found, shift = table.rows["one for all"]
    assert rank_1 == 0.25
    assert auc == pytest.approx(0.5, abs=0.15)
    assert same > table.rows["unchanged"][2]
    assert (linked, apart, linked_auc) == (0.0, 0.0, 0.5)
    assert table.rows["unchanged"][3] < table.rows["unchanged"][4]
    assert (found, shift) == (1.0, 0.0)
    assert table.rows["black"][6] < 1
    assert {"blur", "pixelate"} <= set(table.rows)
    assert "4 people" in table.title


def test_gallery_and_probes():
    """Every other photo is looked for among the rest, and found where that has its person."""
    a, a2, b, b2 = (people()[index] for index in (0, 1, 4, 5))
    rank_1 = [
        reidentification_table("two", photos, {}, Finds(), judge).rows["unchanged"][0]
        for photos in ([a, b, a2, b2], [a, a2, b, b2], [a, b, b2])
    ]
    assert rank_1 == [0.0, 1.0, 1.0]


def test_seals_are_measured():
    """In every format that carries a seal, all faces of all photos come back bit for bit."""
    photos = [portrait.rgb for portrait in people()[:2]]
    nobody = np.zeros((128, 128, 3), np.uint8)
    table = seal_table("model", "four", [*photos, nobody], Finds())
    assert table.title == "four: 2 photos, sealed"
    assert table.rows == {"model": (1.0, 1.0, 1.0)}


@pytest.mark.parametrize(
    ("left", "seen"), [(100, slice(90, 210)), (5, slice(0, 115))], ids=["inside", "at the border"]
)
def test_photos_are_cut_tightly(left: int, seen: slice):
    """What is left of a tightly cut photo ends a tenth of the face's box beyond it, or before."""
    rgb = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    face = Face((left, 200, left + 100, 380), LANDMARKS, 0.99)
    photo = Portrait(rgb, "", face, Alignment.of_box(face.box, (400, 400)))
    np.testing.assert_array_equal(cut_tightly(photo), rgb[182:398, seen])


def test_tones():
    """One grey face for all is told as too light for dark faces and as another tone for all."""
    faces = [np.full((128, 128, 3), level, np.uint8) for level in (20, 100, 110, 120)]
    table = tone_table("four", faces, "one for all", lambda _: faces[1])
    tone, lightness, of_the_dark = table.rows["one for all"]
    assert of_the_dark > 30 > tone > lightness > 0
    assert table.rows["unchanged"] == (0.0, 0.0, 0.0)


def test_the_way_back():
    """A generator that adds the passcode and takes it off again restores what it was given."""

    def shifted(face: Pixels, bits: np.ndarray) -> Pixels:
        return face + np.where(bits, 60, -60).astype(np.uint8)  # modulo 256, so exactly undone

    faces = [np.full((128, 128, 3), 100, np.uint8)] * 4

    def back(face: Pixels, bits: np.ndarray) -> Pixels:
        return shifted(face, ~bits)

    table = passcode_table("four", faces, "adder", shifted, back, 3, judge)
    figures = dict(zip(table.protocols, table.rows["adder"], strict=True))
    assert figures["restored"] > 90
    assert np.isfinite(figures["restored"])  # though every restored face is the original
    assert figures["known again"] == figures["changed"] == 1.0
    assert figures["wrong code"] > 0  # and not the face that the right one brings


def test_two_passcodes_are_told_apart_over_all_pairs():
    """Passcodes of one bit make two people: of six, at most nine of the fifteen pairs differ."""

    def coloured(face: Pixels, bits: np.ndarray) -> Pixels:
        return np.full_like(face, 200 if bits[0] else 20)

    faces = [np.full((128, 128, 3), 100, np.uint8)] * 8
    table = passcode_table("eight", faces, "two", coloured, coloured, 1, judge)
    figures = dict(zip(table.protocols, table.rows["two"], strict=True))
    assert 5 / 15 <= figures["two codes"] <= 9 / 15
    assert figures["changed"] == 1.0
