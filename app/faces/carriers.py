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
from itertools import takewhile
from struct import Struct

from app.errors import DamagedSeal
from models.image_parts import PNG_SIGNATURE, SCAN, jpeg_parts, png_parts, webp_parts
from models.images import Format

CARRIERS: tuple[Format, ...] = ("png", "jpeg", "webp")

_PNG_TYPE, _WEBP_TYPE = b"anSL", b"ANSL"
_JPEG_LABEL = b"ANAMORPH\0"
_APP0, _APP15 = b"\xe0", b"\xef"
_ALPHA_FLAG = 0x10
_PLACE = Struct(">HH")
_PIECE_BYTES: dict[Format, int] = {
    "png": 4 * 2**20,
    "jpeg": 0xFFFF - 2 - len(_JPEG_LABEL) - _PLACE.size,
    "webp": 4 * 2**20,
}


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


def is_plain_png(file: bytes) -> bool:
    """Tell whether a file is a PNG of pixels alone, with no profile or animation to deal with."""
    kinds = {part.kind for part in png_parts(file)}
    return file.startswith(PNG_SIGNATURE) and kinds == {b"IHDR", b"IDAT", b"IEND"}


def _png_pieces(file: bytes) -> Iterator[bytes]:
    return (file[part.content] for part in png_parts(file) if part.kind == _PNG_TYPE)


def _into_png(file: bytes, pieces: list[bytes]) -> bytes:
    end = next(part.start for part in png_parts(file) if part.kind == b"IEND")
    chunks = [
        len(piece).to_bytes(4) + _PNG_TYPE + piece + zlib.crc32(_PNG_TYPE + piece).to_bytes(4)
        for piece in pieces
    ]
    return b"".join([file[:end], *chunks, file[end:]])


def _jpeg_pieces(file: bytes) -> Iterator[bytes]:
    for part in takewhile(lambda part: part.kind != SCAN, jpeg_parts(file)):
        body = file[part.content]
        if part.kind == _APP15 and body.startswith(_JPEG_LABEL):
            yield body[len(_JPEG_LABEL) :]


def _into_jpeg(file: bytes, pieces: list[bytes]) -> bytes:
    # JFIF's own segment, an APP0, must stay the first.
    at = next(part.start for part in jpeg_parts(file) if part.kind != _APP0)
    segments = [
        b"\xff" + _APP15 + (2 + len(_JPEG_LABEL) + len(p)).to_bytes(2) + _JPEG_LABEL + p
        for p in pieces
    ]
    return b"".join([file[:at], *segments, file[at:]])


def _webp_pieces(file: bytes) -> Iterator[bytes]:
    return (file[part.content] for part in webp_parts(file) if part.kind == _WEBP_TYPE)


def _into_webp(file: bytes, pieces: list[bytes]) -> bytes:
    first = next(webp_parts(file))
    head = b""
    if first.kind != b"VP8X":
        head = _chunk(b"VP8X", _extended(first.kind, file[first.content]))
    body = b"".join([head, file[12:], *(_chunk(_WEBP_TYPE, piece) for piece in pieces)])
    return b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WEBP" + body


def _extended(kind: bytes, body: bytes) -> bytes:
    """Return what the extended header tells of a simple file's only chunk."""
    if kind == b"VP8L":  # a signature byte; 14 bits of width - 1 and of height - 1; alpha
        bits = int.from_bytes(body[1:5], "little")
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    else:  # a frame tag and a start code; 14 bits of width and of height, two of scale after each
        width = (int.from_bytes(body[6:8], "little") & 0x3FFF) - 1
        height = (int.from_bytes(body[8:10], "little") & 0x3FFF) - 1
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
