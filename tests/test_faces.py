"""Finding faces: of any size, anywhere in a picture, by either detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.cbook import get_sample_data
from PIL import Image

from models.faces.detection import (
    MIN_FACE_PX,
    Box,
    Detector,
    Face,
    Look,
    _looks,
    open_detector,
    overlap,
    search,
)
from models.images import Limits, Pixels, decode

PORTRAITS = [f"{sex}_{number}.jpg" for sex in ("female", "male") for number in (1, 7, 30, 61, 88)]
HOPPER_BOX = (177.0, 103.0, 357.0, 335.0)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return open_detector(torch.device("cpu"))


@pytest.fixture(scope="module")
def hopper() -> Pixels:
    """Grace Hopper, 512 x 600, by the US Navy."""
    with get_sample_data("grace_hopper.jpg") as file:
        return decode(file.read(), Limits()).rgb


@pytest.fixture(scope="module")
def portraits(shared: Path) -> list[Pixels]:
    """Half-length portraits of nobody, 256 x 256."""
    folder = shared / "data" / "faces" / "synthetic_sd3_cc0"
    if not folder.is_dir():
        pytest.skip("no synthetic portraits")
    return [decode((folder / name).read_bytes(), Limits()).rgb for name in PORTRAITS]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """The layers are small."""


def sure(faces: list[Face]) -> list[Face]:
    return [face for face in faces if not face.uncertain]


def resized(rgb: Pixels, height: int, width: int) -> Pixels:
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS))


def assert_upright(face: Face) -> None:
    """The landmarks lie in the box as eyes, nose and mouth do."""
    left_eye, right_eye, nose, mouth_left, mouth_right = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert mouth_left[0] < mouth_right[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
    left, top, right, bottom = face.box
    assert ((left, top) < face.landmarks).all()
    assert (face.landmarks < (right, bottom)).all()


def test_the_face_of_a_portrait_is_found(detector: Detector, portraits: list[Pixels]) -> None:
    """In ten portraits of women and men the surest face is theirs, with its landmarks in order."""
    for portrait in portraits:
        face = detector(portrait)[0]
        assert not face.uncertain
        assert_upright(face)
        left, top, right, bottom = face.box
        assert 50 < right - left < 150
        assert top < 128 < 60 + bottom


def test_grace_hopper_is_found(detector: Detector, hopper: Pixels) -> None:
    """A real photo has one sure face, where it is, and the same one each time."""
    first, second = detector(hopper), detector(hopper)
    [face] = sure(first)
    assert overlap(face.box, HOPPER_BOX)[0] > 0.6
    assert_upright(face)
    for one, other in zip(first, second, strict=True):
        assert (one.box, one.confidence) == (other.box, other.confidence)
        np.testing.assert_array_equal(one.landmarks, other.landmarks)


def test_the_astronaut_is_found(detector: Detector) -> None:
    """So is Eileen Collins in scikit-image's photo."""
    [face] = sure(detector(skimage.data.astronaut()))
    assert overlap(face.box, (170.0, 65.0, 270.0, 190.0))[0] > 0.5


def test_it_finds_what_the_library_finds(detector: Detector, hopper: Pixels) -> None:
    """Box and landmarks are those of facenet-pytorch's own cascade, within a few pixels."""
    from facenet_pytorch import MTCNN

    boxes, _, landmarks = MTCNN(keep_all=True).detect(hopper, landmarks=True)
    [face] = sure(detector(hopper))
    assert overlap(face.box, tuple(boxes[0]))[0] > 0.85
    side = face.box[2] - face.box[0]
    assert np.abs(face.landmarks - landmarks[0].astype(float)).max() < 0.06 * side


