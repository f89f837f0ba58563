"""What a file means by its numbers: profiles, gamma, transparency, depth."""

from struct import pack

import numpy as np
import pytest
from PIL import Image

from models.images import Format
from pictures import LOSSY, SRGB, distance, gradient, png, read, save


def profile(swap: tuple[int, int, int]) -> bytes:
    """Reorder the three primaries of the sRGB profile: a profile with swapped channels."""
    names, count = [b"rXYZ", b"gXYZ", b"bXYZ"], int.from_bytes(SRGB[128:132])
    icc = bytearray(SRGB)
    entries = {SRGB[p : p + 4]: p for p in range(132, 132 + 12 * count, 12)}
    for name, source in zip(names, swap, strict=True):
        origin = entries[names[source]]
        icc[entries[name] + 4 : entries[name] + 12] = SRGB[origin + 4 : origin + 12]
    return bytes(icc)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif", "tiff"])
def test_embedded_profiles_are_converted_to_srgb(kind: Format) -> None:
    """A picture whose ICC profile swaps red and green comes out with red and green swapped."""
    stored = gradient()
    options = {"quality": 95} if kind in LOSSY else {}
    picture = read(save(Image.fromarray(stored), kind, icc_profile=profile((1, 0, 2)), **options))
    assert distance(picture.rgb, stored[..., [1, 0, 2]]) < (12 if kind in LOSSY else 2)


def test_srgb_profiles_change_no_pixel() -> None:
    """A picture that carries the sRGB profile keeps every pixel."""
    stored = gradient()
    assert (read(save(Image.fromarray(stored), "png", icc_profile=SRGB)).rgb == stored).all()


def grey_profile(gamma: float) -> bytes:
    """Build a minimal ICC profile of one grey channel."""
    white = b"XYZ \0\0\0\0" + pack(">iii", 63_190, 65_536, 54_061)
    curve = b"curv\0\0\0\0" + pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = pack(">I", 2) + b"wtpt" + pack(">II", 156, 20) + b"kTRC" + pack(">II", 176, 16)
    head = pack(">I4sI4s4s4s", 192, b"\0\0\0\0", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + pack(">iii", 63_190, 65_536, 54_061)
    return head.ljust(128, b"\0") + tags + white + curve


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_profiles_are_converted(mode: str) -> None:
    """A linear grey profile brightens mid-grey to sRGB's 188, also with alpha and at 16 bits."""
    grey = Image.new("L", (3, 2), 128)
    deep = Image.fromarray(np.full((2, 3), 128 * 257, np.uint16))
    image = deep if mode == "I;16" else grey.convert(mode)
    picture = read(save(image, "png", icc_profile=grey_profile(1.0)))
    assert np.abs(picture.rgb.astype(int) - 188).max() <= 1


LAB = SRGB[:16] + b"Lab " + SRGB[20:]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "LAB", "P"])
@pytest.mark.parametrize(
    "icc",
    [
        SRGB,
        SRGB[:200],
        b"x" * 500,
        grey_profile(2.2)[:150],
        SRGB[:16] + b"CMYK" + SRGB[20:],
        LAB,
    ],
)
def test_broken_profiles_are_ignored(mode: str, icc: bytes) -> None:
    """A truncated, senseless, lying or unsuitable profile does not spoil a picture."""
    image = Image.fromarray(gradient()).convert(mode)
    picture = read(save(image, "tiff", icc_profile=icc))
    assert distance(picture.rgb, np.asarray(image.convert("RGB"))) <= 1


def test_png_gamma_is_undone() -> None:
    """A PNG that declares linear samples (gAMA 1.0) shows mid-grey as sRGB's 188."""
    linear = png((1, 1), 8, 2, b"\0\x80\x80\x80", (b"gAMA", pack(">I", 100_000)))
    common = png((1, 1), 8, 2, b"\0\x80\x80\x80", (b"gAMA", pack(">I", 45_455)))
    assert read(linear).rgb.tolist() == [[[188, 188, 188]]]
    assert read(common).rgb.tolist() == [[[128, 128, 128]]]


@pytest.mark.parametrize(
    ("depth", "colour", "row", "key", "visible"),
    [
        (1, 0, b"\x80", pack(">H", 1), 0),
        (2, 0, b"\x60", pack(">H", 1), 170),
        (4, 0, b"\x5a", pack(">H", 5), 170),
        (8, 0, b"\x05\x07", pack(">H", 5), 7),
        (16, 0, b"\x01\x05\x01\x06", pack(">H", 0x105), 1),
        (8, 2, b"\x01\x02\x03\x04\x04\x04", pack(">HHH", 1, 2, 3), 4),
        (16, 2, b"\x01\xff" * 3 + b"\x04\xff" * 3, pack(">HHH", 511, 511, 511), 4),
    ],
)
def test_transparent_colours_of_png(
    depth: int, colour: int, row: bytes, key: bytes, visible: int
) -> None:
    """The one transparent colour of a PNG is found at every bit depth, in grey and in RGB."""
    picture = read(png((2, 1), depth, colour, b"\0" + row, (b"tRNS", key)))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 255]]
    assert picture.rgb[0, 1].tolist() == [visible] * 3


