"""Faces of a picture found and made into others, in turn with everybody else's pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from models import images
from models.faces.alignment import Alignment
from models.faces.detection import Box, Face, Look, go_on, look_around, overlap, search
from models.images import Pixels

if TYPE_CHECKING:
    from app.opening import Served
    from app.service import Service

T = TypeVar("T")

_SAME = 0.3  # intersection over union from which a face found is the one in a given box

Pack = Callable[[Tensor, Tensor], Tensor]
"""(1, 3, 128, 128) face in [-1, 1], (1, 5, 2) landmarks in it -> the generator's input."""


async def find_faces(service: Service, rgb: Pixels, deadline: float) -> list[Face]:
    """Return the faces of a picture, the surest first; `deadline` is of time.monotonic().

    Raises DeadlineExceeded and NotReady as `Batcher.call` does.
    """
    detector = await service.detector()
    searching = search(*rgb.shape[:2])
    step: Look | list[Face] = next(searching)
    while isinstance(step, Look):
        seen = await service.in_codecs(partial(step.take, rgb))
        found = await _on_device(service, partial(detector.look, seen), deadline)
        # In a thread, as telling thousands of faces once takes a while.
        step = await service.in_codecs(partial(go_on, searching, found))
    return step


async def find_faces_in(
    service: Service, rgb: Pixels, boxes: Sequence[Box], deadline: float
) -> list[Face | None]:
    """Return the face that a detector finds in each box, None where it finds none there."""
    detector = await service.detector()
    found: list[Face | None] = []
    for box in boxes:
        look = look_around(box, *rgb.shape[:2])
        seen = await service.in_codecs(partial(look.take, rgb))
        faces = await _on_device(service, partial(detector.look, seen), deadline)
        shares = [(overlap(box, face.box)[0], face) for face in map(look.place, faces)]
        share, face = max(shares, key=lambda pair: pair[0], default=(0.0, None))
        found.append(face if share >= _SAME else None)
    return found


async def remake_face(
    service: Service,
    model: Served,
    rgb: Pixels,
    face: Face,
    alignment: Alignment,
    pack: Pack,
    deadline: float,
) -> None:
    """Put what `model` makes of one face into the picture itself."""

    def packed() -> Tensor:
        square = images.to_tensor(alignment.crop(rgb))[None]
        landmarks = torch.from_numpy(alignment.to_square(face.landmarks)).float()[None]
        return pack(square, landmarks)

    made = await make_face(service, model, packed, deadline)
    await service.in_codecs(partial(alignment.paste_into, rgb, made))


async def make_face(
    service: Service, model: Served, packed: Callable[[], Tensor], deadline: float
) -> Pixels:
    """Return what `model` makes of one face.

    Alone on the device: the same face and condition give the same pixels, whoever else is there.
    """
    given = await service.in_codecs(packed)
    answer = await _on_device(service, partial(model.engine, given), deadline)
    return images.to_rgb(answer[0])


async def _on_device(service: Service, work: Callable[[], T], deadline: float) -> T:
    done = await service.batcher.call(work, deadline - time.monotonic())
    service.rates.charge(done.ran_s)  # how many looks and faces there are is known afterwards
    return done.value
