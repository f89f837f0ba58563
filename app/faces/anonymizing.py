"""The way of a picture whose faces go: upload -> faces -> other faces -> answer, perhaps sealed.

method generate   passcode   model               the faces come back by
                  none       face-surroundings   nothing: it never saw them
                  any        face-identity       the seal, or its inverse
                  any        face-surroundings   the seal
blur, pixelate, solid        none                the seal, if there is a passcode
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from app.callers import Caller
from app.errors import DeadlineExceeded, InvalidParameter, NoFace
from app.faces.carriers import CARRIERS, carries
from app.faces.finding import Pack, Turns, find_faces, find_faces_in, remake_face
from app.faces.passcodes import STRONG, condition_bits, normalised
from app.faces.sealing import Region, check_overlap, seal
from app.inference import keep_format
from app.memory import encoding_bytes
from app.metrics import Laps
from app.opening import Served
from models import images
from models.faces.alignment import Alignment
from models.faces.detection import Box, Face
from models.faces.obscuring import WAYS, hidden_region
from models.families.anonymizer.conditions import code_of, pack_identity, pack_surroundings
from models.families.anonymizer.painter import FaceConfig
from models.family import Task
from models.images import Format, Picture, Pixels

if TYPE_CHECKING:
    from pydantic import SecretStr

    from app.admission import Share
    from app.schemas.pictures import AnonymizeParams, Method
    from app.service import Service


_BYTES_PER_PIXEL = 8  # the picture, and what reading or reducing it takes
_LEAST_SIDE_PX = 1 - 1e-6  # of a box; floats of 1 pixel come out shorter
_SEALING_BYTES_PER_PIXEL = 14  # the faces, the file and its pixels once more


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A face to be anonymized; `given` says that its box came with the request."""

    face: Face
    alignment: Alignment
    given: bool

    def pixels(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the face's box in whole pixels of a picture of that size."""
        left, top, right, bottom = self.face.box
        return (
            max(0, math.floor(left)),
            max(0, math.floor(top)),
            min(width, math.ceil(right)),
            min(height, math.ceil(bottom)),
        )


@dataclass(frozen=True, slots=True)
class Anonymized:
    """An encoded picture without its faces, its size (height, width), and what was done to it.

    `model` is what made the new faces, None for the other methods.
    """

    data: bytes
    format: Format
    size: tuple[int, int]
    method: Method
    targets: list[Target]
    sealed: bool
    model: Served | None
    seconds: dict[str, float]


async def anonymize(
    service: Service,
    data: bytes,
    params: AnonymizeParams,
    caller: Caller,
    choose_format: Callable[[Format], Format] = keep_format,
    share: Share | None = None,
    box: tuple[int, int] | None = None,
) -> Anonymized:
    """Answer one upload without its faces; the event loop only waits.

    The answer is reduced to fit into `box`, (height, width), which is not for one with a seal.

    Raises NoFace, InvalidParameter, InvalidPasscode, what `Catalog.for_task` raises, and as
    `inference.run` does.
    """
    laps = Laps()
    turns = Turns(service, time.monotonic() + service.settings.deadline_s, laps)
    if params.passcode is not None:
        normalised(params.passcode)
    model = _generator(service, params, caller)
    limits = service.image_limits
    with service.batcher.announced():
        header = await service.in_codecs(partial(images.read_header, data, limits))
        answer_format = params.format or choose_format(header.format)
        if box is None:  # how a picture fits into a box is known once it is upright
            images.check_fits(header.height, header.width, answer_format)
        if params.passcode is not None:
            await service.in_codecs(partial(_check_sealable, data, header.format, answer_format))
        if share:
            pixels = header.height * header.width
            share.resize(len(data) + _memory_bytes(pixels, params, answer_format))
        picture = await service.in_codecs(partial(images.decode, data, limits))
    rgb = picture.rgb
    height, width = rgb.shape[:2]
    size = images.fitted(height, width, box)
    images.check_fits(*size, answer_format)
    needed = partial(
        _memory_bytes, height * width, params, answer_format, transparent=picture.alpha is not None
    )
    if share:
        share.resize(len(data) + needed())
    laps.end("decode")

    targets = await _targets(turns, rgb, params)
    laps.end("detect")
    if not targets and not params.allow_no_face:
        raise NoFace(
            "no face was found; send its box in `faces` if there is one, or allow_no_face=true to "
            "have the picture as it is"
        )
    passcode, model = (params.passcode, model) if targets else (None, None)
    originals: list[Region] = []
    if passcode is not None:
        boxes = [_touched(target, params.method, height, width) for target in targets]
        hidden = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
        check_overlap(hidden, height * width)
        if share:
            share.resize(len(data) + needed(hidden_pixels=hidden))
        originals = await service.in_codecs(partial(_regions, picture, boxes, answer_format))
    if model:
        await _remake(turns, model, rgb, targets, params)
    else:
        await _obscure(turns, rgb, targets, params.method)
    laps.end("forward")

    encoded = await service.in_codecs(
        lambda: images.encode(images.resized(picture, *size), answer_format, params.quality)
    )
    laps.end("encode")
    if passcode is not None:
        encoded = await service.in_codecs(
            partial(seal, encoded, answer_format, originals, passcode)
        )
        laps.end("seal")
    service.metrics.observe(model.version.name if model else params.method, laps.seconds, 1)
    return Anonymized(
        data=encoded,
        format=answer_format,
        size=size,
        method=params.method,
        targets=targets,
        sealed=passcode is not None,
        model=model,
        seconds=laps.seconds,
    )


def generator_name(params: AnonymizeParams) -> str | None:
    """Return the name of the generator for a request, None if its method needs none."""
    if params.method != "generate":
        return None
    condition = "identity" if params.passcode is not None else "surroundings"
    return params.model or f"face-{condition}"


def _generator(service: Service, params: AnonymizeParams, caller: Caller) -> Served | None:
    name = generator_name(params)
    if name is None:
        if params.model:
            raise InvalidParameter("model: only the method generate has one")
        return None
    model = service.catalog.for_task(name, Task.ANONYMIZE, caller)
    if params.passcode is None and _config(model).condition == "identity":
        raise InvalidParameter(f"model: {model.label} is for requests with a passcode")
    return model


def identity_generator(service: Service, name: str, caller: Caller) -> Served:
    """Return the generator of that name that the caller may use and that has an inverse.

    Raises what `Catalog.for_task` raises, and InvalidParameter for one without.
    """
    model = service.catalog.for_task(name, Task.ANONYMIZE, caller)
    if _config(model).condition != "identity":
        raise InvalidParameter(f"model: {model.label} has no inverse")
    return model


def _check_sealable(data: bytes, input_format: Format, answer_format: Format) -> None:
    if answer_format not in CARRIERS:
        raise InvalidParameter(
            f"format: faces cannot travel in {answer_format}; with a passcode ask for "
            f"{', '.join(CARRIERS)}"
        )
    if carries(data, input_format):
        raise InvalidParameter(
            "image: it carries sealed faces already, which would be lost; restore it first, or "
            "send the original with all boxes"
        )


def _memory_bytes(
    pixels: int,
    params: AnonymizeParams,
    answer_format: Format,
    *,
    transparent: bool = False,
    hidden_pixels: int = 0,
) -> int:
    """Bytes that a picture takes.

    `hidden_pixels`, which are to be sealed, may be more than `pixels`, as faces overlap. Before the
    faces are known, they are taken to be all of the picture.
    """
    encoding = encoding_bytes(pixels, answer_format, transparent=transparent)
    if params.passcode is None:
        return pixels * _BYTES_PER_PIXEL + encoding
    sealing = max(pixels, hidden_pixels) * _SEALING_BYTES_PER_PIXEL + STRONG.memory_kib * 1024
    return pixels * _BYTES_PER_PIXEL + encoding + sealing


def _regions(
    picture: Picture, boxes: Sequence[tuple[int, int, int, int]], answer_format: Format
) -> list[Region]:
    """Return the pixels in the boxes, as the answer's format can hold them."""
    seen = images.on_white(picture) if answer_format == "jpeg" else picture.rgb
    return [Region.of(seen, box) for box in boxes]


async def _targets(turns: Turns, rgb: Pixels, params: AnonymizeParams) -> list[Target]:
    """Return what is to be anonymized: the given boxes, else all faces, the uncertain ones too."""
    height, width = size = rgb.shape[:2]
    if not params.faces:
        faces = await find_faces(turns, rgb)
        return await turns.service.in_codecs(
            lambda: [Target(face, Alignment.of_face(face, size), given=False) for face in faces]
        )
    for left, top, right, bottom in params.faces:
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise InvalidParameter(
                "faces: left and right, top and bottom must lie in order within the picture's "
                f"{width} x {height} pixels"
            )
        if min(right - left, bottom - top) < _LEAST_SIDE_PX:
            raise InvalidParameter("faces: a box has at least 1 pixel a side")
    found: Sequence[Face | None] = [None] * len(params.faces)
    if params.method == "generate":  # the others need no landmarks
        found = await find_faces_in(turns, rgb, params.faces)
    return [_in_given(box, face, size) for box, face in zip(params.faces, found, strict=True)]


def _in_given(box: Box, found: Face | None, size: tuple[int, int]) -> Target:
    """Return the target in a given box, with the landmarks found there or where they must be."""
    landmarks = found.landmarks if found else Alignment.of_box(box, size).landmarks
    face = Face(box, landmarks, 1.0)
    return Target(face, Alignment.of_face(face, size), given=True)


def _touched(target: Target, method: Method, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the (left, top, right, bottom) of all pixels that anonymizing a target may touch."""
    if method == "generate":
        return target.alignment.region
    return hidden_region(target.face.box, height, width)


async def _remake(
    turns: Turns,
    model: Served,
    rgb: Pixels,
    targets: list[Target],
    params: AnonymizeParams,
) -> None:
    """Put other faces into the picture, one after the other.

    Each is cut out with the others as they then are, so no square brings a neighbour back.
    """
    pack = await turns.service.in_codecs(partial(_pack, model, params))
    for target in targets:
        await remake_face(turns, model, rgb, target.face, target.alignment, pack)


def _pack(model: Served, params: AnonymizeParams) -> Pack:
    """Return what tells the generator whom to make: bits of the passcode, or chance.

    A passcode is the seal's alone where the generator knows none.
    """
    config = _config(model)
    if config.condition == "identity" and params.passcode is not None:
        bits = passcode_bits(model, params.passcode)
        return lambda faces, _landmarks: pack_identity(faces, bits)
    length = config.code_length

    def pack(faces: Tensor, landmarks: Tensor) -> Tensor:
        chance = torch.tensor([[secrets.randbits(1) == 1 for _ in range(length)]])
        return pack_surroundings(faces, landmarks, code_of(chance, faces))

    return pack


def passcode_bits(model: Served, passcode: SecretStr) -> Tensor:
    """Return the bits, (1, N), by which the generator knows a passcode.

    Takes the time of a key derivation.
    """
    return torch.tensor([condition_bits(passcode, _config(model).code_length)])


def _config(model: Served) -> FaceConfig:
    """Return the generator's hyperparameters: its condition and the length of its code."""
    return FaceConfig.model_validate(model.version.header.generator)


async def _obscure(turns: Turns, rgb: Pixels, targets: list[Target], method: Method) -> None:
    """Hide each target in the picture itself; raises DeadlineExceeded between two."""

    def hide(box: Box) -> None:
        left, top, right, bottom = hidden_region(box, *rgb.shape[:2])
        rgb[top:bottom, left:right] = WAYS[method](rgb[top:bottom, left:right])

    for target in targets:
        if time.monotonic() > turns.deadline:
            raise DeadlineExceeded("no answer within deadline_s")
        await turns.service.in_codecs(partial(hide, target.face.box))
