"""What a passcode hid in a face, found where the seal is lost: analysis by synthesis.

The detector is a pixel or two off on a new face, and a face that was pasted in and cut out again is
softer. Either drowns what is hidden, a few hundredths of what sets two faces apart. So the
passcode's face is painted again, softened alike, and moved until it lies on the one that is seen.
"""

from __future__ import annotations

import math
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from app.faces.finding import Turns, make_face
from models import images
from models.faces.alignment import Alignment
from models.faces.registration import difference, moved, on_face
from models.families.anonymizer.conditions import Asked, pack_identity
from models.images import Pixels

if TYPE_CHECKING:
    from app.opening import Served

_STEPS, _SMOOTH_STEPS = 12, 4  # as many for a wrong passcode, which brings nothing into line


async def reveal_face(
    turns: Turns,
    model: Served,
    rgb: Pixels,
    alignment: Alignment,
    bits: Tensor,
) -> None:
    """Put the face that `bits` hid in one into the picture itself.

    `alignment` says about where it is. Raises as `Batcher.call` does.
    """

    async def made(square: Pixels, asked: Asked) -> Pixels:
        def packed() -> Tensor:
            return pack_identity(images.to_tensor(square)[None], bits, asked)

        return await make_face(turns, model, packed)

    tries = []
    for step in range(_STEPS):
        seen = await turns.service.in_codecs(partial(alignment.crop, rgb))
        painted = await made(seen, Asked.PAINTED)
        compared = partial(_compared, rgb, alignment, seen, painted, smooth=step < _SMOOTH_STEPS)
        left, mended, further = await turns.service.in_codecs(compared)
        tries.append((left, alignment, mended))
        alignment = further
    _, best, mended = min(tries, key=itemgetter(0))
    old = await made(mended, Asked.OLD)
    await turns.service.in_codecs(partial(best.paste_into, rgb, old))


def _compared(
    rgb: Pixels, alignment: Alignment, seen: Pixels, painted: Pixels, *, smooth: bool
) -> tuple[float, Pixels, Alignment]:
    """Return how far the painted face is from what is seen, that mended, and where to look next."""
    known = _softened(rgb, alignment, painted)
    further = moved(alignment, seen, known, smooth=smooth)
    return difference(seen, known), _mended(seen, painted, known), further


def _softened(rgb: Pixels, alignment: Alignment, face: Pixels) -> Pixels:
    """Return a face as it comes back from being pasted into the picture and cut out again."""
    margin = math.ceil(2 * alignment.scale) + 3
    left, top, right, bottom = alignment.region
    left, top = max(0, left - margin), max(0, top - margin)
    part = rgb[top : bottom + margin, left : right + margin].copy()
    local = Alignment(alignment.matrix - [(0, 0, left), (0, 0, top)], part.shape[:2])
    local.paste_into(part, face)
    return local.crop(part)


def _mended(seen: Pixels, painted: Pixels, known: Pixels) -> Pixels:
    """Return what would be seen if nothing had softened the painted face."""
    sharp = np.clip(seen.astype(np.int16) + painted - known, 0, 255).astype(np.uint8)
    return np.where(on_face()[..., None], sharp, seen)
