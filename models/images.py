"""Bytes <-> uint8 pixels <-> float tensors: the one place where untrusted images are read.

    bytes --decode--> Picture --to_tensor--> (3, H, W) in [-1, 1]
    bytes <--encode-- Picture <---to_rgb---- (3, H, W) in [-1, 1]

A `Picture` is what its author saw: upright (EXIF), in sRGB (ICC, PNG gamma), 8 bits a channel, with
the alpha channel apart. Only the first frame of an animation is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageChops
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.colours import bleed, split_alpha, to_srgb
from models.errors import CorruptImage, ImageError, ImageTooLarge, UnsupportedImage
from models.image_parts import check_parts, check_scans

Format = Literal["png", "jpeg", "webp", "avif", "gif", "tiff"]
Pixels = NDArray[np.uint8]
FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".avif": "avif",
    ".gif": "gif",
    ".tif": "tiff",
    ".tiff": "tiff",
}
"""What a file is written as. Of one that is read it only says whether it may be a picture."""

# What each content starts with, and the one reader it goes to. Named instead of Image.open, so that
# nothing else ever sees an upload (no EPS, no Ghostscript) and no process-wide limit or warning
# filter is relied upon. HEIC shares AVIF's container, but not its brands.
_READERS: dict[Format, tuple[bytes, type[ImageFile]]] = {
    "png": (rb"\x89PNG\r\n\x1a\n", PngImageFile),
    "jpeg": (rb"\xff\xd8\xff", JpegImageFile),
    "webp": (rb"RIFF....WEBP", WebPImageFile),
    "avif": (rb"....ftyp(....){,16}?avi[fs]", AvifImageFile),
    "gif": (rb"GIF8[79]a", GifImageFile),
    "tiff": (rb"II[*+]\0|MM\0[*+]", TiffImageFile),
}
# The longest side each format can hold, and how it is written.
_WRITERS: dict[Format, tuple[int, dict[str, Any]]] = {
    "png": (2**31 - 1, {"compress_level": 1}),
    "jpeg": (65_500, {"quality": 90}),
    "webp": (16_383, {"quality": 90, "method": 2}),
    "avif": (32_768, {"quality": 80, "speed": 8}),  # more can be written, but few readers open it
    "gif": (65_535, {}),
    "tiff": (2**31 - 1, {"compression": "tiff_lzw", "tiffinfo": {317: 2}}),  # 317: predictor
}
_MAX_SCANS = 20  # over the largest picture; encoders write about ten
_STRIP_ROWS = 256
_EXIF_ORIENTATION, _TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 274, 322, 323
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused by its header alone; Pillow itself ends at 178,956,970 pixels."""

    max_pixels: int = 50_000_000
    max_side: int = 16_384


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright sRGB picture.

    Attributes:
        rgb: uint8 (H, W, 3), straight (not multiplied by alpha).
        alpha: uint8 (H, W), 255 is opaque; None if the file had no transparency.
        format: what it was read from.
    """

    rgb: Pixels
    alpha: Pixels | None
    format: Format


@dataclass(frozen=True, slots=True)
class Header:
    """What a file claims to hold: pixels a side, before it is turned upright, and its format."""

    height: int
    width: int
    format: Format


def read_header(data: bytes, limits: Limits) -> Header:
    """Read no more than a file's header; raises as `decode` does."""
    kind = _sniff(data)
    with _as_image_errors(kind, limits):
        width, height = _open(data, kind, limits).size
        return Header(height, width, kind)


def decode(data: bytes, limits: Limits) -> Picture:
    """Decode an image file of any content.

    Fully transparent pixels take the colour of the visible ones around them (a wholly transparent
    picture is mid-grey): networks look at neighbourhoods and at whole-picture statistics, so what
    an editor happened to leave under the transparency must not leak into the visible answer.

    Raises:
        UnsupportedImage: the content is none of the accepted formats, whatever its name.
        ImageTooLarge: its header claims more than `limits`; no pixel has been decoded.
        CorruptImage: it does not decode to the end.
    """
    kind = _sniff(data)
    with _as_image_errors(kind, limits):
        file = _open(data, kind, limits)
        if kind == "png":
            _scale_transparent_colour(file)
        file.load()
        colours, alpha = split_alpha(_upright(file))
        rgb = to_srgb(colours, file.info)
        del file, colours
        if alpha is not None:
            rgb = bleed(rgb, alpha)
        return Picture(_to_array(rgb), None if alpha is None else _to_array(alpha), kind)