def test_several_faces_are_found(detector: Detector, hopper: Pixels) -> None:
    """Six pictures of one person, of three sizes, are six faces."""
    small, middle = resized(hopper, 150, 128), resized(hopper, 300, 256)
    page = np.full((900, 1100, 3), 90, np.uint8)
    places = [(0, 0, hopper), (600, 0, middle), (600, 300, middle), (0, 520, small)]
    places += [(160, 520, small), (320, 900, small)]
    for top, left, picture in places:
        page[top : top + len(picture), left : left + picture.shape[1]] = picture
    faces = sure(detector(page))
    assert len(faces) == 6
    for top, left, picture in places:
        scale = len(picture) / len(hopper)
        box = tuple(scale * np.array(HOPPER_BOX) + (left, top, left, top))
        assert sum(overlap(face.box, box)[0] > 0.5 for face in faces) == 1


@pytest.mark.parametrize("side", ["left", "top", "bottom", "right"])
def test_a_face_at_the_border_is_found(detector: Detector, hopper: Pixels, side: str) -> None:
    """A face of which the picture's border cuts off a third is found, if perhaps as uncertain."""
    left, top, right, bottom = map(int, HOPPER_BOX)
    across, down = (right - left) // 3, (bottom - top) // 3
    x, y = {"left": (left + across, 0), "top": (0, top + down)}.get(side, (0, 0))
    width = right - across if side == "right" else 512
    height = bottom - down if side == "bottom" else 600
    part = np.ascontiguousarray(hopper[y:height, x:width])
    seen = (max(left - x, 0), max(top - y, 0), min(right, width) - x, min(bottom, height) - y)
    assert any(overlap(face.box, seen)[0] > 0.4 for face in detector(part))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_picture_on_its_side_has_faces(detector: Detector, hopper: Pixels, turns: int) -> None:
    """A photo that lost its EXIF orientation has its face found, landmarks and all."""
    [upright] = sure(detector(hopper))
    seen = Look(0, 0, 512, 600, turns=turns).take(hopper)
    [face] = sure(detector(seen))
    back = Look(0, 0, 512, 600, turns=turns).place(face)
    assert overlap(back.box, upright.box)[0] > 0.8
    assert np.abs(back.landmarks - upright.landmarks).max() < 8


def test_small_and_large_faces_of_a_24_megapixel_photo_are_found(
    detector: Detector, hopper: Pixels
) -> None:
    """In 6000 x 4000 pixels a face of 35 pixels is found beside one of 900."""
    page = np.full((4000, 6000, 3), 128, np.uint8)
    large = resized(hopper, 4000, 3413)
    small = resized(hopper, 150, 128)
    page[:, :3413] = large
    page[3000:3150, 5200:5328] = small
    page.setflags(write=False)
    faces = sure(detector(page))
    for box in (
        np.array(HOPPER_BOX) * 4000 / 600,
        np.array(HOPPER_BOX) / 4 + (5200, 3000, 5200, 3000),
    ):
        assert sum(overlap(face.box, tuple(box))[0] > 0.5 for face in faces) == 1


def test_tiny_pictures_are_enlarged(detector: Detector, hopper: Pixels) -> None:
    """A thumbnail whose face has 24 pixels has a face."""
    assert sure(detector(resized(hopper[80:370, 130:400], 38, 35)))


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 400), (2000, 1), (15, 16000), (700, 3), (64, 64), (300, 400)]
)
def test_pictures_without_faces_have_none(detector: Detector, size: tuple[int, int]) -> None:
    """Noise and flat colours of any size have no sure face, and break nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert not sure(detector(noise))
    assert not sure(detector(np.full((*size, 3), 200, np.uint8)))


@given(
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(5, 40),
    st.integers(5, 40),
    st.integers(0, 3),
)
def test_a_view_leads_back(left: int, top: int, width: int, height: int, turns: int) -> None:
    """A pixel seen in a look is placed where it is in the picture, however the look is turned."""
    look = Look(left, top, left + width, top + height, turns=turns)
    rgb = np.zeros((64, 64, 3), np.uint8)
    y, x = top + height // 3, left + width // 2
    rgb[y, x] = 255
    seen = look.take(rgb)
    [(row, column)] = np.argwhere(seen[..., 0])
    corners = (float(column), float(row), column + 1.0, row + 1.0)
    face = look.place(Face(corners, np.full((5, 2), (column + 0.5, row + 0.5)), 1.0))
    np.testing.assert_allclose(face.box, (x, y, x + 1, y + 1))
    np.testing.assert_allclose(face.landmarks, np.full((5, 2), (x + 0.5, y + 0.5)))


@given(st.integers(1, 9000), st.integers(1, 9000), st.data())
def test_every_small_face_is_whole_in_some_view(height: int, width: int, data) -> None:
    """Whatever a picture's size, each face of at least 20 pixels is seen whole and large enough."""
    side = data.draw(st.integers(MIN_FACE_PX, max(MIN_FACE_PX, min(height, width))))
    left = data.draw(st.integers(0, max(0, width - side)))
    top = data.draw(st.integers(0, max(0, height - side)))
    assert any(
        look.left <= left
        and look.top <= top
        and min(left + side, width) <= look.right
        and min(top + side, height) <= look.bottom
        and side * look.scale >= MIN_FACE_PX * 0.99
        for look in _looks(height, width)
    )


