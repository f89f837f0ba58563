"""Original pixels inside the anonymized picture, which open with a passcode: bytes in, bytes out.

The container, version 1, big-endian; `app.faces.carriers` tells where in the file it lies:

    offset  bytes  what
         0      8  `anamorph`
         8      1  version, 1
         9      1  key derivation: 1 Argon2id, 2 Scrypt (r = 8)
        10      4  its memory in KiB
        14      1  passes over it
        15      1  lanes
        16     16  salt
        32     12  nonce
        44     32  SHA-256 of the anonymized picture's pixels
        76      n  AES-256-GCM of the regions, its tag at the end; the 76 bytes before are its
                   associated data
      76+n     32  SHA-256 of all before

    regions: their number (2); of each left (4), top (4), length of its PNG (4), the PNG

So a seal opens in the picture it was made for and in no other. The checksum and the digest need no
passcode: they tell an altered file, and that before anything secret is touched. What an attacker
alters together with them still fails authentication, and is reported as a wrong passcode.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from app.errors import DamagedSeal, InvalidParameter, NoSeal, ServiceError, WrongPasscode
from app.faces.carriers import carried, carry, is_plain_png
from app.faces.passcodes import SALT_BYTES, Cost, Kdf, seal_key, strongest
from models import images
from models.errors import ImageError
from models.images import Format, Limits, Picture, Pixels

_MAGIC, _VERSION = b"anamorph", 1
_NONCE_BYTES, _TAG_BYTES, _SHA256_BYTES = 12, 16, 32
_HEADER = struct.Struct(f">8sBBIBB{SALT_BYTES}s{_NONCE_BYTES}s{_SHA256_BYTES}s")
_COUNT, _REGION = struct.Struct(">H"), struct.Struct(">III")
_MAX_OVERLAP = 16  # pixels of all regions over those of the picture; crowds of faces reach about 7
_STRIP_ROWS = 256
NO_SEAL = "the picture carries no sealed faces: it was re-encoded, or never had any"

_ANY_SIZE = Limits(max_pixels=2**31, max_side=2**31)  # of what we just encoded ourselves


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Original pixels (h, w, 3), whose corner lies at (left, top) of the picture."""

    left: int
    top: int
    rgb: Pixels

    @classmethod
    def of(cls, picture: Pixels, box: tuple[int, int, int, int]) -> Region:
        """Copy what is in a picture between (left, top) and (right, bottom)."""
        left, top, right, bottom = box
        return cls(left, top, picture[top:bottom, left:right].copy())

    @property
    def place(self) -> tuple[slice, slice]:
        """The index of these pixels in the picture."""
        height, width = self.rgb.shape[:2]
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True, slots=True)
class Seal:
    """A container that has been read, and not yet opened."""

    cost: Cost
    salt: bytes
    nonce: bytes
    digest: bytes
    header: bytes
    ciphertext: bytes

    def open(self, picture: Picture, passcode: SecretStr) -> Iterator[Region]:
        """Return the original pixels of `picture`, the decoded file with this seal, one by one.

        What is returned is known to be authentic. Takes the time and memory of `cost` for every
        passcode. Raises InvalidPasscode, DamagedSeal for another picture, and WrongPasscode; the
        iterator may raise DamagedSeal too, for what was sealed by other software.
        """
        if _digest(picture) != self.digest:
            raise DamagedSeal("the picture was altered after it was sealed")
        try:
            key = seal_key(passcode, self.salt, self.cost)
            regions = AESGCM(key).decrypt(self.nonce, self.ciphertext, self.header)
        except InvalidTag:
            raise WrongPasscode("the passcode does not open this picture") from None
        except UnsupportedAlgorithm:
            raise ServiceError("the OpenSSL here lacks the seal's key derivation") from None
        height, width = picture.rgb.shape[:2]
        return _unpack(regions, height, width)


def seal(
    file: bytes,
    kind: Format,
    regions: Sequence[Region],
    passcode: SecretStr,
    cost: Cost | None = None,
) -> bytes:
    """Return the anonymized PNG, JPEG or WebP `file` with the original pixels sealed in it.

    `file` comes from `images.encode`; the answer decodes to the same pixels. `cost` is by default
    what `passcodes.strongest` says. Raises InvalidPasscode, and InvalidParameter for regions that
    overlap so much that nobody would open them. Regions without a pixel are left out.
    """
    regions = [region for region in regions if region.rgb.size]
    picture = images.decode(file, _ANY_SIZE)
    height, width = picture.rgb.shape[:2]
    cost = cost or strongest()
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    header = _HEADER.pack(
        *(_MAGIC, _VERSION, cost.kdf, cost.memory_kib, cost.passes, cost.lanes),
        *(salt, nonce, _digest(picture)),
    )
    key = seal_key(passcode, salt, cost)
    container = header + AESGCM(key).encrypt(nonce, _pack(regions, height, width), header)
    return carry(file, kind, container + hashlib.sha256(container).digest())


