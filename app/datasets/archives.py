"""Pictures out of a zip or a folder that somebody else made, into files whose names are ours.

Nothing is ever written under a name from the archive: entries become numbered files, and their
names are only looked at. What an honest archiver does not write (links, `..`, encryption, two
entries of one name) is refused as a whole, so that no two programs see two different archives.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from models.errors import InvalidDataset
from models.images import FORMAT_OF_SUFFIX

_CHUNK_BYTES = 1 << 20
_MAX_NAME_CHARACTERS = 1000
# Pictures are compressed already; only the rare uncompressed TIFF shrinks at all. Deflate can
# reach 1030.
_MAX_RATIO, _RATIO_FREE_BYTES = 100, 16 << 20
# An entry of the central directory is 46 bytes and its name.
_ENTRY_SIGNATURE, _DIRECTORY_BYTES_PER_FILE = b"PK\x01\x02", 512
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # the others' decoders take what they like
_ENCRYPTED = 0x2041  # general purpose bits 0, 6 and 13: entry, strong, central directory
_UNPRINTABLE = {"Cc", "Cs"}  # control characters, halves of surrogate pairs
_JUNK = {"__macosx", "thumbs.db", "desktop.ini"}
_READ_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What is taken from one archive or folder.

    Attributes:
        max_files: entries of any kind.
        max_unpacked_bytes: all pictures together.
        max_file_bytes: one picture; a larger one is left out.
    """

    max_files: int = 50_000
    max_unpacked_bytes: int = 8 << 30
    max_file_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Pictures by their names in the archive ("A/1.jpg"), and why other files were left out."""

    files: dict[str, Path]
    skipped: dict[str, str]


def unpack(
    source: Path,
    folder: Path,
    limits: ArchiveLimits,
    pause: Callable[[], None] = lambda: None,
) -> Unpacked:
    """Put the pictures of a zip, or of a folder, into numbered files in the empty `folder`.

    Told by their suffix; the content is not looked at. Holds about a MiB of it at a time, and the
    archive's directory. `pause()` is called between pieces and may raise.

    Raises:
        InvalidDataset: no zip, damaged, hostile, or beyond a limit, which the text names.
        OSError: `folder` cannot be written.
    """
    if source.is_dir():
        with _reading("the folder cannot be read"):
            return _Writer(folder, limits, limits.max_unpacked_bytes, pause).write(_walk(source))
    budget_bytes = min(
        limits.max_unpacked_bytes, source.stat().st_size * _MAX_RATIO + _RATIO_FREE_BYTES
    )
    writer = _Writer(folder, limits, budget_bytes, pause)
    with (
        _reading("it is not a sound zip"),
        _Bounded(source, limits.max_files) as file,
        zipfile.ZipFile(file) as archive,
    ):
        return writer.write(_entries(archive))


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file of the source; `size` is what it claims in bytes, None for no ordinary file."""

    name: str
    size: int | None
    open: Callable[[], IO[bytes] | io.FileIO]


