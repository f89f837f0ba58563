"""Where a PNG, JPEG or WebP file carries bytes of ours, which every other reader passes over.

    PNG   chunks `anSL` before IEND: ancillary and private, and by the upper-case L unsafe to copy,
          so an editor that changes the pixels drops what is bound to them
    JPEG  segments APP15, each beginning with `ANAMORPH` and a zero
    WebP  chunks `ANSL` at the end of the extended format, which is made of the simple one

Each piece begins with its index and the number of all, two bytes each, big-endian: a segment of
JPEG holds 64 KiB, and libpng refuses chunks above 8 MB.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from struct import Struct
from typing import NamedTuple

from app.errors import DamagedSeal
from models.images import Format

CARRIERS: tuple[Format, ...] = ("png", "jpeg", "webp")

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_TYPE, _WEBP_TYPE = b"anSL", b"ANSL"
_JPEG_LABEL = b"ANAMORPH\0"
_START_OF_IMAGE, _APP0, _APP15, _START_OF_SCAN = 0xD8, 0xE0, 0xEF, 0xDA
_ALPHA_FLAG = 0x10
_PLACE = Struct(">HH")
_PIECE_BYTES: dict[Format, int] = {
    "png": 4 * 2**20,
    "jpeg": 0xFFFF - 2 - len(_JPEG_LABEL) - _PLACE.size,
    "webp": 4 * 2**20,
}


class _Part(NamedTuple):
    """A chunk or segment of a file: its type, its content and the bytes it takes in the file."""

    kind: bytes
    body: bytes
    start: int
    end: int


def carry(file: bytes, kind: Format, payload: bytes) -> bytes:
    """Return the encoded picture with `payload` (at least a byte) in it; the pixels stay.

    The file must be one that `images.encode` wrote, without a payload, and `kind` of CARRIERS.
    """
    size = _PIECE_BYTES[kind]
    bodies = [payload[at : at + size] for at in range(0, len(payload), size)]
    pieces = [_PLACE.pack(at, len(bodies)) + body for at, body in enumerate(bodies)]
    return _WRITERS[kind](file, pieces)


def carries(file: bytes, kind: Format) -> bool:
    """Tell whether a file, which may be anything, has a payload or a part of one."""
    return kind in CARRIERS and next(iter(_READERS[kind](file)), None) is not None


def carried(file: bytes, kind: Format) -> bytes | None:
    """Return the payload of a file, or None if it carries none.

    The file may be anything. Raises DamagedSeal where pieces are missing, too many or out of order.
    """
    if kind not in CARRIERS:
        return None
    bodies: list[bytes] = []
    count = 0
    for piece in _READERS[kind](file):  # one by one: of those out of place there may be millions
        at, count = _PLACE.unpack(piece[: _PLACE.size].rjust(_PLACE.size, b"\xff"))
        if at != len(bodies):
            raise DamagedSeal("a part of the seal is missing or out of place")
        bodies.append(piece[_PLACE.size :])
    if len(bodies) != count:
        raise DamagedSeal("a part of the seal is missing or out of place")
    return b"".join(bodies) if bodies else None


def _png_parts(file: bytes) -> Iterator[_Part]:
    at = len(_PNG_SIGNATURE)
    while at + 12 <= len(file):
        length = int.from_bytes(file[at : at + 4])
        end = at + 12 + length
        kind = file[at + 4 : at + 8]
        yield _Part(kind, file[at + 8 : at + 8 + length], at, end)
        if kind == b"IEND":  # nobody reads what follows
            return
        at = end


def is_plain_png(file: bytes) -> bool:
    """Tell whether a file is a PNG of pixels alone, with no profile or animation to deal with."""
    kinds = {part.kind for part in _png_parts(file)}
    return file.startswith(_PNG_SIGNATURE) and kinds == {b"IHDR", b"IDAT", b"IEND"}


def _png_pieces(file: bytes) -> Iterator[bytes]:
    return (part.body for part in _png_parts(file) if part.kind == _PNG_TYPE)


def _into_png(file: bytes, pieces: list[bytes]) -> bytes:
    end = next(part.start for part in _png_parts(file) if part.kind == b"IEND")
    chunks = [
        len(piece).to_bytes(4) + _PNG_TYPE + piece + zlib.crc32(_PNG_TYPE + piece).to_bytes(4)
        for piece in pieces
    ]
    return b"".join([file[:end], *chunks, file[end:]])


def _jpeg_parts(file: bytes) -> Iterator[_Part]:
    """Yield the segments before the first scan."""
    at = 2
    while at + 4 <= len(file) and file[at] == 0xFF and file[at + 1] != _START_OF_SCAN:
        if file[at + 1] == 0xFF:  # a byte of filling
            at += 1
            continue
        end = at + 2 + int.from_bytes(file[at + 2 : at + 4])
        yield _Part(file[at + 1 : at + 2], file[at + 4 : end], at, end)
        at = end


def _jpeg_pieces(file: bytes) -> Iterator[bytes]:
    for part in _jpeg_parts(file):
        if part.kind[0] == _APP15 and part.body.startswith(_JPEG_LABEL):
            yield part.body[len(_JPEG_LABEL) :]


def _into_jpeg(file: bytes, pieces: list[bytes]) -> bytes:
    # JFIF's own segment, an APP0, must stay the first.
    at = next(part.start for part in _jpeg_parts(file) if part.kind[0] != _APP0)
    segments = [
        bytes((0xFF, _APP15)) + (2 + len(_JPEG_LABEL) + len(p)).to_bytes(2) + _JPEG_LABEL + p
        for p in pieces
    ]
    return b"".join([file[:at], *segments, file[at:]])


def _webp_parts(file: bytes) -> Iterator[_Part]:
    at = 12
    file_end = min(len(file), 8 + int.from_bytes(file[4:8], "little"))
    while at + 8 <= file_end:
        length = int.from_bytes(file[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        yield _Part(file[at : at + 4], file[at + 8 : at + 8 + length], at, end)
        at = end


def _webp_pieces(file: bytes) -> Iterator[bytes]:
    return (part.body for part in _webp_parts(file) if part.kind == _WEBP_TYPE)


def _into_webp(file: bytes, pieces: list[bytes]) -> bytes:
    parts = list(_webp_parts(file))
    head = [] if parts[0].kind == b"VP8X" else [_chunk(b"VP8X", _extended(parts[0]))]
    body = b"".join([*head, file[12:], *(_chunk(_WEBP_TYPE, piece) for piece in pieces)])
    return b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WEBP" + body


def _extended(part: _Part) -> bytes:
    """Return what the extended header tells of a simple file's only chunk."""
    if part.kind == b"VP8L":  # a signature byte; 14 bits of width - 1 and of height - 1; alpha
        bits = int.from_bytes(part.body[1:5], "little")
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    else:  # a frame tag and a start code; 14 bits of width and of height, two of scale after each
        width = (int.from_bytes(part.body[6:8], "little") & 0x3FFF) - 1
        height = (int.from_bytes(part.body[8:10], "little") & 0x3FFF) - 1
        alpha = 0
    flags = (alpha * _ALPHA_FLAG).to_bytes(4, "little")
    return flags + width.to_bytes(3, "little") + height.to_bytes(3, "little")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)


_READERS: dict[Format, Callable[[bytes], Iterator[bytes]]] = {
    "png": _png_pieces,
    "jpeg": _jpeg_pieces,
    "webp": _webp_pieces,
}
_WRITERS: dict[Format, Callable[[bytes, list[bytes]], bytes]] = {
    "png": _into_png,
    "jpeg": _into_jpeg,
    "webp": _into_webp,
}