def test_what_two_looks_find_is_without_doubles() -> None:
    """Of a face in two pieces and the overview, the surest that no piece cuts is kept."""
    searching = search(2000, 3000)
    look, found = next(searching), []
    while True:
        scale = look.scale
        box = np.array([1200.0, 900, 1300, 1030]) - (look.left, look.top, look.left, look.top)
        inside = np.clip(box, 0, (look.right - look.left, look.bottom - look.top) * 2) * scale
        seen = inside[2] > inside[0] and inside[3] > inside[1]
        sure_of_it = 0.99 if (inside == box * scale).all() else 1.0
        faces = [Face(tuple(inside.tolist()), np.zeros((5, 2)), sure_of_it)] if seen else []
        found += faces
        try:
            look = searching.send(faces)
        except StopIteration as ended:
            [face] = ended.value
            break
    assert len(found) > 1
    np.testing.assert_allclose(face.box, (1200, 900, 1300, 1030), atol=1.5)


@pytest.mark.parametrize("surer", ["the large one", "the small one"])
@pytest.mark.parametrize(
    ("small", "count"),
    [
        ((430.0, 560.0, 480.0, 630.0), 2),  # in the corner of the large one's box
        ((250.0, 300.0, 350.0, 430.0), 1),  # in its middle
    ],
)
def test_nobody_in_the_corner_of_a_face_is_left_out(surer: str, small: Box, count: int) -> None:
    """A face beside a larger one, within its box, is another; neither hides the other.

    What lies on the larger face is a part of it, and goes unless it is the surer one: then both are
    told, as the larger is not to be left as it is.
    """
    large = (100.0, 100.0, 500.0, 660.0)
    confidences = (0.999, 0.99) if surer == "the large one" else (0.99, 0.999)
    pairs = zip((large, small), confidences, strict=True)
    searching = search(800, 800)
    next(searching)
    with pytest.raises(StopIteration) as ended:
        searching.send([Face(box, np.zeros((5, 2)), confidence) for box, confidence in pairs])
    told = {face.box for face in ended.value.value}
    assert large in told
    assert len(told) == (count if surer == "the large one" else 2)


def test_yunet_finds_the_same_face(detector: Detector, hopper: Pixels, shared: Path) -> None:
    """The YuNet of an ONNX file finds the face that MTCNN finds, large, small and in detail."""
    files = sorted((shared / "weights").glob("face_detection_yunet*.onnx"))
    if not files:
        pytest.skip("no YuNet file")
    yunet = open_detector(torch.device("cpu"), files[0])
    [expected] = sure(detector(hopper))
    for scale in (1.0, 0.25, 3.0):
        picture = resized(hopper, round(600 * scale), round(512 * scale))
        face = yunet(picture)[0]
        assert overlap(tuple(np.array(face.box) / scale), expected.box)[0] > 0.6
        assert np.abs(face.landmarks / scale - expected.landmarks).max() < 16
    assert not yunet(np.full((1, 40, 3), 7, np.uint8))
