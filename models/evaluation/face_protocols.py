"""How anonymization is measured: who is still recognised, by whom, and what comes back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation import metrics
from models.evaluation.judge import NAME, SAME_PERSON, Judge
from models.evaluation.protocols import FACE_UNCHANGED, Table
from models.faces import obscuring
from models.faces.alignment import Alignment
from models.faces.detection import CONFIDENT, Detector, Face
from models.images import Pixels

Change = Callable[[Pixels], Pixels]
"""From an aligned face to another, uint8 (128, 128, 3)."""
Vectors = NDArray[np.float64]

_PASSCODES = 6  # of each face; with two, 200 faces leave an error of 2.3 points
_IDENTICAL_DB = 138.13  # what a face equal to the original counts in a mean, instead of infinity

_RANK_1 = (
    "share of changed photos whose nearest unchanged one of the gallery is of the same person; "
    "gallery: every second photo of each, probes: the others, changed"
)
_AUC = "area under the ROC curve of 'same person' for changed against unchanged photos of two files"
_SAME = "mean distance between a changed and another unchanged photo of one person"
_LINKED = "mean distance between two changed photos of one person"
_APART = "the same of two people"
_LINKED_AUC = "area under the ROC curve of 'same person' for two changed photos"
_FOUND = f"share of changed photos in which the detector finds the face with at least {CONFIDENT}"
_SHIFT = "mean shift of the five landmarks, in distances between the eyes"


@dataclass(frozen=True, slots=True)
class Portrait:
    """A photo, who is on it, and where the face is."""

    rgb: Pixels
    person: str
    face: Face
    alignment: Alignment


def portraits(pictures: Sequence[tuple[str, Pixels]], detector: Detector) -> list[Portrait]:
    """Find the surest face of each (person, photo); photos without one are left out."""
    found = []
    for person, rgb in pictures:
        faces = detector(rgb)
        if faces:
            alignment = Alignment.of_face(faces[0], rgb.shape[:2])
            found.append(Portrait(rgb, person, faces[0], alignment))
    return found


def cut_tightly(portrait: Portrait) -> Pixels:
    """Return the photo as a passport has it: what lies within a tenth of the face's box around it.

    The border is in the face's square then, and what lies beyond it has to be made up.
    """
    left, top, right, bottom = portrait.face.box
    x, y = 0.1 * (right - left), 0.1 * (bottom - top)
    across = slice(max(0, round(left - x)), round(right + x))
    return np.ascontiguousarray(portrait.rgb[max(0, round(top - y)) : round(bottom + y), across])


def reidentification_table(
    title: str,
    photos: Sequence[Portrait],
    changes: Mapping[str, Change],
    detector: Detector,
    judge: Judge,
) -> Table:
    """Compare what a recogniser makes of photos before and after each change."""
    crops = [p.alignment.crop(p.rgb) for p in photos]
    gallery = np.array([judge(crop) for crop in crops])
    people = np.array([p.person for p in photos])
    probes = np.arange(len(photos)) % 2 == 1

    def figures(change: Change) -> tuple[float, ...]:
        changed = [p.alignment.paste(p.rgb, change(c)) for p, c in zip(photos, crops, strict=True)]
        seen = [detector(rgb) for rgb in changed]
        vectors = np.array(
            [judge(p.alignment.crop(rgb)) for p, rgb in zip(photos, changed, strict=True)]
        )
        distances = np.linalg.norm(vectors[:, None] - gallery[None], axis=2)
        nearest = people[~probes][distances[np.ix_(probes, ~probes)].argmin(axis=1)]
        other_file = ~np.eye(len(photos), dtype=bool)
        same = (people[:, None] == people[None]) & other_file
        among = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
        shifts = [_shift(p.face, faces[0]) for p, faces in zip(photos, seen, strict=True) if faces]
        return (
            float((nearest == people[probes]).mean()),
            _auc(distances[same], distances[~same & other_file]),
            float(distances[same].mean()),
            float(among[same].mean()),
            float(among[~same & other_file].mean()),
            _auc(among[same], among[~same & other_file]),
            float(np.mean([any(not face.uncertain for face in faces) for faces in seen])),
            float(np.mean(shifts)) if shifts else float("nan"),
        )

    protocols = {
        "rank 1": f"{_RANK_1}; judged by {NAME}, which no generator was trained against",
        "AUC": _AUC,
        "same": _SAME,
        "linked": _LINKED,
        "apart": _APART,
        "linked AUC": _LINKED_AUC,
        "found": _FOUND,
        "shift": _SHIFT,
    }
    weak = {"blur": obscuring.blur, "pixelate": obscuring.pixelate}
    everything = {**changes, **weak, FACE_UNCHANGED: lambda c: c}
    return Table(
        f"{title}: {len(photos)} photos of {len(set(people))} people",
        protocols,
        {name: figures(change) for name, change in everything.items()},
    )


def passcode_table(
    title: str,
    faces: Sequence[Pixels],
    name: str,
    change: Callable[[Pixels, NDArray[np.bool_]], Pixels],
    restore: Callable[[Pixels, NDArray[np.bool_]], Pixels],
    code_length: int,
    judge: Judge,
) -> Table:
    """Measure what passcodes do to aligned faces, each with its own: new faces, and the way back.

    `change` and `restore` take a face and the bits of a passcode.
    """
    random = np.random.default_rng(0)
    rows = []
    for face in faces:
        wrong, right, *others = random.random((1 + _PASSCODES, code_length)) < 0.5
        new = change(face, right)
        person = judge(face)
        seen = [judge(new), *(judge(change(face, code)) for code in others)]
        restored = restore(new, right)
        rows.append(
            (
                min(metrics.psnr(restored, face), _IDENTICAL_DB),
                not _two_people(judge(restored), person),
                np.mean([_two_people(another, person) for another in seen]),
                np.mean([_two_people(a, b) for a, b in itertools.combinations(seen, 2)]),
                _two_people(judge(restore(new, wrong)), person),
            )
        )
    apart = f"share at least {SAME_PERSON} apart for {NAME}"
    protocols = {
        "restored": "PSNR in dB over 8-bit RGB of the aligned 128 px face, mean over faces; right "
        "passcode, by the network alone from an 8-bit picture; an identical face counts as "
        f"{_IDENTICAL_DB} dB",
        "known again": f"share of restored faces below {SAME_PERSON} of the original's",
        "changed": f"of new faces under {_PASSCODES} passcodes and the original: {apart}",
        "two codes": f"of all pairs of these, other passcodes for each face: {apart}",
        "wrong code": f"of the face a wrong passcode brings and the original's: {apart}",
    }
    means = tuple(float(np.mean(column)) for column in zip(*rows, strict=True))
    return Table(f"{title}: {len(faces)} faces", protocols, {name: means})


def _two_people(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return float(np.linalg.norm(one - other)) >= SAME_PERSON


def _auc(same: Vectors, different: Vectors) -> float:
    """Return the chance that a distance within a person is below one between people."""
    order = np.sort(different)
    above = len(order) - np.searchsorted(order, same, side="right")
    ties = np.searchsorted(order, same, side="right") - np.searchsorted(order, same)
    return float((above + ties / 2).mean() / len(order))


def _shift(before: Face, after: Face) -> float:
    eyes = float(np.linalg.norm(before.landmarks[0] - before.landmarks[1]))
    return float(np.linalg.norm(before.landmarks - after.landmarks, axis=1).mean() / eyes)
