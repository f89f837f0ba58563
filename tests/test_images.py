"""Bytes <-> pictures <-> tensors."""

from io import BytesIO
from itertools import product
from pathlib import Path
from struct import pack, unpack_from
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from models import images
from models.errors import ImageTooLarge
from models.images import (
    Format,
    Limits,
    Picture,
    Pixels,
    decode,
    encode,
    resize,
    to_rgb,
    to_tensor,
    with_luminance_of,
)
from pictures import LOSSY, SRGB, distance, gradient, read, save

FORMATS: tuple[Format, ...] = get_args(Format)
DEEP = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}
ALPHA = {"LA": "L", "PA": "P", "RGBA": "RGB"}
MODES = {
    "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "jpeg": ["1", "L", "RGB", "CMYK", "YCbCr"],
    "webp": ["L", "LA", "P", "RGB", "RGBA"],
    "avif": ["L", "LA", "P", "RGB", "RGBA"],
    "gif": ["1", "L", "P", "RGB", "RGBA"],
    "tiff": ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", *DEEP],
}


@pytest.mark.parametrize(("kind", "mode"), [(f, m) for f in FORMATS for m in MODES[f]])
def test_every_mode_of_every_format_decodes_to_its_colours(kind: Format, mode: str) -> None:
    """Every pixel mode that a format can hold decodes to the colours that were stored."""
    alpha = Image.new("L", (24, 17), 255)
    alpha.paste(0, (20, 0, 24, 17))
    stored = Image.fromarray(gradient())
    if mode in DEEP:
        stored = stored.convert("L")
        levels = np.asarray(stored).astype(DEEP[mode]) * (1 / 255 if mode == "F" else 257)
        image = Image.frombytes(mode, stored.size, levels.astype(DEEP[mode]).tobytes())
    elif mode in ALPHA:
        stored = stored.convert(ALPHA[mode])
        image = stored.convert(mode)
        image.putalpha(alpha)
    else:
        stored = image = stored.quantize(64) if mode == "P" else stored.convert(mode)
    options = {"quality": 95} if kind in LOSSY else {}
    picture = read(save(image, kind, **options))
    assert picture.format == kind
    shown = np.asarray(stored.convert("RGB"))[:, :20]
    assert distance(picture.rgb[:, :20], shown) <= (7 if kind in LOSSY else 1)
    if mode in ALPHA:
        assert picture.alpha is not None
        assert distance(picture.alpha, np.asarray(alpha)) <= 1
    else:
        assert picture.alpha is None


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (7, 1), (13, 31)])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_what_is_encoded_decodes_again(
    kind: Format, height: int, width: int, with_alpha: bool
) -> None:
    """Every format gives back the pixels and the alpha it was given, at odd sizes and 1 x 1."""
    alpha = np.full((height, width), 255, np.uint8)
    alpha[height // 2 :, width // 2 :] = 0
    original = Picture(gradient(height, width), alpha if with_alpha else None, "png")
    again = read(encode(original, kind))
    if kind == "jpeg":
        assert again.alpha is None
        assert not with_alpha or again.rgb[-1, -1].min() > 240
    elif with_alpha:
        assert again.alpha is not None
        assert distance(again.alpha, alpha) <= 2
    visible = alpha > 0 if with_alpha else np.full((height, width), True)
    if kind != "jpeg" or not with_alpha:
        shown, meant = again.rgb[visible], original.rgb[visible]
        assert np.abs(shown.astype(int) - meant).sum() <= shown.size * (8 if kind in LOSSY else 0)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_come_out_upright(kind: Format, orientation: int) -> None:
    """Each of the eight EXIF orientations is undone, in every format that carries EXIF."""
    upright = Image.fromarray(gradient())
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # the camera was turned the other way than the picture is
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turn[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[274] = orientation
    picture = read(save(stored, kind, exif=exif, **({"quality": 95} if kind in LOSSY else {})))
    assert distance(picture.rgb, np.asarray(upright)) <= (9 if kind in LOSSY else 0)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif", "tiff"])
@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_unknown_orientation_turns_nothing(kind: Format, orientation: int) -> None:
    """An orientation that EXIF does not define is ignored, in every format that carries EXIF."""
    exif = Image.Exif()
    exif[274] = orientation
    picture = read(save(Image.fromarray(gradient()), kind, exif=exif))
    assert distance(picture.rgb, gradient()) <= 9


def exif_block(kind: int, count: int, value: bytes) -> bytes:
    """Build an EXIF block whose only entry is an orientation of any TIFF type."""
    entry = pack(">HHHI4s", 1, 274, kind, count, value.ljust(4, b"\0"))
    return b"Exif\0\0MM\0*\0\0\0\x08" + entry + b"\0\0\0\0"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize(
    "exif",
    [
        exif_block(2, 2, b"6\0"),
        exif_block(5, 1, pack(">I", 2**31)),
        b"Exif\0\0" + bytes(range(64)),
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"\0",
    ],
)
def test_a_garbled_orientation_turns_nothing(kind: Format, exif: bytes) -> None:
    """An EXIF orientation of a wrong type or in a garbled block is ignored."""
    stored = gradient()
    picture = read(save(Image.fromarray(stored), kind, exif=exif))
    assert distance(picture.rgb, stored) < 6


def test_animations_give_their_first_frame() -> None:
    """GIF, WebP, PNG and AVIF animations and multi-page TIFFs are read as their first frame."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    for kind in ("gif", "webp", "png", "avif", "tiff"):
        data = save(frames[0], kind, save_all=True, append_images=frames[1:])
        assert distance(read(data).rgb, np.asarray(frames[0])) < 6, kind


def test_multi_picture_jpegs_are_jpegs() -> None:
    """A phone's multi-picture JPEG (MPO) is read as its first picture and answered as JPEG."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    picture = read(save(frames[0], "mpo", save_all=True, append_images=frames[1:]))
    assert picture.format == "jpeg"
    assert distance(picture.rgb, np.asarray(frames[0])) < 6


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("with_alpha", [False, True])
def test_output_carries_no_metadata(kind: Format, with_alpha: bool) -> None:
    """No EXIF, GPS, ICC, XMP, comment or text of the input is found in the output's bytes."""
    exif = Image.Exif()
    exif[274], exif[271] = 1, "SecretMaker"
    exif.get_ifd(0x8825)[1] = "N"
    image = Image.fromarray(gradient())
    data = save(image, "jpeg", exif=exif, icc_profile=SRGB, comment=b"SecretNote", xmp=b"SecretX")
    picture = read(data)
    assert b"SecretMaker" in data
    alpha = np.full((17, 24), 77, np.uint8) if with_alpha else None
    answer = encode(Picture(picture.rgb, alpha, "jpeg"), kind)
    for trace in (b"Secret", b"Exif", b"EXIF", b"eXIf", b"ICC", b"iCCP", b"acsp", b"XMP", b"xmp"):
        assert trace not in answer
    for trace in (b"tEXt", b"zTXt", b"iTXt", b"tIME", b"gAMA", b"8BIM", b"NETSCAPE", b"\xff\xfe\0"):
        assert kind not in ("png", "gif", "jpeg") or trace not in answer
    with Image.open(BytesIO(answer)) as seen:
        assert not set(seen.info) & {"exif", "icc_profile", "xmp", "comment", "photoshop"}
        assert kind == "tiff" or not seen.getexif()


@pytest.mark.parametrize(
    ("kind", "limit"), [("jpeg", 65_500), ("webp", 16_383), ("gif", 65_535), ("avif", 32_768)]
)
def test_formats_name_their_longest_side(kind: Format, limit: int) -> None:
    """A side at a format's limit is encoded; one pixel more is refused with the limit named."""

    def strip(width: int) -> Picture:
        return Picture(np.zeros((1, width, 3), np.uint8), None, "png")

    longest = encode(strip(limit), kind)
    assert decode(longest, Limits(max_side=limit)).rgb.shape == (1, limit, 3)
    with pytest.raises(ImageTooLarge, match=f"{limit:,}"):
        encode(strip(limit + 1), kind)


def test_quality_trades_bytes() -> None:
    """A lower quality gives fewer bytes in the lossy formats and the same ones in the others."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    picture = Picture(noise, None, "png")
    for kind in FORMATS:
        low, normal = len(encode(picture, kind, 20)), len(encode(picture, kind))
        assert low < normal if kind in LOSSY else low == normal


def test_real_photos_survive(shared: Path) -> None:
    """Photos of the shared data decode to the pixels that Pillow itself reads."""
    photos = sorted((shared / "data" / "photos").rglob("*.jpg"))[:5]
    assert photos
    for photo in photos:
        with Image.open(photo) as seen:
            assert (read(photo.read_bytes()).rgb == np.asarray(seen.convert("RGB"))).all()


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9).map(lambda s: (*s, 3))))
def test_pixels_survive_the_way_through_tensors(rgb: Pixels) -> None:
    """Pixels -> tensor in [-1, 1] -> pixels changes nothing."""
    tensor = to_tensor(rgb)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (3, *rgb.shape[:2])
    assert -1 <= tensor.min() <= tensor.max() <= 1
    assert (to_rgb(tensor) == rgb).all()


@given(st.floats(-4, 4), st.sampled_from([torch.float32, torch.bfloat16]))
def test_answers_are_clamped_and_rounded(value: float, dtype: torch.dtype) -> None:
    """Generator outputs outside [-1, 1] are clamped; others go to the nearest level."""
    tensor = torch.full((3, 1, 2), value, dtype=dtype, requires_grad=True)
    level = (float(tensor.detach()[0, 0, 0]) + 1) * 127.5
    assert abs(to_rgb(tensor)[0, 0, 0] - min(max(level, 0), 255)) <= 0.5001


def test_resizing_is_antialiased() -> None:
    """A fine checkerboard becomes even grey when made smaller, in RGB and in a single channel."""
    board = ((np.indices((32, 32)).sum(0) % 2) * 255).astype(np.uint8)
    assert np.abs(resize(board, 8, 5).astype(int) - 127).max() <= 8
    assert resize(np.dstack([board] * 3), 8, 5).shape == (8, 5, 3)
    assert resize(board, 32, 32) is board
    assert resize(np.full((1, 1), 7, np.uint8), 3, 2).tolist() == [[7, 7]] * 3


def test_keeping_colours_joins_luma_and_chroma() -> None:
    """The stylized picture's luma with the original's chroma; a picture with itself is itself."""
    rgb = gradient()
    assert np.abs(with_luminance_of(rgb, rgb).astype(int) - rgb).max() <= 3
    grey = np.full_like(rgb, 100)
    joined = with_luminance_of(grey, np.full_like(rgb, 50))
    assert (joined == 100).all()


@pytest.mark.parametrize(("height", "width"), list(product((1, 255, 256, 257, 513), (1, 3))))
def test_tall_pictures_are_copied_whole(height: int, width: int) -> None:
    """Heights around the strips in which pixels are copied lose no row, in 8 and in 16 bits."""
    rows = np.arange(height * width, dtype=np.uint16).reshape(height, width) * 100
    grey = np.rint(rows / 257).astype(np.uint8)
    assert (read(save(Image.fromarray(rows), "png")).rgb[..., 0] == grey).all()
    assert (read(save(Image.fromarray(grey), "png")).rgb[..., 2] == grey).all()


def test_png_is_written_for_speed() -> None:
    """PNG answers are compressed at zlib's level 1."""
    data = encode(Picture(gradient(), None, "png"), "png")
    start = data.index(b"IDAT") + 4
    assert unpack_from(">H", data, start)[0] & 0xC0 == 0


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_canvas_is_encoded_as_any_pixels_are(kind: Format) -> None:
    """Pixels on a canvas, which is not copied for JPEG, give the same file as those in an array."""
    rgb = gradient()
    canvas = images.canvas(*rgb.shape[:2])
    canvas[:] = rgb
    alpha = np.full(rgb.shape[:2], 100, np.uint8)
    for transparency in (None, alpha):
        files = [
            images.encode(Picture(pixels, transparency, "png"), kind) for pixels in (rgb, canvas)
        ]
        assert files[0] == files[1]
    assert np.array_equal(canvas, rgb)
    assert np.array_equal(images.resize(canvas, 9, 7), images.resize(rgb, 9, 7))


def test_a_header_is_read_without_a_pixel() -> None:
    """The sides come from a file that is cut off right after its header."""
    data = save(Image.fromarray(gradient()), "png")
    assert images.read_header(data[:60], Limits()) == images.Header(17, 24, "png")
