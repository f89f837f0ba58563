"""Hostile, broken and mislabelled uploads end in an error that names the reason, at little cost."""

import random
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from struct import pack
from types import MappingProxyType
from typing import get_args
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from models.errors import CorruptImage, ImageError, ImageTooLarge, UnsupportedImage
from models.images import Format, Limits, Picture, decode, encode
from peaks import takes_at_most
from pictures import SRGB, gradient, png, read, save

FORMATS: tuple[Format, ...] = get_args(Format)
PICTURE = Image.fromarray(gradient())
EMPTY_CHUNK = pack(">I4sI", 0, b"abCd", zlib.crc32(b"abCd"))


def claim(data: bytes, *patches: tuple[int, bytes]) -> bytes:
    """Overwrite bytes of a file, to let its header lie."""
    lie = bytearray(data)
    for offset, value in patches:
        lie[offset : offset + len(value)] = value
    return bytes(lie)


def jpeg(width: int, height: int, **options: bool) -> bytes:
    data = save(Image.new("L", (8, 8)), "jpeg", **options)
    marker = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return claim(data, (marker + 5, pack(">HH", height, width)))


def gif(width: int, height: int) -> bytes:
    return claim(save(PICTURE, "gif"), (6, pack("<HH", width, height)))


def webp(width: int, height: int) -> bytes:
    data = save(PICTURE, "webp", save_all=True, append_images=[PICTURE.rotate(90)])
    sides = (side.to_bytes(3, "little") for side in (width - 1, height - 1))
    return claim(data, (24, b"".join(sides)))


def avif(width: int, height: int) -> bytes:
    data = save(PICTURE, "avif")
    return claim(data, (data.index(b"ispe") + 8, pack(">II", width, height)))


def tiff(
    tags: dict[int, int], next_ifd: int = 0, counts: Mapping[int, int] = MappingProxyType({})
) -> bytes:
    """Assemble a grey TIFF of LONGs; of a tag in `counts` there are so many, all of them 8."""
    grey = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: 16}
    entries = sorted((grey | tags).items())
    end = 8 + 2 + 12 * len(entries) + 4 + 16
    ifd = pack("<H", len(entries))
    for t, v in entries:
        ifd += pack("<HHII", t, 4, counts[t], end) if t in counts else pack("<HHII", t, 4, 1, v)
    many = pack("<I", 8) * max(counts.values(), default=0)
    return b"II*\0\x08\0\0\0" + ifd + pack("<I", next_ifd) + bytes(16) + many


def exif_of(count: int) -> bytes:
    """Return EXIF whose orientation is so many RATIONALs."""
    return b"Exif\0\0II*\0" + pack("<IHHHIII", 8, 1, 274, 5, count, 26, 0) + bytes(8 * count)


def avif_of(count: int) -> bytes:
    """Return an AVIF with the same, which its encoder would have refused."""
    exif = exif_of(count)
    other = claim(exif, (16, pack("<HHII", 296, 3, 1, 1)))
    data = save(PICTURE, "avif", exif=other)
    return claim(data, (data.index(other[6:]), exif[6:]))


def gif_with(blocks: bytes) -> bytes:
    """Put blocks before the picture of a GIF."""
    data = save(PICTURE, "gif")
    at = 13 + (3 << (data[10] & 7) + 1)
    return data[:at] + blocks + data[at:]


def webp_with(chunks: bytes) -> bytes:
    data = save(PICTURE, "webp") + chunks
    return claim(data, (4, pack("<I", len(data) - 8)))


