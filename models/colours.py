"""What a decoded picture's numbers mean: alpha, depth and colour space, brought to 8-bit sRGB.

Used by `models.images` alone.
"""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_STRIP_ROWS = 256
_SRGB_GAMMA = 0.45455
_VISIBLE = [0] + [255] * 255  # lookup table: alpha -> not fully transparent
_TIFF_BITS, _TIFF_PHOTOMETRY, _TIFF_SAMPLES = 258, 262, 339
_WHITE_IS_ZERO, _UNSIGNED = 0, 1


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the colours (mode L, RGB, CMYK, LAB or YCbCr) and the alpha channel, if any."""
    if image.mode.startswith("I") or image.mode == "F":
        return _split_deep_grey(image)
    if not image.has_transparency_data:
        return _as_mode(image, {"1": "L", "P": "RGB"}.get(image.mode, image.mode)), None
    colours = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    image = _as_mode(image, colours + "A")
    return image.convert(colours), image.getchannel("A")


def _split_deep_grey(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Scale 12, 16, 32-bit and floating-point grey to 8 bits, where `convert` would clip it."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    if image.mode == "I" and tags.get(_TIFF_SAMPLES, (_UNSIGNED,)) == (_UNSIGNED,):
        values = values.view(np.uint32)  # Pillow has no such mode
    to_8_bits = np.float64(255 / _white_level(image, values))
    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _STRIP_ROWS):
        strip = values[top : top + _STRIP_ROWS] * to_8_bits
        grey[top : top + _STRIP_ROWS] = np.rint(np.nan_to_num(strip.clip(0, 255)))
    if tags.get(_TIFF_PHOTOMETRY) == _WHITE_IS_ZERO:  # of 8 bits and fewer Pillow sees to it
        grey = 255 - grey
    key = image.info.get("transparency")
    alpha = None if key is None else Image.fromarray((values != key).astype(np.uint8) * 255)
    return Image.fromarray(grey), alpha


def _white_level(image: Image.Image, values: NDArray[Any]) -> float:
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(_TIFF_BITS, (16,))[0]
        return float(2**bits - 1)
    peak = float(values.max(initial=0, where=np.isfinite(values)))
    # 32-bit files do not say what white is; the usual ranges are tried in turn. One in [0, 1] may
    # overshoot a little, and one in [0, 255] is never so dark as to stay below 2.
    if image.mode == "F" and peak < 2:
        return 1.0
    return next((white for white in (255.0, 65_535.0) if peak <= white), peak)


def to_srgb(image: Image.Image, info: dict[Any, Any]) -> Image.Image:
    """Convert colours to RGB mode, through the embedded profile or PNG gamma if there is one."""
    if profile := info.get("icc_profile"):
        # A broken or mismatched profile says nothing about the pixels: ignored, as browsers do.
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            return _through_profile(image, profile)
    rgb = _as_mode(image, "RGB")
    gamma = info.get("gamma", _SRGB_GAMMA)
    if "srgb" in info or gamma <= 0 or abs(gamma - _SRGB_GAMMA) < 0.01:
        return rgb
    linear = np.linspace(0, 1, 256) ** (1 / gamma)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb.point(np.rint(srgb * 255).astype(int).tolist() * 3)


def _through_profile(image: Image.Image, icc: bytes) -> Image.Image:
    profile = ImageCms.ImageCmsProfile(BytesIO(icc))
    mode = {"GRAY": "L"}.get(space := profile.profile.xcolor_space.strip(), space)
    if mode == "RGB" and image.mode in ("L", "YCbCr"):
        image = image.convert("RGB")
    if image.mode != mode:
        raise ValueError(f"a profile of {mode} in a picture of {image.mode}")
    srgb = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(profile, srgb, mode, "RGB")
    if mode == "RGB" and _changes_nothing(transform):
        return image
    return cast("Image.Image", ImageCms.applyTransform(image, transform))


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Tell whether an RGB transform is the identity; most photos carry sRGB itself."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    lattice = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    converted = ImageCms.applyTransform(Image.fromarray(lattice), transform)
    return bool(np.abs(np.asarray(converted, np.int16) - lattice).max() <= 1)


def bleed(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    """Paint fully transparent pixels with the colours around them.

    Averages of the visible pixels are taken at half the size again and again (pull), then each
    size fills its holes from the smooth enlargement of the next smaller one (push); after
    Gortler et al., The Lumigraph, section 3.4.
    """
    visible = alpha.point(_VISIBLE)
    least, _ = cast("tuple[int, int]", visible.getextrema())
    if least:
        return rgb
    levels = [(rgb, visible)]
    while max(levels[-1][0].size) > 1:
        joined = levels[-1][0].copy()
        joined.putalpha(levels[-1][1])
        joined = joined.convert("RGBa").reduce(2).convert("RGBA")
        levels.append((joined.convert("RGB"), joined.getchannel("A").point(_VISIBLE)))
    filled = Image.new("RGB", (1, 1), (128, 128, 128))
    for colours, mask in reversed(levels):
        filled = filled.resize(colours.size, Image.Resampling.BILINEAR)
        filled.paste(colours, mask=mask)
    return filled


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)
