"""The seal inside a picture: what was sealed comes back, from nowhere else and never half."""

from __future__ import annotations

import hashlib
import zlib
from io import BytesIO
from struct import pack_into

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from pydantic import SecretStr
from torchvision.io import decode_image

from app.errors import DamagedSeal, InvalidParameter, NoSeal, WrongPasscode
from app.faces import sealing
from app.faces.carriers import CARRIERS, carried, carry
from app.faces.passcodes import Cost, Kdf, seal_key
from app.faces.sealing import Region, find_seal, seal, unseal
from grace import CHEAP
from models import images
from models.errors import ImageError
from models.images import Format, Limits, Picture
from tiny import encoded, photo

RIGHT, WRONG = SecretStr("right"), SecretStr("wrong")
SIGNATURES: dict[Format, bytes] = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8",
    "webp": b"RIFF\0\0\0\0WEBP",
}
REGION = Region(7, 3, np.random.default_rng(0).integers(0, 256, (9, 5, 3), np.uint8))


def picture_file(kind: Format, height: int = 24, width: int = 40, mode: str = "RGB") -> bytes:
    decoded = images.decode(encoded(photo(height, width, mode)), Limits())
    return images.encode(decoded, kind)


def sealed_file(kind: Format = "png", regions: tuple[Region, ...] = (REGION,)) -> bytes:
    return seal(picture_file(kind), kind, regions, RIGHT, CHEAP)


def rgba(file: bytes) -> np.ndarray:
    with Image.open(BytesIO(file)) as image:
        return np.asarray(image.convert("RGBA"))


def assert_same(opened: list[Region], regions: list[Region] | tuple[Region, ...]) -> None:
    assert [(r.left, r.top) for r in opened] == [(r.left, r.top) for r in regions]
    for got, wanted in zip(opened, regions, strict=True):
        np.testing.assert_array_equal(got.rgb, wanted.rgb)


@st.composite
def regions_of(draw: st.DrawFn, height: int = 24, width: int = 40) -> list[Region]:
    regions = []
    for _ in range(draw(st.integers(0, 4))):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        size = (draw(st.integers(1, height - top)), draw(st.integers(1, width - left)), 3)
        seed = draw(st.integers(0, 2**32 - 1))
        regions.append(
            Region(left, top, np.random.default_rng(seed).integers(0, 256, size, np.uint8))
        )
    return regions


@settings(max_examples=40)
@given(
    st.sampled_from(CARRIERS),
    regions_of(),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    st.sampled_from(("RGB", "RGBA")),
)
def test_what_was_sealed_comes_back(
    kind: Format, regions: list[Region], text: str, mode: str
) -> None:
    """Any regions open again, in every format, and the picture's pixels are untouched."""
    plain = picture_file(kind, mode=mode)
    file = seal(plain, kind, regions, SecretStr(text), CHEAP)
    assert_same(unseal(file, SecretStr(text)), regions)
    np.testing.assert_array_equal(rgba(file), rgba(plain))
    with pytest.raises(WrongPasscode):
        unseal(file, SecretStr(text + "x"))


@pytest.mark.parametrize("kind", CARRIERS)
@pytest.mark.parametrize("size", [(1, 1), (300, 500)])
def test_large_and_small_pictures_are_sealed_whole(kind: Format, size: tuple[int, int]) -> None:
    """A crop of any size fits: JPEG's segments of 64 KiB are joined in order."""
    noise = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    file = seal(picture_file(kind, *size), kind, [Region(0, 0, noise)], RIGHT, CHEAP)
    assert_same(unseal(file, RIGHT), [Region(0, 0, noise)])


@pytest.mark.parametrize("kind", CARRIERS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision")
def test_other_programs_open_a_sealed_file(kind: Format, mode: str) -> None:
    """Pillow and torchvision's readers get the same pixels with and without the seal."""
    plain = picture_file(kind, 33, 47, mode)
    file = seal(plain, kind, [REGION], RIGHT, CHEAP)
    np.testing.assert_array_equal(rgba(file), rgba(plain))
    with Image.open(BytesIO(file)) as image:
        assert (image.format, image.size) == (kind.upper(), (47, 33))
    seen = [
        decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8)) for data in (plain, file)
    ]
    assert seen[0].shape[1:] == (33, 47)
    assert torch.equal(*seen)


@pytest.mark.parametrize("kind", CARRIERS)
def test_long_payloads_travel_in_pieces(kind: Format) -> None:
    """Several megabytes are split where a format or its readers would refuse one piece."""
    payload = np.random.default_rng(0).bytes(9 * 2**20 + 1)
    file = carry(picture_file(kind), kind, payload)
    assert carried(file, kind) == payload
    np.testing.assert_array_equal(rgba(file), rgba(picture_file(kind)))


