"""What the files of pictures consist of, and how much of it is too much: nothing is decoded.

The bytes may be anything: the walk goes on where a decoder would, and ends with the file at last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Literal, NamedTuple

from models.errors import CorruptImage, ImageTooLarge

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SCAN = b"\xda"
"""What a segment of JPEG is where a scan begins."""

# Pillow makes an object of each, or a step; encoders write fewer.
_MAX_PARTS = {"jpeg": 10_000, "png": 100_000, "gif": 100_000, "webp": 100_000}
_MAX_VALUES = 200_000  # of a palette of 16 bits, the longest table there is, 3 * 2**16
_EXIF = b"Exif\0\0"
_EXIF_NAMES = {
    "jpeg": _EXIF,
    "png": b"eXIf",
    "webp": b"EXIF",
    "avif": b"Exif",
}  # else there is none
# Pillow copies what it has of EXIF for each further segment of it, and reads the values across.
_EXIF_COUNTS, _EXIF_BYTES_COUNT = 100, 64
_TIFF_HEADERS = b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0"  # the last one's offsets are long
_NUMBERS = {3, 4, 5, 8, 9, 10, 11, 12, 13, 16, 17, 18}  # types of two bytes and more
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


def check_parts(file: bytes, kind: str) -> None:
    """Raise CorruptImage if a file has more parts or values than any encoder writes.

    Args:
        file: a JPEG, PNG, GIF, WebP, AVIF or TIFF by its first bytes.
        kind: which of them, in small letters.
    """
    most = _MAX_PARTS.get(kind)
    if most and _COUNTERS[kind](file, most) > most:
        raise CorruptImage(f"it has more than {most:,} parts")
    left = _MAX_VALUES
    for at in _tiff_headers(file, kind):
        left -= 1 + _values(file, at, left)
        if left < 0:
            raise CorruptImage(f"it has more than {_MAX_VALUES:,} values beside its pixels")


def check_scans(jpeg: bytes, most: int) -> None:
    """Raise ImageTooLarge if a JPEG goes over its pixels more than `most` times."""
    if jpeg.count(b"\xff" + SCAN) <= most:  # some may be no scans, but bytes of another segment
        return
    scans = 0
    for number, part in enumerate(jpeg_parts(jpeg)):
        scans += part.kind == SCAN
        if scans > most or number > _MAX_PARTS["jpeg"]:
            raise ImageTooLarge(f"its pixels in more than {most:,} scans take too long")


def _jpeg_steps(file: bytes, most: int) -> int:
    """Count what Pillow steps over before the pixels: segments and bytes of filling."""
    steps, at = 0, 2
    for part in jpeg_parts(file):
        steps += part.start - at + 1
        if file.startswith(_EXIF, part.content.start):
            steps += _EXIF_COUNTS + (part.end - part.start) // _EXIF_BYTES_COUNT
        at = part.end
        if part.kind == SCAN or steps > most:
            return steps
    return steps + max(0, len(file) - at)


def _gif_steps(file: bytes, most: int) -> int:
    """Count what Pillow steps over before the first picture: blocks and bytes between them."""
    palette = 3 << ((file[10] & 7) + 1) if len(file) > 10 and file[10] & 0x80 else 0
    steps, at = 0, 13 + palette
    while at < len(file) and steps <= most and file[at] not in b",;":
        steps += 1
        at += 1
        if file[at - 1 : at] == b"!":
            at += 1  # what the extension is
            while at < len(file) and file[at] and steps <= most:
                steps += 1
                at += 1 + file[at]
            at += 1
    return steps


_COUNTERS: dict[str, Callable[[bytes, int], int]] = {
    "jpeg": _jpeg_steps,
    "png": lambda file, most: sum(1 for _ in islice(png_parts(file), most + 1)),
    "gif": _gif_steps,
    "webp": lambda file, most: sum(1 for _ in islice(webp_parts(file), most + 1)),
}


def _tiff_headers(file: bytes, kind: str) -> Iterator[int]:
    """Yield where a TIFF begins, or what may be EXIF, which is one."""
    if kind == "tiff":
        yield 0
        return
    if _EXIF_NAMES.get(kind, b"") not in file:
        return
    for header in _TIFF_HEADERS:
        at = -1
        while (at := file.find(header, at + 1)) >= 0:
            yield at


def _values(file: bytes, header: int, most: int) -> int:
    """Count entries and numbers of a directory to which a TIFF header leads, as Pillow reads it.

    What claims more bytes than the file has is not read.
    """
    order: Literal["little", "big"] = "little" if file[header : header + 1] == b"I" else "big"
    long = file[header + 2 : header + 3] == b"+"
    pointer, counter, entry = (8, 8, 20) if long else (4, 2, 12)

    def number(at: int, size: int) -> int:
        return int.from_bytes(file[at : at + size], order)

    start = header + number(header + pointer, pointer)
    end = start + counter + entry * number(start, counter)
    count = 0
    for at in range(start + counter, min(end, len(file)), entry):
        values = number(at + 4, pointer)
        count += 1 + (number(at + 2, 2) in _NUMBERS and 2 * values <= len(file)) * values
        if count > most:
            break
    return count
