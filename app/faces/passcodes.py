"""Passcodes: what counts as one, and the two keys that are derived from it.

- The key of a seal: Argon2id under a salt of the file's own, so by itself a guess at one picture
  says nothing about another, and none can be prepared beforehand.
- The condition of the face generator: Scrypt under a fixed salt, because the answer must be found
  again from the picture and the passcode alone, on any machine and after a messenger has taken
  everything else from the file. Its price is that guesses can be prepared once for all pictures
  (docs/privacy.md). Scrypt, because every OpenSSL has it and the face must not depend on which.

Salts, functions and HKDF labels differ, so one key is not computed from the other. But a condition
is a check of 32 bits for a passcode: where a picture shows it, few are left to try on the seal.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import SecretStr

from app.errors import InvalidPasscode

MAX_CHARACTERS = 1024
SALT_BYTES = 16
KEY_BYTES = 32

_MAX_FILE_BYTES = 64 * 1024
_SEAL_LABEL = b"anamorph seal v1"
_CONDITION_LABEL = b"anamorph face identity v1"
_CONDITION_SALT = b"anamorph face identity, all pictures, v1"
_SCRYPT_BLOCK = 8  # r; a unit of n then takes one KiB


class Kdf(IntEnum):
    """The key-derivation functions, by their number in a container."""

    ARGON2ID = 1
    SCRYPT = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess at a passcode costs.

    Attributes:
        kdf: the function.
        memory_kib: memory it fills; Scrypt's n, which must be a power of two.
        passes: over that memory; Scrypt knows only one.
        lanes: that may run side by side; Scrypt's p.
    """

    kdf: Kdf
    memory_kib: int
    passes: int
    lanes: int

    def __post_init__(self) -> None:
        """Raise ValueError for what could not be computed, or is meant to exhaust a machine."""
        memory, power_of_two = self.memory_kib, self.memory_kib & (self.memory_kib - 1) == 0
        fits = 8 * self.lanes <= memory <= 128 * 1024 and 1 <= self.lanes <= 8
        if self.kdf is Kdf.SCRYPT:
            fits &= power_of_two and self.passes == self.lanes == 1
        if not fits or not 1 <= self.passes <= 8:
            raise ValueError("the cost of the key derivation is out of its range")


STRONG = Cost(Kdf.ARGON2ID, memory_kib=64 * 1024, passes=3, lanes=4)
"""RFC 9106, section 4, second recommendation: 64 MiB, three passes."""
STRONG_SCRYPT = Cost(Kdf.SCRYPT, memory_kib=64 * 1024, passes=1, lanes=1)
"""As much memory and about as much time; where OpenSSL is older than 3.2 and has no Argon2id."""


def strongest() -> Cost:
    """Return the cost of a new seal on this machine."""
    try:
        Argon2id(salt=bytes(SALT_BYTES), length=KEY_BYTES, iterations=1, lanes=1, memory_cost=8)
    except UnsupportedAlgorithm:
        return STRONG_SCRYPT
    return STRONG


def normalised(passcode: SecretStr) -> bytes:
    """Return the bytes that a passcode stands for, however a keyboard composed its accents.

    Any text is a passcode. Raises InvalidPasscode for none at all, for more than MAX_CHARACTERS
    after NFC, and for halves of surrogate pairs, which are not text.
    """
    text = passcode.get_secret_value()
    if len(text) <= _MAX_FILE_BYTES:
        text = unicodedata.normalize("NFC", text)
    if not 1 <= len(text) <= MAX_CHARACTERS:
        raise InvalidPasscode(f"a passcode has 1 to {MAX_CHARACTERS:,} characters")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidPasscode("the passcode is not valid Unicode text") from None


def read_passcode(path: Path) -> SecretStr:
    """Return the content of a UTF-8 file, without the line break at its end.

    Raises InvalidPasscode where that is no passcode, and OSError.
    """
    with path.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidPasscode(f"{path} is not a short UTF-8 text") from None
    passcode = SecretStr(text.removesuffix("\n").removesuffix("\r"))
    normalised(passcode)
    return passcode


def seal_key(passcode: SecretStr, salt: bytes, cost: Cost) -> bytes:
    """Return KEY_BYTES for a seal; takes the time and the memory of `cost`.

    Raises InvalidPasscode as `normalised` does, UnsupportedAlgorithm for a function that this
    machine's OpenSSL lacks.
    """
    return _derived(normalised(passcode), salt, cost, _SEAL_LABEL, KEY_BYTES)


def condition_bits(passcode: SecretStr, n: int) -> list[bool]:
    """Return the n bits that tell the face generator whom to make of a face.

    The same on every machine and for every picture; raises as `normalised` does.
    """
    data = _derived(
        normalised(passcode), _CONDITION_SALT, STRONG_SCRYPT, _CONDITION_LABEL, -(-n // 8)
    )
    return [bool(data[bit // 8] >> bit % 8 & 1) for bit in range(n)]


def _derived(passcode: bytes, salt: bytes, cost: Cost, label: bytes, length: int) -> bytes:
    if cost.kdf is Kdf.ARGON2ID:
        root = Argon2id(
            salt=salt,
            length=KEY_BYTES,
            iterations=cost.passes,
            lanes=cost.lanes,
            memory_cost=cost.memory_kib,
        ).derive(passcode)
    else:
        root = Scrypt(
            salt=salt, length=KEY_BYTES, n=cost.memory_kib, r=_SCRYPT_BLOCK, p=cost.lanes
        ).derive(passcode)
    return HKDFExpand(SHA256(), length, label).derive(root)
