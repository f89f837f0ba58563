"""Faces of a picture found and made into others, in turn with everybody else's pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from models import images
from models.faces.alignment import Alignment
from models.faces.detection import Box, Face, Look, go_on, look_around, overlap, search
from models.images import Pixels

if TYPE_CHECKING:
    from app.metrics import Laps
    from app.opening import Served
    from app.service import Service

T = TypeVar("T")

_SAME = 0.3  # intersection over union from which a face found is the one in a given box

Pack = Callable[[Tensor, Tensor], Tensor]
"""(1, 3, 128, 128) face in [-1, 1], (1, 5, 2) landmarks in it -> the generator's input."""


class Turns:
    """One request's turns on the device; what it waits for them goes to its laps.

    Attributes:
        service: whose device it is.
        deadline: of time.monotonic().
    """

    def __init__(self, service: Service, deadline: float, laps: Laps) -> None:
        self.service, self.deadline, self._laps = service, deadline, laps

    async def run(self, work: Callable[[], T]) -> T:
        """Do `work()` on the device's thread; raises as `Batcher.call` does.

        What it takes is charged, even to somebody who has left meanwhile.
        """
        account = copy_context()

        def charge(seconds: float) -> None:
            account.run(self.service.rates.charge, seconds)

        left_s = self.deadline - time.monotonic()
        done = await self.service.batcher.call(work, left_s, ran=charge)
        self._laps.wait(done.queued_s)
        return done.value


async def find_faces(turns: Turns, rgb: Pixels) -> list[Face]:
    """Return the faces of a picture, the surest first.

    Raises DeadlineExceeded and NotReady as `Batcher.call` does.
    """
    detector = await turns.service.detector()
    searching = search(*rgb.shape[:2])
    step: Look | list[Face] = next(searching)
    while isinstance(step, Look):
        seen = await turns.service.in_codecs(partial(step.take, rgb))
        found = await turns.run(partial(detector.look, seen))
        # In a thread, as telling thousands of faces once takes a while.
        step = await turns.service.in_codecs(partial(go_on, searching, found))
    return step


async def find_faces_in(turns: Turns, rgb: Pixels, boxes: Sequence[Box]) -> list[Face | None]:
    """Return the face that a detector finds in each box, None where it finds none there."""
    detector = await turns.service.detector()
    found: list[Face | None] = []
    for box in boxes:
        look = look_around(box, *rgb.shape[:2])
        seen = await turns.service.in_codecs(partial(look.take, rgb))
        faces = await turns.run(partial(detector.look, seen))
        shares = [(overlap(box, face.box)[0], face) for face in map(look.place, faces)]
        share, face = max(shares, key=lambda pair: pair[0], default=(0.0, None))
        found.append(face if share >= _SAME else None)
    return found


async def remake_face(
    turns: Turns,
    model: Served,
    rgb: Pixels,
    face: Face,
    alignment: Alignment,
    pack: Pack,
) -> None:
    """Put what `model` makes of one face into the picture itself."""

    def packed() -> Tensor:
        square = images.to_tensor(alignment.crop(rgb))[None]
        landmarks = torch.from_numpy(alignment.to_square(face.landmarks)).float()[None]
        return pack(square, landmarks)

    made = await make_face(turns, model, packed)
    await turns.service.in_codecs(partial(alignment.paste_into, rgb, made))


async def make_face(turns: Turns, model: Served, packed: Callable[[], Tensor]) -> Pixels:
    """Return what `model` makes of one face.

    Alone on the device: the same face and condition give the same pixels, whoever else is there.
    """
    given = await turns.service.in_codecs(packed)
    answer = await turns.run(partial(model.engine, given))
    return images.to_rgb(answer[0])
