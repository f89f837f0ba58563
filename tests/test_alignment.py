"""Cutting a face out and putting one back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.faces.alignment import LANDMARKS, Alignment, face_radius
from models.faces.detection import Face
from models.faces.geometry import BOX, FACE_PX, RADII_PX
from models.families.anonymizer.conditions import erased
from models.images import Pixels, to_tensor

HEIGHT, WIDTH = 300, 400


def moved(scale: float, turn: float, x: float, y: float) -> np.ndarray:
    """The template's landmarks, turned by radians about their middle, scaled, and put at (x, y)."""
    c, s = math.cos(turn), math.sin(turn)
    centred = LANDMARKS - LANDMARKS.mean(axis=0)
    return scale * centred @ np.array([(c, s), (-s, c)]) + (x, y)


def smooth(height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    y, x = np.mgrid[0:height, 0:width] / 40.0
    waves = np.stack([np.sin(x + y), np.cos(x - y), np.sin(2 * x)], axis=-1)
    return np.rint(127 + 90 * waves).astype(np.uint8)


placed = st.builds(
    moved,
    scale=st.floats(0.3, 1.5),
    turn=st.floats(-math.pi, math.pi),
    x=st.floats(0, WIDTH),
    y=st.floats(0, HEIGHT),
)


@given(placed)
def test_landmarks_are_brought_to_their_places(landmarks: np.ndarray) -> None:
    """However a face is turned, moved and scaled, its landmarks come out where the template's are.

    And back: the places of the landmarks in the picture are those that were given.
    """
    alignment = Alignment.of_landmarks(landmarks, (HEIGHT, WIDTH))
    np.testing.assert_allclose(alignment.to_square(landmarks), LANDMARKS, atol=1e-6)
    np.testing.assert_allclose(alignment.landmarks, landmarks, atol=1e-6)


@settings(max_examples=40)
@given(placed)
def test_cutting_out_and_putting_back_changes_next_to_nothing(landmarks: np.ndarray) -> None:
    """A face pasted where it was cut out leaves a smooth picture as it was, at its borders too.

    Outside the region nothing is touched at all.
    """
    rgb = smooth()
    alignment = Alignment.of_landmarks(landmarks, (HEIGHT, WIDTH))
    pasted = alignment.paste(rgb, alignment.crop(rgb))
    assert np.abs(pasted.astype(int) - rgb).max() <= 12
    assert np.abs(pasted.astype(int) - rgb).mean() < 1
    left, top, right, bottom = alignment.region
    pasted[top:bottom, left:right] = rgb[top:bottom, left:right]
    np.testing.assert_array_equal(pasted, rgb)


@settings(max_examples=25)
@given(placed)
def test_nothing_of_a_face_shines_through(landmarks: np.ndarray) -> None:
    """What is pasted replaces the box of the face wholly, and fades before the region ends."""
    rgb = smooth()
    alignment = Alignment.of_landmarks(landmarks, (HEIGHT, WIDTH))
    pasted = alignment.paste(rgb, np.full((FACE_PX, FACE_PX, 3), 255, np.uint8))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    points = np.stack((x.ravel(), y.ravel()), axis=1)
    u, v = alignment.to_square(points).T
    left, top, right, bottom = BOX
    ellipse = np.hypot(
        (u - (left + right) / 2) / (right - left), (v - (top + bottom) / 2) / (bottom - top)
    )
    face = (ellipse <= 0.5).reshape(HEIGHT, WIDTH)
    assert (pasted[face] == 255).all()
    far = ((u < 0) | (v < 0) | (u > FACE_PX) | (v > FACE_PX)).reshape(HEIGHT, WIDTH)
    np.testing.assert_array_equal(pasted[far], rgb[far])


def test_a_square_as_large_as_the_template_is_copied() -> None:
    """A face that already lies as the template does is cut out without resampling."""
    rgb = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    alignment = Alignment.of_landmarks(LANDMARKS + np.array((30, 40)), (200, 200))
    np.testing.assert_array_equal(alignment.crop(rgb), rgb[40:168, 30:158])


def test_large_faces_are_reduced_without_aliasing() -> None:
    """A fine checkerboard becomes grey, not a moiré."""
    y, x = np.mgrid[0:1000, 0:1000]
    board = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    alignment = Alignment.of_landmarks(moved(6.3, 0.3, 500, 500), (1000, 1000))
    crop = alignment.crop(board)
    assert np.abs(crop.astype(int) - 127).max() <= 3


def test_small_faces_are_pasted_without_aliasing() -> None:
    """A checkerboard pasted onto a small face is grey."""
    y, x = np.mgrid[0:FACE_PX, 0:FACE_PX]
    board = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    grey = np.full((60, 60, 3), 127, np.uint8)
    alignment = Alignment.of_landmarks(moved(0.2, 0.2, 30, 30), (60, 60))
    assert np.abs(alignment.paste(grey, board).astype(int) - 127).max() <= 3


def test_faces_beyond_the_border_are_mirrored() -> None:
    """What lies outside the picture is filled with its mirror image, not with black."""
    rgb = np.full((100, 100, 3), 200, np.uint8)
    alignment = Alignment.of_landmarks(moved(1.0, 0.0, 0, 0), (100, 100))
    assert (alignment.crop(rgb) == 200).all()


def test_beyond_the_border_lies_what_is_beside_the_face() -> None:
    """Where the mirror would show the face, the square has the colours nearest to there.

    Not the mean of all that is around: it made new faces at a border as dark as the darkest hair.
    """
    y, x = np.mgrid[0:120, 0:100] + 0.5
    rgb = np.full((120, 100, 3), (250, 220, 200), np.uint8)
    rgb[:40] = (20, 10, 0)
    alignment = Alignment.of_landmarks(moved(1.0, 0.0, 48, 65), (120, 100))
    u, v = alignment.to_square(np.stack((x.ravel(), y.ravel()), axis=1)).T
    rgb[(face_radius(u, v) < 0.95).reshape(120, 100)] = (0, 255, 0)
    crop = alignment.crop(rgb).astype(int)
    left = crop[:, :8]
    assert (left[..., 1] < 240).all()
    assert (left[90:] == (250, 220, 200)).all()
    assert (left[:20] == (20, 10, 0)).all()


@given(st.floats(0, 300), st.floats(0, 200), st.floats(1, 200), st.floats(1, 200))
def test_a_box_without_landmarks_is_held_whole(
    left: float, top: float, width: float, height: float
) -> None:
    """A face known by its box alone is placed so that what is pasted covers it."""
    box = (left, top, left + width, top + height)
    alignment = Alignment.of_box(box, (HEIGHT, WIDTH))
    assert alignment.covers(box)
    corners = alignment.to_square(np.array(box).reshape(2, 2))
    assert (corners.min(axis=0) >= np.array(BOX[:2]) - 1e-6).all()
    assert (corners.max(axis=0) <= np.array(BOX[2:]) + 1e-6).all()


@pytest.mark.parametrize(
    "landmarks",
    [
        np.full((5, 2), 50.0),
        np.full((5, 2), np.nan),
        moved(0.2, 0.0, 100, 100),
        moved(1.0, 0.0, 250, 100),
    ],
    ids=["one point", "not finite", "too small", "elsewhere"],
)
def test_landmarks_that_would_leave_the_face_out_are_not_believed(landmarks: np.ndarray) -> None:
    """Where the landmarks do not fit the box, the box decides: the whole of it is covered."""
    box = (60.0, 50.0, 140.0, 160.0)
    alignment = Alignment.of_face(Face(box, landmarks, 0.7), (HEIGHT, WIDTH))
    assert alignment.covers(box)
    assert alignment.crop(smooth()).shape == (FACE_PX, FACE_PX, 3)


def test_landmarks_must_span_a_face() -> None:
    """One point has no direction."""
    with pytest.raises(ValueError, match="span"):
        Alignment.of_landmarks(np.full((5, 2), 50.0), (HEIGHT, WIDTH))


@settings(max_examples=60)
@given(placed)
@example(moved(0.375, -2.5, 16, 0))
def test_the_surroundings_tell_nothing_of_the_face(landmarks: np.ndarray) -> None:
    """What a generator is given instead of a face is the same whatever the face, at borders too.

    But for what resampling spreads, a few pixels at the ellipse's own border.
    """
    alignment = Alignment.of_landmarks(landmarks, (HEIGHT, WIDTH))
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    points = alignment.to_square(np.stack((x.ravel(), y.ravel()), axis=1))
    spread_px = 5 + 3 / alignment.scale
    face = (face_radius(*points.T) <= 1 - spread_px / min(RADII_PX)).reshape(HEIGHT, WIDTH)
    one, other = smooth(), smooth()
    other[face] = 255 - other[face]
    assert torch.equal(*(erased(to_tensor(alignment.crop(rgb))[None]) for rgb in (one, other)))