def encode(picture: Picture, format: Format, quality: int | None = None) -> bytes:  # noqa: A002
    """Encode to a file without any metadata.

    JPEG has no alpha: the picture is laid on white. GIF has 256 colours and one bit of alpha.
    `quality` is 1..100 for jpeg (90 if None), webp (90) and avif (80); the others ignore it.

    Raises:
        ImageTooLarge: a side is longer than the format can hold.
    """
    height, width = picture.rgb.shape[:2]
    check_fits(height, width, format)
    image = _image(picture.rgb, copy=format != "jpeg")
    options = dict(_WRITERS[format][1])
    if quality is not None and "quality" in options:
        options["quality"] = quality
    if format == "gif":
        image = image.quantize(255)  # leaves index 255 free
    if picture.alpha is not None:
        alpha = Image.fromarray(picture.alpha)
        if format == "jpeg":
            _lay_on_white(image, alpha)
        elif format == "gif":
            image.paste(255, mask=alpha.point(lambda a: 255 if a < 128 else 0))
            options["transparency"] = 255
        else:
            image.putalpha(alpha)
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def on_white(picture: Picture) -> Pixels:
    """Return what `encode` makes a JPEG of: the colours, laid on white where there is alpha."""
    if picture.alpha is None:
        return picture.rgb
    image = _image(picture.rgb)
    _lay_on_white(image, Image.fromarray(picture.alpha))
    return _to_array(image)


def check_fits(height: int, width: int, format: Format) -> None:  # noqa: A002
    """Raise ImageTooLarge if a side is longer than the format can hold."""
    limit, _ = _WRITERS[format]
    if max(height, width) > limit:
        raise ImageTooLarge(f"{width} x {height} pixels; a side of {format} has at most {limit:,}")


def canvas(height: int, width: int) -> Pixels:
    """Return RGB pixels to be filled, which `encode` turns into JPEG without a copy of them."""
    return np.empty((height, width, 4), np.uint8)[..., :3]


def to_tensor(rgb: Pixels) -> torch.Tensor:
    """Turn uint8 (H, W, 3) into float32 (3, H, W) in [-1, 1]."""
    planes = np.multiply(rgb.transpose(2, 0, 1), np.float32(1 / 127.5), order="C")
    planes -= 1
    return torch.from_numpy(planes)


def to_rgb(tensor: torch.Tensor) -> Pixels:
    """Turn float (3, H, W), clamped to [-1, 1], into uint8 (H, W, 3), rounded."""
    levels = tensor.detach().float().add(1).mul_(127.5).clamp_(0, 255).round_()
    return cast("Pixels", levels.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy())


def resize(array: Pixels, height: int, width: int) -> Pixels:
    """Resample uint8 (H, W) or (H, W, 3) by antialiased bicubic interpolation."""
    if array.shape[:2] == (height, width):
        return array
    return _to_array(_image(array).resize((width, height), Image.Resampling.BICUBIC))


def resized(picture: Picture, height: int, width: int) -> Picture:
    """Resample a picture with its transparency, as `resize` does."""
    alpha = None if picture.alpha is None else resize(picture.alpha, height, width)
    return Picture(resize(picture.rgb, height, width), alpha, picture.format)


