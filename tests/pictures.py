"""Pictures and files that several tests build on."""

import zlib
from io import BytesIO
from struct import pack
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from models.images import Limits, Picture, Pixels, decode

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSY = ("jpeg", "webp", "avif")


def gradient(height: int = 17, width: int = 24) -> Pixels:
    """Few enough colours for a palette, smooth enough for JPEG."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x // 4 * 40, y // 4 * 60, 0 * x + 90], axis=-1)
    return rgb.clip(0, 255).astype(np.uint8)


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode by Pillow alone."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(data: bytes) -> Picture:
    """Decode within the default limits."""
    return decode(data, Limits())


def distance(a: Pixels, b: Pixels) -> float:
    """Return the mean absolute difference."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b).mean())


def png(
    size: tuple[int, int], depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]
) -> bytes:
    """Assemble a PNG: width and height, the colour type's number, filtered rows, extra chunks."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return pack(">I", len(body)) + name + body + pack(">I", zlib.crc32(name + body))

    header = pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in parts)
