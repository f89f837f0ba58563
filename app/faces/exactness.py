"""What the seal brings back, as a figure beside those of a face generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import SecretStr

from app.faces.carriers import CARRIERS
from app.faces.sealing import Region, seal, unseal
from models import images
from models.evaluation.protocols import Table
from models.faces.alignment import Alignment
from models.faces.detection import Detector
from models.images import Format, Picture, Pixels

_PASSCODE = SecretStr("for a figure")


def seal_table(name: str, title: str, photos: Sequence[Pixels], detector: Detector) -> Table:
    """Tell in how many photos every face comes back bit for bit, in each format that has seals.

    Takes two key derivations for each photo and format; photos without a face are left out.
    """
    faces = [(rgb, regions) for rgb in photos if (regions := _regions(rgb, detector))]
    protocols = {
        f"sealed {kind}": f"share of photos whose faces the seal in a {kind.upper()} and the right "
        "passcode bring back without a difference in any pixel"
        for kind in CARRIERS
    }
    shares = (float(np.mean([_is_exact(*each, kind) for each in faces])) for kind in CARRIERS)
    return Table(f"{title}: {len(faces)} photos, sealed", protocols, {name: tuple(shares)})


def _regions(rgb: Pixels, detector: Detector) -> list[Region]:
    """Return the original pixels that anonymizing the faces of a photo may touch."""
    size = rgb.shape[:2]
    return [Region.of(rgb, Alignment.of_face(face, size).region) for face in detector(rgb)]


def _is_exact(rgb: Pixels, regions: list[Region], kind: Format) -> bool:
    hidden = rgb.copy()
    for region in regions:
        hidden[region.place] = 127
    file = images.encode(Picture(hidden, None, kind), kind)
    opened = unseal(seal(file, kind, regions, _PASSCODE), _PASSCODE)
    return len(opened) == len(regions) and all(
        (new.left, new.top) == (old.left, old.top) and np.array_equal(new.rgb, old.rgb)
        for new, old in zip(opened, regions, strict=True)
    )