def test_webp_without_loss_keeps_its_transparency() -> None:
    """A lossless WebP, whose header tells of alpha elsewhere, becomes an extended one."""
    for mode in ("RGB", "RGBA"):
        plain = encoded(photo(33, 47, mode), "webp", lossless=True)
        file = carry(plain, "webp", b"payload")
        assert carried(file, "webp") == b"payload"
        np.testing.assert_array_equal(rgba(file), rgba(plain))
        with Image.open(BytesIO(file)) as image:
            assert (image.mode, image.size) == (mode, (47, 33))


def check_damaged(file: bytes) -> None:
    """Fail unless a file opens to the exact original or is called damaged."""
    try:
        regions = unseal(file, RIGHT)
    except (DamagedSeal, NoSeal, ImageError):
        return
    assert_same(regions, [REGION])


@pytest.mark.parametrize("kind", CARRIERS)
def test_every_flipped_bit_is_a_clean_error(kind: Format) -> None:
    """Whatever bit of a file changes, it opens to the exact original or is called damaged."""
    file = sealed_file(kind)
    for bit in range(len(file) * 8):
        damaged = bytearray(file)
        damaged[bit // 8] ^= 1 << bit % 8
        check_damaged(bytes(damaged))


@pytest.mark.parametrize("kind", CARRIERS)
def test_every_truncation_is_a_clean_error(kind: Format) -> None:
    """A file that ends early opens whole or is called damaged."""
    file = sealed_file(kind)
    for length in range(len(file)):
        check_damaged(file[:length])


@pytest.mark.parametrize("kind", CARRIERS)
def test_a_seal_opens_in_its_own_picture_only(kind: Format) -> None:
    """Moved to another picture it is refused as damaged, and nothing of it is shown."""
    payload = carried(sealed_file(kind), kind)
    assert payload is not None
    other = carry(picture_file(kind, 40, 24), kind, payload)
    with pytest.raises(DamagedSeal, match="altered after"):
        unseal(other, RIGHT)


def forged(change: dict[int, bytes], key: bytes | None = None, regions: bytes = b"") -> bytes:
    """Return a sealed file whose container an attacker has altered, with a matching checksum."""
    payload = bytearray(carried(sealed_file(), "png") or b"")
    for at, data in change.items():
        payload[at : at + len(data)] = data
    body = bytes(payload[:-32])
    if key:
        body = body[:76] + AESGCM(key).encrypt(body[32:44], regions, body[:76])
    return carry(picture_file("png"), "png", body + hashlib.sha256(body).digest())


def test_a_forged_seal_is_a_wrong_passcode() -> None:
    """Who alters header or content, and the checksum with them, gets nothing to open."""
    for at in (16, 40, 76, 90):  # salt, nonce, content
        with pytest.raises(WrongPasscode):
            unseal(forged({at: b"\xff\xff\xff"}), RIGHT)


def test_a_seal_moved_with_its_digest_still_does_not_open() -> None:
    """The digest is authenticated: one replaced by another picture's only looks right."""
    other = picture_file("png", 40, 24)
    digest = sealing._digest(images.decode(other, Limits()))
    body = bytearray((carried(sealed_file(), "png") or b"")[:-32])
    body[44:76] = digest
    moved = carry(other, "png", bytes(body) + hashlib.sha256(body).digest())
    with pytest.raises(WrongPasscode):
        unseal(moved, RIGHT)


@pytest.mark.parametrize("memory_kib", [2**20, 2**32 - 1])
def test_no_file_makes_us_allocate_much(memory_kib: int) -> None:
    """A header that asks for gigabytes is refused before anything is derived."""
    number = bytearray(4)
    pack_into(">I", number, 0, memory_kib)
    for kdf in (1, 2):
        with pytest.raises(DamagedSeal):
            find_seal(forged({9: bytes([kdf]), 10: bytes(number)}), "png")


@pytest.mark.parametrize(("at", "value"), [(8, 2), (8, 0), (9, 0), (9, 3), (14, 0), (15, 255)])
def test_unknown_versions_and_functions_are_refused(at: int, value: int) -> None:
    """A version or a key derivation from elsewhere is an error that says so."""
    with pytest.raises(DamagedSeal):
        find_seal(forged({at: bytes([value])}), "png")


def test_who_has_the_passcode_can_seal_nothing_harmful() -> None:
    """Content that other software sealed is checked all the same: places, lengths and sizes."""
    cheap = seal_key(RIGHT, b"s" * 16, CHEAP)
    png = images.encode(Picture(REGION.rgb, None, "png"), "png")
    bomb = encoded(Image.new("RGB", (2000, 2000)))
    # Of other kinds, decoding may take a colour management for each of thousands.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    face = Image.fromarray(REGION.rgb)
    others = [encoded(face, "webp"), encoded(face, icc_profile=profile)]

    def packed(count: int, *regions: tuple[int, int, int, bytes]) -> bytes:
        parts = [count.to_bytes(2)]
        for left, top, length, data in regions:
            parts += [left.to_bytes(4), top.to_bytes(4), length.to_bytes(4), data]
        return b"".join(parts)

    for content in (
        packed(2, (0, 0, len(png), png)),
        packed(1, (36, 0, len(png), png)),
        packed(1, (2**32 - 1, 2**32 - 1, len(png), png)),
        packed(1, (0, 0, 2**32 - 1, png[:80])),
        packed(1, (0, 0, 0, b"")),
        packed(1, (0, 0, len(bomb), bomb)),
        packed(65535),
        *(packed(1, (0, 0, len(data), data)) for data in others),
    ):
        with pytest.raises(DamagedSeal):
            unseal(forged({16: b"s" * 16}, cheap, content), RIGHT)
    assert unseal(forged({16: b"s" * 16}, cheap, packed(0)), RIGHT) == []
    full = images.encode(images.decode(picture_file("png"), Limits()), "png")
    with pytest.raises(DamagedSeal):
        unseal(forged({16: b"s" * 16}, cheap, packed(17, *[(0, 0, len(full), full)] * 17)), RIGHT)


@pytest.mark.parametrize("kind", CARRIERS)
def test_two_seals_are_one_too_many(kind: Format) -> None:
    """Nobody can hide a second seal behind the first."""
    file = carry(sealed_file(kind), kind, carried(sealed_file(kind), kind) or b"")
    with pytest.raises(DamagedSeal):
        find_seal(file, kind)


def test_pieces_without_end_are_not_gathered() -> None:
    """Of many pieces out of place one is enough, and what follows the picture is not ours."""
    chunk = b"\0\0\0\0anSL" + zlib.crc32(b"anSL").to_bytes(4)
    plain = picture_file("png")
    end = plain.index(b"IEND") - 4
    with pytest.raises(DamagedSeal):
        find_seal(plain[:end] + chunk * 100_000 + plain[end:], "png")
    sealed = sealed_file("png")
    assert_same(unseal(sealed + chunk * 100_000, RIGHT), [REGION])


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "tiff", "avif"])
def test_a_picture_without_a_seal_says_so(kind: Format) -> None:
    """An ordinary picture of any format, or one that was re-encoded, has no seal."""
    with pytest.raises(NoSeal):
        unseal(encoded(photo(), kind), RIGHT)
    with Image.open(BytesIO(sealed_file("jpeg"))) as image, pytest.raises(NoSeal):
        unseal(encoded(image.convert("RGB"), kind), RIGHT)