class _WriteFailed(Exception):
    """Carries the target's OSError past the handler for the source's."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error


class _Writer:
    """Copies pictures to numbered files and counts what really comes out of them."""

    def __init__(
        self, folder: Path, limits: ArchiveLimits, budget_bytes: int, pause: Callable[[], None]
    ) -> None:
        self._folder, self._limits, self._pause = folder, limits, pause
        self._budget_bytes = self._left_bytes = budget_bytes

    def write(self, entries: Iterator[_Entry]) -> Unpacked:
        files: dict[str, Path] = {}
        skipped: dict[str, str] = {}
        for name, entry in _checked(entries, self._limits.max_files).items():
            if why := self._why_not(entry):
                skipped[name] = why
                continue
            target = self._folder / f"{len(files):06d}"
            if self._copy(entry, target):
                files[name] = target
            else:
                skipped[name] = self._too_long()
        return Unpacked(files, skipped)

    def _why_not(self, entry: _Entry) -> str | None:
        if entry.size is None:
            return "a link or a special file"
        if Path(entry.name).suffix.lower() not in FORMAT_OF_SUFFIX:
            return "not a picture, by its suffix"
        return self._too_long() if entry.size > self._limits.max_file_bytes else None

    def _too_long(self) -> str:
        return f"more than {self._limits.max_file_bytes:,} bytes"

    def _copy(self, entry: _Entry, target: Path) -> bool:
        """Return False for a file that turns out longer than one may be."""
        length = 0
        with entry.open() as source, _writing(), target.open("xb") as file:
            while chunk := _read(source, entry.name):
                self._pause()
                length += len(chunk)
                self._left_bytes -= len(chunk)
                if self._left_bytes < 0:
                    raise InvalidDataset(
                        f"it unpacks to more than {self._budget_bytes:,} bytes; at most "
                        f"{self._limits.max_unpacked_bytes:,} (max_dataset_unpacked_bytes) and "
                        f"{_MAX_RATIO} times the archive's own size, and "
                        f"{_RATIO_FREE_BYTES >> 20} MiB, are taken"
                    )
                if length > self._limits.max_file_bytes:
                    break
                file.write(chunk)
        if length > self._limits.max_file_bytes:
            target.unlink()
            return False
        return True


def _read(source: IO[bytes] | io.FileIO, name: str) -> bytes:
    try:
        return source.read(_CHUNK_BYTES)
    except _READ_ERRORS as error:
        raise InvalidDataset(f"{_shown(name)} does not unpack: it is damaged") from error


def _checked(entries: Iterator[_Entry], max_files: int) -> dict[str, _Entry]:
    """Return the entries by their clean names, without the junk; refuse two of one name."""
    named: dict[str, _Entry] = {}
    seen: set[str] = set()
    for count, entry in enumerate(entries, 1):
        if count > max_files:
            raise InvalidDataset(f"more than {max_files:,} files (max_dataset_files)")
        name = _clean(entry.name)
        parts = name.lower().split("/")
        if any(part in _JUNK or part.startswith(".") for part in parts):
            continue
        if name.casefold() in seen:
            raise InvalidDataset(f"two files are called {_shown(name)}, apart from upper case")
        seen.add(name.casefold())
        named[name] = entry
    return named


def _clean(name: str) -> str:
    """Return the name as "folder/file"; raises InvalidDataset for one that leads elsewhere."""
    path = unicodedata.normalize("NFC", name).replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or re.match("[A-Za-z]:", path) or ".." in parts:
        raise InvalidDataset(f"{_shown(name)} leads out of the archive")
    categories = {unicodedata.category(character) for character in path}
    if not parts or categories & _UNPRINTABLE or len(path) > _MAX_NAME_CHARACTERS:
        raise InvalidDataset(f"{_shown(name)} is no name for a file")
    return "/".join(parts)


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 80 else name[:77] + "...")


def _entries(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in archive.infolist():
        if not info.filename:  # or nothing before a NUL; zipfile itself stumbles over it
            raise InvalidDataset("an entry of the zip has no name")
        if info.flag_bits & _ENCRYPTED:
            raise InvalidDataset(f"{_shown(info.filename)} is encrypted")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InvalidDataset(f"{_shown(info.filename)} is a link or a special file")
        if info.compress_type not in _METHODS:
            raise InvalidDataset(f"{_shown(info.filename)} is packed in a way other than deflate")
        if info.is_dir():
            _clean(f"{info.filename}file")  # "./" alone is no file's name, but a sound folder's
        else:
            yield _Entry(info.filename, info.file_size, partial(archive.open, info))


def _walk(root: Path) -> Iterator[_Entry]:
    def fail(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=fail):
        linked = [name for name in folders if Path(folder, name).is_symlink()]  # not walked into
        for name in [*names, *linked]:
            path = Path(folder, name)
            status = path.lstat()
            size = status.st_size if stat.S_ISREG(status.st_mode) else None
            yield _Entry(path.relative_to(root).as_posix(), size, partial(io.FileIO, path))


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _WriteFailed(error) from error


@contextlib.contextmanager
def _reading(fault: str) -> Iterator[None]:
    """Make InvalidDataset of what the source cannot give, but leave the target's OSErrors."""
    try:
        yield
    except _WriteFailed as failed:
        raise failed.error from None
    except _READ_ERRORS as error:
        raise InvalidDataset(f"{fault}: {error}") from error


class _Bounded(io.BufferedReader):
    """A file whose zip directory, which zipfile reads in one piece, is checked for its length."""

    def __init__(self, path: Path, max_files: int) -> None:
        super().__init__(io.FileIO(path))
        self._max_files = max_files

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._max_files * _DIRECTORY_BYTES_PER_FILE + _CHUNK_BYTES:
            raise InvalidDataset(f"its directory is too long for {self._max_files:,} files")
        data = super().read(size)
        if data.count(_ENTRY_SIGNATURE) > self._max_files:
            raise InvalidDataset(f"more than {self._max_files:,} files (max_dataset_files)")
        return data