def fitted(height: int, width: int, box: tuple[int, int] | None) -> tuple[int, int]:
    """Return the size that fits into a box, (height, width), in its own proportions.

    It is never larger than it was, and the same without a box.
    """
    if box is None:
        return height, width
    factor = min(1.0, box[0] / height, box[1] / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def with_luminance_of(stylized: Pixels, original: Pixels) -> Pixels:
    """Join the luma of `stylized` with the chroma of `original`; both uint8 (H, W, 3), YCbCr."""
    luma = Image.fromarray(stylized).convert("YCbCr").getchannel("Y")
    _, cb, cr = Image.fromarray(original).convert("YCbCr").split()
    return _to_array(Image.merge("YCbCr", (luma, cb, cr)).convert("RGB"))


def _image(array: Pixels, *, copy: bool = True) -> Image.Image:
    """Hand (H, W) or (H, W, 3) to Pillow; it can use only a canvas as it is, as mode RGBX."""
    base = array.base
    if not isinstance(base, np.ndarray) or base.shape != (*array.shape[:2], 4):
        return Image.fromarray(array)
    height, width = array.shape[:2]
    image = Image.frombuffer("RGBX", (width, height), base, "raw", "RGBX", 0, 1)
    return image.convert("RGB") if copy else image


def _lay_on_white(image: Image.Image, alpha: Image.Image) -> None:
    image.paste((255, 255, 255), mask=ImageChops.invert(alpha))


def _sniff(data: bytes) -> Format:
    for kind, (signature, _) in _READERS.items():
        if re.match(signature, data, re.DOTALL):
            return kind
    raise UnsupportedImage("the content is not a PNG, JPEG, WebP, AVIF, GIF or TIFF image")


@contextmanager
def _as_image_errors(kind: Format, limits: Limits) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise ImageTooLarge(
            f"too much memory; the limit is {limits.max_pixels:,} pixels"
        ) from error
    except Exception as error:  # parsers of hostile bytes raise whatever they stumble over
        raise CorruptImage(f"the {kind.upper()} data is damaged or incomplete") from error


def _open(data: bytes, kind: Format, limits: Limits) -> ImageFile:
    """Open a file, within the limits by its header, without decoding a pixel."""
    check_parts(data, kind)
    file = _READERS[kind][1](BytesIO(data))
    _check_size(file, limits)
    if kind == "jpeg":
        check_scans(data, limits.max_pixels * _MAX_SCANS // (file.width * file.height))
    return file


def _check_size(file: ImageFile, limits: Limits) -> None:
    sizes = [file.size]
    if isinstance(file, TiffImageFile):  # libtiff allocates a whole tile, however small the picture
        tags = file.tag_v2
        sizes.append((tags.get(_TIFF_TILE_WIDTH, 1), tags.get(_TIFF_TILE_LENGTH, 1)))
    for width, height in sizes:
        size = f"{width} x {height} pixels"
        if min(width, height) < 1:
            raise CorruptImage(f"{size}: a side is zero")
        if max(width, height) > limits.max_side:
            raise ImageTooLarge(f"{size}; a side has at most {limits.max_side:,} (max_side)")
        if width * height > limits.max_pixels:
            raise ImageTooLarge(f"{size}; at most {limits.max_pixels:,} (max_pixels) are allowed")


def _scale_transparent_colour(file: ImageFile) -> None:
    """Bring a PNG's transparent colour from the depth of the file to that of the pixels."""
    key, depth = file.info.get("transparency"), file.tile[0].args
    if isinstance(key, int) and depth in ("L;2", "L;4"):
        file.info["transparency"] = key * {"L;2": 85, "L;4": 17}[depth]
    elif isinstance(key, tuple) and depth == "RGB;16B":
        file.info["transparency"] = tuple(channel >> 8 for channel in key)


def _upright(file: ImageFile) -> Image.Image:
    if isinstance(file, TiffImageFile):
        return file  # turned while loading
    with suppress(Exception):  # an unreadable EXIF block says nothing, the pixels are fine
        return file.transpose(_UPRIGHT[file.getexif()[_EXIF_ORIENTATION]])
    return file


def _to_array(image: Image.Image) -> Pixels:
    """Copy an L or RGB image in strips: in one go, Pillow would hold two more copies."""
    width, height = image.size
    channels = len(image.getbands())
    array = np.empty((height, width, channels), np.uint8)
    for top in range(0, height, _STRIP_ROWS):
        strip = np.asarray(image.crop((0, top, width, min(top + _STRIP_ROWS, height))))
        array[top : top + _STRIP_ROWS] = strip.reshape(-1, width, channels)
    return array[..., 0] if channels == 1 else array