def test_palette_transparency() -> None:
    """The alpha of a palette's entries becomes the picture's alpha, partial values included."""
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    picture = read(save(image, "png", transparency=bytes([255, 128, 0])))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[255, 128, 0]]
    assert picture.rgb[0, :2].tolist() == [[255, 0, 0], [0, 255, 0]]


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_hidden_colours_do_not_show(kind: Format) -> None:
    """What lies under full transparency is replaced by the visible colours around it."""
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[...] = (0, 255, 0, 0)
    rgba[:, :8] = (200, 40, 40, 255)
    rgba[:, 8:10] = (200, 40, 40, 128)
    picture = read(save(Image.fromarray(rgba), kind, lossless=True, exact=True))
    assert picture.alpha is not None
    assert (picture.alpha == rgba[..., 3]).all()
    assert np.abs(picture.rgb.astype(int) - (200, 40, 40)).max() <= 2


def test_colours_are_continued_smoothly_under_transparency() -> None:
    """Transparent pixels between red and blue go from red to blue; visible ones stay exact."""
    rgba = np.zeros((9, 37, 4), np.uint8)
    rgba[:, :3] = (255, 0, 0, 255)
    rgba[:, -3:] = (0, 0, 255, 1)
    picture = read(save(Image.fromarray(rgba), "png"))
    red = picture.rgb[4, :, 0].astype(int)
    assert (picture.rgb[rgba[..., 3] > 0] == rgba[rgba[..., 3] > 0][:, :3]).all()
    assert (np.diff(red) <= 0).all()
    assert 60 < red[18] < 200


def test_a_wholly_transparent_picture_is_grey() -> None:
    """A picture without a visible pixel becomes mid-grey under its alpha of zero."""
    picture = read(save(Image.new("RGBA", (5, 3), (9, 200, 7, 0)), "png"))
    assert picture.alpha is not None
    assert not picture.alpha.any()
    assert (picture.rgb == 128).all()


@pytest.mark.parametrize(
    ("dtype", "values", "levels"),
    [
        ("<u2", [0, 128, 129, 32_767, 65_535], [0, 0, 1, 127, 255]),
        (">u2", [0, 257, 65_535], [0, 1, 255]),
        ("<i4", [-5, 0, 100, 255], [0, 0, 100, 255]),
        ("<i4", [0, 32_896, 65_535], [0, 128, 255]),
        ("<i4", [0, 2**30, 2**31 - 1], [0, 128, 255]),
        ("<f4", [-0.5, 0, 0.5, 1], [0, 0, 128, 255]),
        ("<f4", [0, 0.5, 1.2], [0, 128, 255]),
        ("<f4", [0, 100, 250], [0, 100, 250]),
        ("<f4", [np.nan, 1, -np.inf, np.inf], [0, 255, 0, 255]),
        ("<f4", [np.nan, np.nan], [0, 0]),
        ("<f4", [np.inf, 250], [255, 250]),
        ("<f4", [0, 5e5, 1e6], [0, 128, 255]),
    ],
)
def test_deep_grey_is_scaled(dtype: str, values: list[float], levels: list[int]) -> None:
    """Grey of 16 and 32 bits or in floating point is scaled to 8 bits, never clipped to white."""
    picture = read(save(Image.fromarray(np.array([values], dtype)), "tiff"))
    assert picture.rgb.tolist() == [[[level] * 3 for level in levels]]


@pytest.mark.parametrize(
    ("dtype", "white"), [("u1", 255), ("<u2", 65_535), ("<f4", 1)], ids=["8", "16", "float"]
)
def test_zero_is_white_where_a_tiff_says_so(dtype: str, white: int) -> None:
    """Grey counted from white, as scanners may write it, is not negative, however many its bits."""
    grey = Image.fromarray(np.array([[0, white / 5, white]], dtype))
    black_is_zero, white_is_zero = (pack("<HHII", 262, 3, 1, kind) for kind in (1, 0))
    data = save(grey, "tiff")
    assert data.count(black_is_zero) == 1
    picture = read(data.replace(black_is_zero, white_is_zero))
    assert picture.rgb[0, :, 0].tolist() == [255, 204, 0]


def test_unsigned_32_bits_are_unsigned() -> None:
    """The upper half of a 32-bit TIFF without a sign is bright, not black."""
    levels = np.array([[0, 2**30, 2**31, 2**32 - 1]], "<u4")
    signed, unsigned = (pack("<HHII", 339, 3, 1, kind) for kind in (2, 1))
    data = save(Image.fromarray(levels.view("<i4")), "tiff")
    assert data.count(signed) == 1
    picture = read(data.replace(signed, unsigned))
    assert picture.rgb[0, :, 0].tolist() == [0, 64, 128, 255]


def test_16_bit_png_ramp_keeps_its_levels() -> None:
    """A 16-bit ramp has 256 levels after decoding, grey and RGB, not two."""
    ramp = np.arange(256, dtype=np.uint16) * 257
    grey = read(save(Image.fromarray(ramp[None]), "png")).rgb
    rgb = read(png((256, 1), 16, 2, b"\0" + np.repeat(ramp, 3).astype(">u2").tobytes())).rgb
    assert grey[0, :, 0].tolist() == rgb[0, :, 0].tolist() == list(range(256))


def test_12_bit_tiff_white_is_white() -> None:
    """The largest value of a 12-bit TIFF is white."""
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, 1)]
    tags += [(279, 3)]
    ifd = pack("<H", len(tags)) + b"".join(pack("<HHII", t, 3, 1, v) for t, v in tags) + bytes(4)
    data = b"II*\0\x08\0\0\0" + ifd
    assert read(data.ljust(122, b"\0") + b"\xff\xf8\x00").rgb[0, :, 0].tolist() == [255, 128]


def test_adobe_cmyk_is_not_negative() -> None:
    """A CMYK JPEG, stored inverted by Adobe's convention, shows paper as white."""
    paper = save(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "jpeg")
    assert read(paper).rgb.min() >= 253
