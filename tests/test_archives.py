"""Zips as people and attackers make them."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import stat
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.datasets.archives import ArchiveLimits, unpack
from models.errors import InvalidDataset

LIMITS = ArchiveLimits(max_files=100, max_unpacked_bytes=4_000_000, max_file_bytes=1_000_000)


def zipped(entries: dict[str, bytes] | list[tuple[str, bytes]], method: int = 8) -> bytes:
    """Return a zip whose names are stored as they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, data in entries.items() if isinstance(entries, dict) else entries:
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method
            archive.writestr(info, data)
    return file.getvalue()


def special(name: str, mode: int) -> bytes:
    """Return a zip with one entry of a Unix mode, for example a link to /etc/passwd."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, mode << 16
        archive.writestr(info, "/etc/passwd")
    return file.getvalue()


def encrypted() -> bytes:
    data = bytearray(zipped({"a.jpg": b"secret"}, 0))
    data[6] |= 1  # the local header's flags
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the directory's
    return bytes(data)


def damaged() -> bytes:
    data = bytearray(zipped({"a.jpg": b"picture" * 99}, 0))
    data[60] ^= 1
    return bytes(data)


def overlapping() -> bytes:
    """Return a zip whose directory names one entry's bytes a thousand times (Fifield 2019)."""
    data = zipped({"a00.jpg": bytes(900_000)})
    start, end = data.index(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    entry = data[start:end]
    names = [entry.replace(b"a00.jpg", b"a%02d.jpg" % i) for i in range(90)]
    directory = b"".join(names)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 90, 90, len(directory), start, 0)
    return data[:start] + directory + tail


def put(folder: Path, data: bytes) -> Path:
    path = folder / "upload.zip"
    path.write_bytes(data)
    return path


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped({"../a.jpg": b"x"}), "leads out"),
        (zipped({"a/../../b.jpg": b"x"}), "leads out"),
        (zipped({"..\\a.jpg": b"x"}), "leads out"),
        (zipped({"/etc/a.jpg": b"x"}), "leads out"),
        (zipped({"C:\\a.jpg": b"x"}), "leads out"),
        (zipped({"\\\\host\\a.jpg": b"x"}), "leads out"),
        (zipped({"../": b""}), "leads out"),
        (zipped({"a\n.jpg": b"x"}), "no name"),
        (zipped({"a" * 2000 + ".jpg": b"x"}), "no name"),
        (special("a.jpg", stat.S_IFLNK | 0o777), "link"),
        (special("a.jpg", stat.S_IFBLK | 0o600), "special"),
        (special("a.jpg", stat.S_IFIFO | 0o600), "special"),
        (encrypted(), "encrypted"),
        (zipped([("a.jpg", b"x"), ("b.jpg", b"y"), ("./a.jpg", b"z")]), "two files"),
        (zipped({"A/a.jpg": b"x", "a/A.JPG": b"y"}), "two files"),
        (zipped({"caf\u00e9.jpg": b"x", "cafe\u0301.jpg": b"y"}), "two files"),
        (zipped({f"{i}.txt": b"" for i in range(101)}), "max_dataset_files"),
        (zipped({f"{i:04d}": b"" for i in range(5_000)}), "max_dataset_files"),
        (zipped({f"{i}.jpg": bytes(900_000) for i in range(5)}), "max_dataset_unpacked_bytes"),
        (zipped({f"{i:099d}": bytes(1) for i in range(9_000)}), "too long"),
        (zipped({"a.jpg": b"x" * 99}, zipfile.ZIP_LZMA), "other than deflate"),
        (zipped({"a.jpg": b"x" * 99}, zipfile.ZIP_BZIP2), "other than deflate"),
        (damaged(), "damaged"),
        (zipped({"a.jpg": b"x" * 999})[:-30], "sound zip"),
        (b"", "sound zip"),
        (b"PK\x03\x04 and no more", "sound zip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "sound zip"),
        (overlapping(), "differ|overlap"),
    ],
)
def test_hostile_zips_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    """A zip that leads outside, links, lies or explodes is refused, and nothing lies outside."""
    folder = tmp_path / "deep" / "unpacked"
    folder.mkdir(parents=True)
    source = put(tmp_path, data)
    with pytest.raises(InvalidDataset, match=words):
        unpack(source, folder, LIMITS)
    assert files_below(tmp_path) - files_below(folder) == {source}
    assert sum(path.stat().st_size for path in files_below(folder)) <= LIMITS.max_unpacked_bytes


def test_a_bomb_is_stopped_by_its_ratio(tmp_path: Path) -> None:
    """Contents of more than a hundred times the archive are refused far below the limit."""
    source = put(tmp_path, zipped({f"{i}.jpg": bytes(900_000) for i in range(60)}))
    folder = tmp_path / "unpacked"
    folder.mkdir()
    with pytest.raises(InvalidDataset, match="100 times"):
        unpack(source, folder, ArchiveLimits(max_unpacked_bytes=1 << 40))
    assert sum(path.stat().st_size for path in files_below(folder)) < 30 << 20


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    """Unpacking holds a few MiB, however large the pictures are."""
    source = put(tmp_path, zipped({"a.jpg": random.Random(0).randbytes(1 << 20) * 40}, 0))
    folder = tmp_path / "unpacked"
    folder.mkdir()
    tracemalloc.start()
    unpack(source, folder, ArchiveLimits())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 << 20