@given(st.sampled_from(sorted(SIGNATURES)), st.binary(max_size=200))
def test_garbage_carries_nothing(kind: Format, data: bytes) -> None:
    """The readers of all three formats come to an end on any bytes."""
    assert carried(SIGNATURES[kind] + data, kind) is None


def test_regions_that_nobody_would_open_are_not_sealed() -> None:
    """Sealing refuses what opening would: places outside, and the same pixels again and again."""
    empty = Region(3, 3, np.zeros((0, 4, 3), np.uint8))
    assert_same(unseal(sealed_file(regions=(empty, REGION)), RIGHT), [REGION])
    with pytest.raises(ValueError, match="outside"):
        sealed_file(regions=(Region(36, 0, REGION.rgb),))
    whole = Region(0, 0, np.zeros((24, 40, 3), np.uint8))
    with pytest.raises(InvalidParameter, match="overlap"):
        sealed_file(regions=(whole,) * 17)


def test_the_container_shows_nothing_of_the_face() -> None:
    """Neither the pixels nor the passcode stand in the file, and two seals of one face differ."""
    first, second = sealed_file(), sealed_file()
    png = images.encode(Picture(REGION.rgb, None, "png"), "png")
    assert png[40:60] not in first
    assert b"right" not in first
    assert carried(first, "png") != carried(second, "png")
    assert RIGHT.get_secret_value() not in repr(find_seal(first, "png"))


def test_seals_of_before_still_open() -> None:
    """The key of a passcode and a salt is what it always was, or no sealed face would come back."""
    key = seal_key(SecretStr("right"), bytes(16), Cost(Kdf.SCRYPT, 8, 1, 1))
    assert key.hex() == "ee4461bb31362cda5d6c81b80164f19fc969b1731be5ec7d9f98a2ee0d8b0487"


def test_a_seal_is_of_all_the_picture() -> None:
    """It notices a changed transparency, and the same bytes in another shape."""
    rgb, alpha = np.full((4, 6, 3), 9, np.uint8), np.full((4, 6), 200, np.uint8)
    other = alpha.copy()
    other[0, 0] = 100
    pictures = (
        Picture(rgb, alpha, "png"),
        Picture(rgb, other, "png"),
        Picture(rgb.reshape(6, 4, 3), alpha.reshape(6, 4), "png"),
    )
    assert len({sealing._digest(picture) for picture in pictures}) == 3
