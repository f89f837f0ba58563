"""The way back from an anonymized picture: upload -> seal -> original pixels -> answer.

the file has     passcode    answer
a seal           right       the original faces: exact
a seal           wrong       403, after all the work of a right one
no seal          any         what the generator's inverse makes of the faces: approximate
asked for a decoy            one of these, never the 403, and the same work and headers for all:
                             undisclosed
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from app.admission import Share
from app.callers import Caller
from app.errors import NoFace, NoSeal, WrongPasscode
from app.faces.anonymizing import identity_generator, passcode_bits
from app.faces.finding import Turns, find_faces
from app.faces.passcodes import STRONG_SCRYPT, normalised
from app.faces.revealing import reveal_face
from app.faces.sealing import NO_SEAL, Seal, find_seal
from app.inference import keep_format
from app.memory import encoding_bytes
from app.metrics import Laps
from app.opening import Served
from app.schemas.pictures import RestoreParams
from models import images
from models.errors import ModelNotFound
from models.faces.alignment import Alignment
from models.images import Format, Header, Picture, Pixels

if TYPE_CHECKING:
    from pydantic import SecretStr

    from app.service import Service

Outcome = Literal["exact", "approximate", "undisclosed"]

_BYTES_PER_PIXEL = 10  # the picture and two restored copies
_READING_COPIES = 4  # of the file: itself, its seal in pieces and whole, and what that holds


@dataclass(frozen=True, slots=True)
class Restored:
    """An encoded picture with faces, its size (height, width), and how they came back.

    `model` is what made them, None where the seal held them. `seconds` is empty where it would
    tell.
    """

    data: bytes
    format: Format
    size: tuple[int, int]
    outcome: Outcome
    model: Served | None
    seconds: dict[str, float]


async def restore(
    service: Service,
    data: bytes,
    params: RestoreParams,
    caller: Caller,
    client: str,
    choose_format: Callable[[Format], Format] = keep_format,
    share: Share | None = None,
) -> Restored:
    """Answer one upload with its faces back; the event loop only waits.

    `client` is whom the attempt is counted for, beside the picture. Raises WrongPasscode,
    InvalidPasscode, TooManyAttempts, DamagedSeal; NoSeal and ModelNotFound where a generator would
    be needed and none is served; and as `inference.run` does.
    """
    normalised(params.passcode)
    limits = service.image_limits
    header = await service.in_codecs(partial(images.read_header, data, limits))
    answer_format = params.format or choose_format(header.format)
    images.check_fits(header.height, header.width, answer_format)
    if share:
        share.resize(len(data) * _READING_COPIES)
    seal = await service.in_codecs(partial(seal_of, data, header.format))
    model = None
    if needs_generator(seal, params):
        model = _generator(service, params, caller)
    picture_name = seal.salt.hex() if seal else await service.in_codecs(partial(_hash, data))
    names = (client, f"picture {picture_name}")
    if share:
        share.resize(len(data) * _READING_COPIES + _memory_bytes(header, seal, answer_format))
    attempt = service.restorations.take(*names)
    laps = Laps()
    turns = Turns(service, time.monotonic() + service.settings.deadline_s, laps)
    picture = await service.in_codecs(partial(images.decode, data, limits))
    laps.end("decode")
    opened = generated = None
    if seal:
        opened = await service.in_codecs(partial(_open, seal, picture, params.passcode))
        laps.end("open")
    if model:
        generated = await _inverse(turns, model, picture.rgb, params.passcode)
        laps.end("forward")
    # A wrong passcode is told only after all that a right one would have cost.
    rgb = next((rgb for rgb in (opened, generated) if rgb is not None), picture.rgb)
    answer = Picture(rgb, picture.alpha, picture.format)
    encoded = await service.in_codecs(partial(images.encode, answer, answer_format, params.quality))
    laps.end("encode")
    outcome: Outcome = "exact" if seal else "approximate"
    if params.decoy:
        outcome = "undisclosed"
    elif seal and opened is None:
        raise WrongPasscode("the passcode does not open this picture")
    elif seal:
        service.restorations.give_back(attempt)
    service.metrics.observe(model.version.name if model else "seal", laps.seconds, 1)
    height, width = picture.rgb.shape[:2]
    seconds = {} if params.decoy else laps.seconds
    return Restored(encoded, answer_format, (height, width), outcome, model, seconds)


def _memory_bytes(header: Header, seal: Seal | None, answer_format: Format) -> int:
    """What a picture takes, and deriving a key; its transparency is known to nobody yet."""
    pixels = header.height * header.width
    derivation_kib = max(seal.cost.memory_kib if seal else 0, STRONG_SCRYPT.memory_kib)
    encoding = encoding_bytes(pixels, answer_format, transparent=True)
    return pixels * _BYTES_PER_PIXEL + encoding + derivation_kib * 1024


def generator_name(params: RestoreParams) -> str:
    """Return the name of the generator whose inverse a request may ask for."""
    return params.model or "face-identity"


def needs_generator(seal: Seal | None, params: RestoreParams) -> bool:
    """Tell whether the seal is not enough."""
    return params.decoy or seal is None


def seal_of(data: bytes, kind: Format) -> Seal | None:
    """Return the seal that a file carries, None without one; raises DamagedSeal."""
    try:
        return find_seal(data, kind)
    except NoSeal:
        return None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _generator(service: Service, params: RestoreParams, caller: Caller) -> Served:
    name = generator_name(params)
    try:
        return identity_generator(service, name, caller)
    except ModelNotFound:
        if params.decoy:
            raise
        raise NoSeal(
            f"{NO_SEAL}; the model {name}, which could restore them approximately, is not served"
        ) from None


def _open(seal: Seal, picture: Picture, passcode: SecretStr) -> Pixels | None:
    """Return the picture with the sealed pixels in their places, None for a wrong passcode."""
    rgb = picture.rgb.copy()
    try:
        for region in seal.open(picture, passcode):
            rgb[region.place] = region.rgb
    except WrongPasscode:
        return None
    return rgb


async def _inverse(turns: Turns, model: Served, rgb: Pixels, passcode: SecretStr) -> Pixels:
    """Return the picture with each face made by the inverse that the passcode asks for.

    Of the right passcode that is about the original face, of another one somebody else's. Raises
    NoFace, and as `find_faces` does.
    """
    made = await turns.service.in_codecs(rgb.copy)
    faces = await find_faces(turns, rgb)
    if not faces:
        raise NoFace("no face was found that could be restored")
    bits = await turns.service.in_codecs(partial(passcode_bits, model, passcode))
    for face in reversed(faces):  # the last pasted lies on top of its neighbours
        alignment = Alignment.of_face(face, rgb.shape[:2])
        await reveal_face(turns, model, made, alignment, bits)
    return made