def scans(count: int) -> bytes:
    """Repeat the last scan of a progressive JPEG of a megapixel."""
    data = save(Image.new("L", (1000, 1000)), "jpeg", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def refused(data: bytes, kind: type[ImageError], words: str = r"\w") -> None:
    """Fail unless the file is refused so."""
    with pytest.raises(kind, match=words):
        read(data)


def after_start(segments: bytes) -> bytes:
    """Put segments before all others of a JPEG."""
    data = save(PICTURE, "jpeg")
    return data[:2] + segments + data[2:]


def empty_scans(count: int, first: bytes = b"") -> bytes:
    """Put `first` and scans without a pixel after that of a baseline JPEG of 49 megapixels."""
    data = save(Image.new("RGB", (16, 16)), "jpeg")
    frame = data.index(b"\xff\xc0")
    data = claim(data, (frame + 5, pack(">HH", 7000, 7000)))
    return data[:-2] + first + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * count + b"\xff\xd9"


SIZE_BOMBS = {
    "png 1 x 150,000,000": png((1, 150_000_000), 8, 0, b""),
    "png 150,000,000 x 1": png((150_000_000, 1), 8, 0, b""),
    "png 9400^2 1 bit": png((9400, 9400), 1, 0, bytes(1176 * 9400)),
    "png 9400^2 rgba 16": png((9400, 9400), 16, 6, b""),
    "png 13300^2 rgb": png((13_300, 13_300), 8, 2, b""),
    "png 19000^2 1 bit": png((19_000, 19_000), 1, 0, b""),
    "png 50000^2": png((50_000, 50_000), 8, 2, b""),
    "png 2^31-1": png((2**31 - 1, 2**31 - 1), 16, 6, b""),
    "png 16385 x 1": png((16_385, 1), 8, 0, b""),
    "png 7072 x 7071": png((7072, 7071), 8, 0, b""),
    "jpeg 65500 x 2700": jpeg(65_500, 2700),
    "jpeg 9400^2 progressive": jpeg(9400, 9400, progressive=True),
    "jpeg 65535^2": jpeg(65_535, 65_535),
    "gif 9000^2": gif(9000, 9000),
    "gif 65535^2": gif(65_535, 65_535),
    "webp 9400^2": webp(9400, 9400),
    "webp 17000 x 2000": webp(17_000, 2000),
    "webp 2^24 x 100": webp(2**24, 100),
    "tiff 2^31": tiff({256: 2**31 - 1, 257: 2**31 - 1}),
    "tiff tile 1e6^2": tiff({259: 8, 322: 10**6, 323: 10**6, 324: 8, 325: 16}),
    "jpeg of 3000 scans": scans(3000),
    "jpeg of 3000 empty scans": empty_scans(3000),
    "jpeg of 3000 scans after comments": empty_scans(3000, b"\xff\xfe\0\2" * 20_000),
    "jpeg of 3000 scans after an end that is none": empty_scans(3000, b"\xff\xfe\0\4\xff\xd9"),
}


@pytest.mark.parametrize("name", SIZE_BOMBS)
def test_bombs_are_refused_by_their_header(name: str) -> None:
    """A file that claims too many pixels, too long a side or too many scans is never decoded."""
    takes_at_most(lambda: refused(SIZE_BOMBS[name], ImageTooLarge, r"\d"), megabytes=30, seconds=1)


def test_the_smallest_bomb_costs_nothing() -> None:
    """The 68-byte PNG of 1 x 150,000,000 pixels is refused within 2 MiB of memory."""
    assert len(SIZE_BOMBS["png 1 x 150,000,000"]) <= 68
    smallest = SIZE_BOMBS["png 1 x 150,000,000"]
    takes_at_most(lambda: refused(smallest, ImageTooLarge, "150000000"), megabytes=2, seconds=0.5)


@pytest.mark.parametrize(
    "data",
    [
        after_start(b"\xff\xe5\0\2" * 1_000_000),
        save(PICTURE, "png")[:33] + EMPTY_CHUNK * 1_000_000 + save(PICTURE, "png")[33:],
        b"\xff\xd8" + b"\xff" * 10_000_000,
        after_start(b"\xff\xf0\xff\xfe" + b"\xff\xe5\0\2" * 16_000),
        after_start((b"\xff\xe1\2\0Exif\0\0" + bytes(504)) * 1000),
        after_start((b"\xff\xe1\xff\xfeExif\0\0" + bytes(0xFFFE - 8)) * 20),
        gif_with(b"!\xfe" + b"\1x" * 1_000_000 + b"\0"),
        gif_with(bytes(1_000_000)),
        webp_with(b"NONE\0\0\0\0" * 1_000_000),
        tiff({}, counts={273: 1_000_000, 279: 1_000_000}),
        tiff({282: 0}, counts={282: 1_000_000}),
        save(PICTURE, "png", exif=exif_of(1_000_000)),
        save(PICTURE, "webp", exif=exif_of(1_000_000)),
        avif_of(1_000_000),
    ],
    ids=[
        *("segments", "chunks", "filling", "hidden segments", "exif", "long exif", "gif blocks"),
        *(
            "gif filling",
            "webp chunks",
            "strips",
            "rationals",
            "png exif",
            "webp exif",
            "avif exif",
        ),
    ],
)
def test_countless_parts_are_refused(data: bytes) -> None:
    """A file of more parts than any encoder writes is refused before Pillow keeps them."""
    takes_at_most(lambda: refused(data, CorruptImage), megabytes=30, seconds=2)


def test_what_only_looks_like_scans() -> None:
    """Bytes of a profile or of what follows the picture are no scans, however many there are."""
    profile = b"\xff\xe2\xff\xff" + b"\xff\xda" * 32766 + b"\0"
    data = save(Image.new("RGB", (1000, 1000)), "jpeg")
    read(data[:2] + profile + data[2:] + b"\xff\xda" * 100_000)


def test_limits_are_inclusive() -> None:
    """A picture exactly at the caps decodes; one more pixel in area or side is too large."""
    limits = Limits(max_pixels=24 * 17, max_side=24)
    for kind in FORMATS:
        data = save(PICTURE, kind)
        assert decode(data, limits).rgb.shape == (17, 24, 3)
        for less in (Limits(24 * 17 - 1, 24), Limits(24 * 17, 23)):
            with pytest.raises(ImageTooLarge):
                decode(data, less)


def test_decoding_takes_a_bounded_multiple_of_the_pixels() -> None:
    """JPEG and PNG of 6 megapixels decode within 9 bytes a pixel, 3 of which are the answer."""
    photo = Image.fromarray(gradient(2000, 3000))
    for kind in ("jpeg", "png"):
        takes_at_most(partial(read, save(photo, kind)), megabytes=9 * 6, seconds=10)


COSTLY = {
    "png zTXt": png((1, 1), 8, 0, b"\0\0", (b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8)))),
    "png iCCP": png((1, 1), 8, 0, b"\0\0", (b"iCCP", b"k\0\0" + zlib.compress(bytes(10**8)))),
    "png 10,000 tEXt": png((1, 1), 8, 0, b"\0\0", *[(b"tEXt", b"k\0v")] * 10_000),
    "png of 200 MB in 1 x 1": png((1, 1), 8, 0, bytes(2 * 10**8)),
    "avif 65535^2": avif(65_535, 65_535),
    "png idat of 4 GiB": claim(save(PICTURE, "png"), (33, b"\xff\xff\xff\xff")),
    "tiff looped": tiff({}, next_ifd=8),
    "tiff strips": tiff({278: 1, 273: 2**31}),
    "tiff deflate lie": tiff({259: 8, 256: 7000, 257: 7000, 278: 7000}),
    "tiff lzw strip of 2^31": tiff({259: 5, 279: 2**31 - 1}),
    "webp exif 8 MB": save(PICTURE, "webp", exif=b"Exif\0\0" + bytes(8 * 2**20)),
    "icc 10 MB": save(PICTURE, "tiff", icc_profile=SRGB + bytes(10 * 2**20)),
    "xmp billion laughs": save(
        PICTURE, "jpeg", xmp=b'<!DOCTYPE x [<!ENTITY a "' + b"ha" * 999 + b'">]><x>&a;</x>'
    ),
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_hides_in_a_file_costs_little(name: str) -> None:
    """Metadata, strips and data that expand beyond the picture are refused or left alone."""
    takes_at_most(lambda: outcome(COSTLY[name]), megabytes=150, seconds=1.5)


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_only_the_first_frame_is_paid_for(kind: Format) -> None:
    """An animation of 3,000 frames costs as much as one picture."""
    frames = [Image.new("L", (64, 64), level % 256) for level in range(3000)]
    data = save(frames[0], kind, save_all=True, append_images=frames[1:])
    assert read(data).rgb.max() == 0
    takes_at_most(lambda: read(data), megabytes=20, seconds=0.5)


