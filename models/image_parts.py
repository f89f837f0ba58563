"""What the files of pictures consist of, and how much of it is too much: nothing is decoded.

The bytes may be anything: the walk goes on where a decoder would, and ends with the file at last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

from models.errors import CorruptImage, ImageTooLarge

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SCAN = b"\xda"
"""What a segment of JPEG is where a scan begins."""

_MAX_PARTS = {"jpeg": 10_000, "png": 100_000}  # Pillow keeps each in memory; encoders write fewer
_EXIF = b"Exif\0\0"
_EXIF_COUNTS = 100  # Pillow copies what it has of EXIF for each further segment of it
_END_OF_IMAGE = b"\xd9"
# Markers without a content. By the standard 0xf0 to 0xfd have one, but Pillow takes them as without
# it, and libjpeg refuses files that have them.
_ALONE = {bytes((marker,)) for marker in (0x01, 0xD8, 0xC8, *range(0xF0, 0xFE))}
# In the pixels of a scan 0xff is followed by a zero or by the number of a restart; before a marker
# there may be any number of them.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)


class Part(NamedTuple):
    """A chunk or segment: its type, where its content is, and the bytes it takes in the file."""

    kind: bytes
    content: slice
    start: int
    end: int


def png_parts(file: bytes) -> Iterator[Part]:
    """Yield the chunks of a PNG, its last one included."""
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(file):
        length = int.from_bytes(file[at : at + 4])
        kind = file[at + 4 : at + 8]
        yield Part(kind, slice(at + 8, at + 8 + length), at, at + 12 + length)
        if kind == b"IEND":  # nobody reads what follows
            return
        at += 12 + length


def jpeg_parts(file: bytes) -> Iterator[Part]:
    """Yield the segments of a JPEG to the end of its first picture; of a scan, that of its header.

    What lies between two of them, as the pixels of a scan do, is passed over.
    """
    at = 2
    while marker := _MARKER.search(file, at):
        kind, at = marker[1], marker.end()
        if kind == _END_OF_IMAGE:
            return
        if kind not in _ALONE:
            end = at + max(2, int.from_bytes(file[at : at + 2]))
            yield Part(kind, slice(at + 2, end), at - 2, end)
            at = end


def webp_parts(file: bytes) -> Iterator[Part]:
    """Yield the chunks of a WebP."""
    at = 12
    file_end = min(len(file), 8 + int.from_bytes(file[4:8], "little"))
    while at + 8 <= file_end:
        length = int.from_bytes(file[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        yield Part(file[at : at + 4], slice(at + 8, at + 8 + length), at, end)
        at = end


def check_parts(file: bytes, kind: Literal["jpeg", "png"]) -> None:
    """Raise CorruptImage if a file has more parts than any encoder writes before its pixels."""
    if _steps_to_open(file, kind) > _MAX_PARTS[kind]:
        raise CorruptImage(f"it has more than {_MAX_PARTS[kind]:,} parts")


def check_scans(jpeg: bytes, most: int) -> None:
    """Raise ImageTooLarge if a JPEG goes over its pixels more than `most` times."""
    if jpeg.count(b"\xff" + SCAN) <= most:  # some may be no scans, but bytes of another segment
        return
    scans = 0
    for number, part in enumerate(jpeg_parts(jpeg)):
        scans += part.kind == SCAN
        if scans > most or number > _MAX_PARTS["jpeg"]:
            raise ImageTooLarge(f"its pixels in more than {most:,} scans take too long")


def _steps_to_open(file: bytes, kind: Literal["jpeg", "png"]) -> int:
    """Count what Pillow steps over to open a file: chunks, segments and bytes of filling."""
    if kind == "png":
        return sum(1 for _ in islice(png_parts(file), _MAX_PARTS[kind] + 1))
    steps, at = 0, 2
    for part in jpeg_parts(file):
        exif = file.startswith(_EXIF, part.content.start)
        steps += part.start - at + (_EXIF_COUNTS if exif else 1)
        at = part.end
        if part.kind == SCAN or steps > _MAX_PARTS[kind]:
            return steps
    return steps + max(0, len(file) - at)
