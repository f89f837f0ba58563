"""Pictures on their way in and out: paths, bytes or Pillow's images; files of bytes.

Pillow is imported when it is needed, and needed only by who has its images or asks for them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image

PictureInput: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Image"

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
_WITH_ALPHA = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}  # what they become; all others RGB
_OTHER_16_BIT = ("I;16B", "I;16L", "I;16N")  # which Pillow clips on their way to RGB


@dataclass(frozen=True, slots=True)
class PictureFile:
    """An encoded picture.

    Attributes:
        data: the file's bytes; `bytes(picture)` too.
        media_type: image/png, for example.
    """

    data: bytes = field(repr=False)
    media_type: str

    def __bytes__(self) -> bytes:
        return self.data

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the bytes to `path` as they are, whatever its suffix, and return it."""
        target = Path(path)
        target.write_bytes(self.data)
        return target

    def image(self) -> Image:
        """Return the picture as a Pillow image, decoded. Raises ImportError without Pillow."""
        from PIL import Image

        # Not by Image.open, which refuses 179 megapixels: who asked for a picture gets larger ones.
        Image.init()
        kinds = {media: kind for kind, media in Image.MIME.items()}
        factory, _ = Image.OPEN[kinds[self.media_type]]
        image = factory(BytesIO(self.data), "")
        image.load()
        return image


def file_bytes(picture: PictureInput) -> bytes:
    """Return the bytes of a picture's file: a path's content, bytes as they are, an image as PNG.

    Raises OSError for a path that cannot be read, TypeError for what is no picture.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | os.PathLike):
        return Path(picture).read_bytes()
    if not (hasattr(picture, "save") and hasattr(picture, "convert")):
        raise TypeError(f"not a path, bytes or a Pillow image: {type(picture).__name__}")
    return _png(picture)


def _png(image: Image) -> bytes:
    """Encode upright, without loss where PNG has the mode; others (CMYK, YCbCr, ...) become RGB.

    Raises TypeError for numbers that are no brightness: mode F, and I beyond 16 bits.
    """
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)  # a PNG file would not tell how it is turned
    options: dict[str, None] = {}
    if image.mode in _OTHER_16_BIT:
        image = image.convert("I")
    if image.mode == "I" and image == (in_16_bits := image.convert("I;16")).convert("I"):
        image = in_16_bits
    if image.mode in ("I", "F"):
        raise TypeError(f"mode {image.mode} has no black and white of its own: convert the image")
    if image.mode not in _PNG_MODES:
        image = image.convert(_WITH_ALPHA.get(image.mode, "RGB"))
        options["icc_profile"] = None  # it described the colours of the other mode
    file = BytesIO()
    image.save(file, "PNG", compress_level=1, **options)
    return file.getvalue()
