"""How well a new face keeps the tone of the old one, of light skin as of dark."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models import images, lab
from models.evaluation.protocols import FACE_UNCHANGED, Table
from models.families.anonymizer.conditions import face_mask
from models.images import Pixels

_CORE = 0.75  # of the mask's radii: skin, and no background
_WHERE = "mean colour over the inner three quarters of the aligned 128 px face, CIELAB, D65"
_PROTOCOLS = {
    "tone": f"{_WHERE}: mean distance (CIE76) before and after; lower is better",
    "lightness": "the same: mean of L* after less L* before",
    "of the dark": "lightness, of the quarter of the faces that are darkest",
}


def tone_table(
    title: str, faces: Sequence[Pixels], name: str, change: Callable[[Pixels], Pixels]
) -> Table:
    """Compare the tones of aligned faces, uint8 (128, 128, 3), before and after a change."""
    before = np.array([_tone(face) for face in faces])
    strayed = np.array([_tone(change(face)) for face in faces]) - before
    darkest = before[:, 0].argsort()[: max(1, len(faces) // 4)]
    figures = (
        float(np.linalg.norm(strayed, axis=1).mean()),
        float(strayed[:, 0].mean()),
        float(strayed[darkest, 0].mean()),
    )
    rows = {name: figures, FACE_UNCHANGED: (0.0, 0.0, 0.0)}
    return Table(f"{title}: {len(faces)} faces", _PROTOCOLS, rows)


def _tone(face: Pixels) -> NDArray[np.float64]:
    """Return the mean L*, a* and b*."""
    rgb = images.to_tensor(face)
    core = face_mask(rgb[None], _CORE)[0, 0].bool()
    lightness, chroma = lab.split(rgb)

    def mean(planes: Tensor) -> NDArray[np.float64]:
        colours: NDArray[np.float64] = planes[:, core].mean(1).double().numpy()
        return colours

    return np.concatenate((50 * (mean(lightness) + 1), lab.CHROMA_SCALE * mean(chroma)))