def test_junk_is_ignored_and_other_files_are_named(tmp_path: Path) -> None:
    """What archivers and systems add is ignored; what is no picture is named and left out."""
    inner = zipped({"b.jpg": b"x"})
    entries = {
        "set/A/1.jpg": b"one",
        "set/B/1.PNG": b"two",
        "__MACOSX/set/A/._1.jpg": b"junk",
        "set/.DS_Store": b"junk",
        "set/.git/a.jpg": b"junk",
        "set/Thumbs.db": b"junk",
        "set/desktop.ini": b"junk",
        "set/README.md": b"read",
        "set/more.zip": inner,
        "set/huge.jpg": bytes(1_000_001),
        "./": b"",
        "set/": b"",
    }
    found = unpack(put(tmp_path, zipped(entries)), _empty(tmp_path), LIMITS)
    assert {name: path.read_bytes() for name, path in found.files.items()} == {
        "set/A/1.jpg": b"one",
        "set/B/1.PNG": b"two",
    }
    assert set(found.skipped) == {"set/README.md", "set/more.zip", "set/huge.jpg"}
    assert "1,000,000 bytes" in found.skipped["set/huge.jpg"]
    assert {path.name for path in found.files.values()} == {"000000", "000001"}


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in it that its owner keeps shut is told instead of being left out."""
    (shut := tmp_path / "source" / "shut").mkdir(parents=True)
    scan = os.scandir

    def denied(path: Any) -> Any:
        if Path(path) == shut:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)  # root, as which tests may run, is denied nothing
    with pytest.raises(InvalidDataset, match="shut"):
        unpack(tmp_path / "source", _empty(tmp_path), LIMITS)


def test_a_folder_is_taken_like_a_zip(tmp_path: Path) -> None:
    """A folder gives what its zip would give; links in it are named and not followed."""
    source = tmp_path / "source"
    (source / "A").mkdir(parents=True)
    (source / "A" / "1.jpg").write_bytes(b"one")
    (source / "notes.txt").write_bytes(b"note")
    (source / "link.jpg").symlink_to("/etc/passwd")
    (source / "up").symlink_to(tmp_path)
    os.mkfifo(source / "pipe.jpg")
    found = unpack(source, _empty(tmp_path), LIMITS)
    assert list(found.files) == ["A/1.jpg"]
    assert set(found.skipped) == {"notes.txt", "link.jpg", "pipe.jpg", "up"}
    assert (source / "A" / "1.jpg").read_bytes() == b"one"


def test_a_full_disk_is_no_fault_of_the_zip(tmp_path: Path) -> None:
    """What cannot be written is an OSError, not an InvalidDataset."""
    source = put(tmp_path, zipped({"a.jpg": b"x"}))
    with pytest.raises(FileNotFoundError):
        unpack(source, tmp_path / "absent", LIMITS)


@example(["\x00"], random.Random(0))
@given(st.lists(st.text(min_size=1, max_size=60), max_size=6), st.randoms())
def test_any_names(tmp_path_factory: pytest.TempPathFactory, names: list[str], rnd) -> None:
    """Whatever entries are called, files lie in the folder, or the zip is refused."""
    pieces = ["..", "/", "\\", ":", ".", "A", "con", "\x00", "\u202e", "~", "%2e%2e"]
    mixed = ["".join(rnd.sample(pieces, 3)) + name + ".jpg" for name in names]
    folder = tmp_path_factory.mktemp("any")
    try:
        source = put(folder, zipped([(name, b"x") for name in [*names, *mixed]]))
    except (ValueError, UnicodeEncodeError):
        return  # not even Python writes such a zip
    (folder / "unpacked").mkdir()
    try:
        found = unpack(source, folder / "unpacked", LIMITS)
    except InvalidDataset:
        assert not any((folder / "unpacked").iterdir())
        return
    assert {path.parent for path in found.files.values()} <= {folder / "unpacked"}
    assert files_below(folder) == {source, *found.files.values()}
    for name in found.files:
        assert ".." not in name.split("/")
        assert not name.startswith("/")


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes(tmp_path: Path, seed: int) -> None:
    """A zip with flipped bytes is unpacked or refused; nothing else ever happens."""
    rnd = random.Random(seed)
    data = bytearray(zipped({f"{i}.jpg": rnd.randbytes(40) for i in range(3)}))
    for _ in range(rnd.randint(1, 4)):
        data[rnd.randrange(len(data))] = rnd.randrange(256)
    source = put(tmp_path, bytes(data[: rnd.choice([None, rnd.randrange(len(data))])]))
    folder = _empty(tmp_path)
    with contextlib.suppress(InvalidDataset):
        unpack(source, folder, LIMITS)
    assert files_below(tmp_path) - files_below(folder) == {source}


def _empty(tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    return folder