def zipped() -> bytes:
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        archive.writestr("a.png", save(PICTURE, "png"))
    return file.getvalue()


FOREIGN = {
    "empty": b"",
    "one byte": b"\x89",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(a) print\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "html": b"<!doctype html><script>alert(1)</script>",
    "pdf": b"%PDF-1.7\n1 0 obj\n",
    "ppm": b"P6 13000 13000 255\n",
    "psd": b"8BPS\0\1" + bytes(100),
    "xbm": b"#define a_width 60000\n#define a_height 2000\nstatic char a_bits[] = {0};",
    "fits": b"SIMPLE  =                    T" + b" " * 2850,
    "bmp": save(PICTURE, "bmp"),
    "ico": save(PICTURE.resize((16, 16)), "ico"),
    "jpeg 2000": save(PICTURE, "jpeg2000"),
    "tga": save(PICTURE, "tga"),
    "zip": zipped(),
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
    "mp4": b"\0\0\0\x18ftypisom\0\0\0\0isommp41" + bytes(64),
    "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(32),
    "late png": b"\n" + save(PICTURE, "png"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_content_is_unsupported(name: str) -> None:
    """Content of any other kind is unsupported, though Pillow itself could read some of it."""
    with pytest.raises(UnsupportedImage, match="PNG, JPEG, WebP"):
        read(FOREIGN[name])


BROKEN = {
    "png signature": b"\x89PNG\r\n\x1a\n",
    "png zero width": png((0, 5), 8, 0, b""),
    "png no data": png((4, 4), 8, 2, b""),
    "png too little data": png((4, 4), 8, 2, b"\0" * 20),
    "png depth 3": png((4, 4), 3, 0, bytes(20)),
    "png colour type 5": png((4, 4), 8, 5, bytes(99)),
    "png short tRNS": png((1, 1), 8, 2, bytes(4), (b"tRNS", b"\0")),
    "png header crc": claim(save(PICTURE, "png"), (29, b"\0\0\0\0")),
    "jpeg start": b"\xff\xd8\xff\xe0",
    "jpeg 12 bits": claim(jpeg(8, 8), (jpeg(8, 8).find(b"\xff\xc0") + 4, b"\x0c")),
    "gif start": b"GIF89a",
    "gif zero": gif(0, 0)[:13] + b";",
    "webp start": b"RIFF\0\0\0\0WEBPVP8 ",
    "tiff start": b"II*\0\x08\0\0\0",
    "tiff no tags": b"MM\0*\0\0\0\x08\0\0\0\0\0\0",
    "tiff ifd at itself": b"II*\0\0\0\0\0",
    "tiff 9 samples": tiff({277: 9}),
    "big tiff": b"II+\0\x08\0\0\0" + b"\xff" * 8,
    "avif start": b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + bytes(32),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_corrupt(name: str) -> None:
    """A file of an accepted format that does not decode is corrupt, and the text says which."""
    kind = name.split(maxsplit=1)[0] if name != "big tiff" else "tiff"
    with pytest.raises(CorruptImage, match=kind.upper()):
        read(BROKEN[name])


def test_trailing_bytes_do_not_reach_the_answer() -> None:
    """A PNG with a script behind its end is read as a PNG, and written without the script."""
    picture = read(save(PICTURE, "png") + b"<?php system($_GET[0]); ?>")
    for kind in FORMATS:
        assert b"php" not in encode(picture, kind)


def test_an_index_beyond_the_palette_is_a_colour() -> None:
    """Palette indices without an entry, and more alphas than entries, do no harm."""
    palette, alphas = (b"PLTE", bytes([1, 2, 3])), (b"tRNS", bytes(range(9)))
    assert read(png((2, 1), 8, 3, b"\0\0\xff", palette, alphas)).rgb[0, 1].max() <= 255
    outcome(png((2, 1), 8, 3, b"\0\0\xff", palette, (b"tRNS", bytes(300))))


def outcome(data: bytes) -> Picture | ImageError:
    """Decode under small limits; whatever is neither a picture nor an ImageError escapes."""
    try:
        picture = decode(data, Limits(max_pixels=1_000_000))
    except ImageError as error:
        return error
    assert picture.rgb.dtype == np.uint8
    assert picture.alpha is None or picture.alpha.shape == picture.rgb.shape[:2]
    return picture


def samples() -> dict[str, bytes]:
    """One small file of each kind of decoder."""
    clear = PICTURE.copy()
    clear.putalpha(PICTURE.getchannel("G"))
    exif = Image.Exif()
    exif[274] = 6
    return {
        "png": save(clear, "png", exif=exif, icc_profile=SRGB),
        "png palette": save(PICTURE.quantize(9), "png", transparency=bytes(range(9))),
        "png 16": save(Image.fromarray(np.arange(99, dtype=np.uint16).reshape(9, 11)), "png"),
        "jpeg": save(PICTURE, "jpeg", exif=exif, icc_profile=SRGB),
        "jpeg progressive": save(PICTURE, "jpeg", progressive=True),
        "jpeg cmyk": save(PICTURE.convert("CMYK"), "jpeg"),
        "jpeg of two": save(PICTURE, "mpo", save_all=True, append_images=[PICTURE]),
        "webp": save(clear, "webp", exif=exif),
        "webp lossless": save(clear, "webp", lossless=True),
        "webp animated": save(PICTURE, "webp", save_all=True, append_images=[clear]),
        "avif": save(clear, "avif", exif=exif),
        "gif": save(clear, "gif"),
        "tiff": save(clear, "tiff", exif=exif),
        **{
            f"tiff {packing}": save(PICTURE, "tiff", compression=packing)
            for packing in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "zstd")
        },
        "tiff float": save(PICTURE.convert("F"), "tiff"),
        "tiff fax": save(PICTURE.convert("1"), "tiff", compression="group4"),
    }


SAMPLES = samples()


@pytest.mark.parametrize("name", SAMPLES)
def test_truncated_files_never_crash(name: str) -> None:
    """A file cut at any sixteenth is a picture or an ImageError; cut before half it is an error."""
    data = SAMPLES[name]
    assert isinstance(outcome(data), Picture)
    for sixteenth in range(16):
        result = outcome(data[: len(data) * sixteenth // 16])
        if sixteenth < 8 and name != "jpeg of two":
            assert isinstance(result, ImageError), sixteenth


def flip(data: bytes, rng: random.Random) -> bytes:
    index = rng.randrange(len(data))
    return claim(data, (index, bytes([data[index] ^ rng.randrange(1, 256)])))


def rearrange(data: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.choices(range(len(data)), k=2))
    return rng.choice((data[:start] + data[end:], data[:end] + data[start:]))


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("damage", [flip, rearrange])
def test_damaged_files_never_crash(
    name: str, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    """Random bytes flipped, cut out or repeated: each result is a picture or an ImageError."""
    rng = random.Random(name)
    for _ in range(80 if damage is flip else 30):
        outcome(damage(SAMPLES[name], rng))