def find_seal(file: bytes, kind: Format) -> Seal:
    """Return the seal that a file carries.

    Raises NoSeal, and DamagedSeal for one that is not as it was written.
    """
    container = carried(file, kind)
    if container is None:
        raise NoSeal(NO_SEAL)
    if len(container) < _HEADER.size + _TAG_BYTES + _SHA256_BYTES:
        raise DamagedSeal("the seal is incomplete")
    body, checksum = container[:-_SHA256_BYTES], container[-_SHA256_BYTES:]
    header, ciphertext = body[: _HEADER.size], body[_HEADER.size :]
    magic, version, kdf, memory_kib, passes, lanes, salt, nonce, digest = _HEADER.unpack(header)
    if magic == _MAGIC and version > _VERSION:
        raise DamagedSeal(
            f"the seal is of version {version}, and {_VERSION} is the last known here"
        )
    if (magic, version) != (_MAGIC, _VERSION) or hashlib.sha256(body).digest() != checksum:
        raise DamagedSeal("the seal was altered")
    try:
        cost = Cost(Kdf(kdf), memory_kib, passes, lanes)
    except ValueError:
        raise DamagedSeal("the seal names a key derivation that nobody here would run") from None
    return Seal(cost, salt, nonce, digest, header, ciphertext)


def unseal(file: bytes, passcode: SecretStr) -> list[Region]:
    """Return the original pixels that a file carries.

    Raises as `images.decode`, `find_seal` and `Seal.open` do.
    """
    picture = images.decode(file, Limits())
    return list(find_seal(file, picture.format).open(picture, passcode))


def check_overlap(hidden_pixels: int, pixels: int) -> None:
    """Raise InvalidParameter where a picture's regions have together too many pixels to seal."""
    if hidden_pixels > _MAX_OVERLAP * pixels:
        raise InvalidParameter("the faces overlap too much to be sealed")


def _pack(regions: Sequence[Region], height: int, width: int) -> bytes:
    check_overlap(sum(region.rgb[..., 0].size for region in regions), height * width)
    parts = [_COUNT.pack(len(regions))]
    for region in regions:
        bottom, right = np.add((region.top, region.left), region.rgb.shape[:2])
        if min(region.left, region.top) < 0 or bottom > height or right > width:
            raise ValueError("a region lies outside the picture")
        png = images.encode(Picture(region.rgb, None, "png"), "png")
        parts += [_REGION.pack(region.left, region.top, len(png)), png]
    return b"".join(parts)


def _unpack(data: bytes, height: int, width: int) -> Iterator[Region]:
    """Yield the regions; whoever has the passcode may have written anything, so all is checked."""
    at = _COUNT.size
    left_over = _MAX_OVERLAP * height * width
    for _ in range(int.from_bytes(data[:at])):
        limits = Limits(max_pixels=min(left_over, height * width), max_side=max(height, width))
        try:
            left, top, length = _REGION.unpack_from(data, at)
            at += _REGION.size
            png = data[at : at + length]
            if not is_plain_png(png):
                raise DamagedSeal("a sealed face is no plain PNG")
            rgb = images.decode(png, limits).rgb
        except (struct.error, ImageError):
            raise DamagedSeal("a sealed face is damaged") from None
        if top + rgb.shape[0] > height or left + rgb.shape[1] > width:
            raise DamagedSeal("a sealed face lies outside the picture")
        at += length
        left_over -= rgb[..., 0].size
        yield Region(left, top, rgb)


def _digest(picture: Picture) -> bytes:
    """Return the SHA-256 of all that can be seen of a picture: size, transparency and colours."""
    height, width = picture.rgb.shape[:2]
    digest = hashlib.sha256(struct.pack(">II?", height, width, picture.alpha is not None))
    for top in range(0, height, _STRIP_ROWS):
        strip = picture.rgb[top : top + _STRIP_ROWS]
        if picture.alpha is not None:
            alpha = picture.alpha[top : top + _STRIP_ROWS]
            digest.update(alpha.tobytes())
            strip = strip * (alpha[..., None] > 0)
        digest.update(strip.tobytes())
    return digest.digest()
