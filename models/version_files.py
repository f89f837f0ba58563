"""The files of every model's versions: those that ship, and those under the service's folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from models.checkpoint import NAME_PATTERN, Header, file_sha256, read_header
from models.errors import InvalidCheckpoint, ModelNotFound
from models.files import write_atomically

_PUBLISHING = ".publishing."
_PUBLISHED_WITHIN_S = 3600.0


class VersionFiles:
    """Finds, adds and removes files; which of them serve is the registry's (`models.registry`)."""

    def __init__(self, folder: Path, shipped: Path) -> None:
        self._folder = folder
        self._shipped = shipped
        self._facts: dict[Path, tuple[tuple[int, int], Header, str]] = {}

    def shipped_names(self) -> set[str]:
        """Return the names of the models that ship."""
        return {path.stem for path in self._shipped.glob("*.safetensors")}

    def ships(self, path: Path) -> bool:
        """Tell whether a version's file came with the project."""
        return path.parent == self._shipped

    def names(self) -> set[str]:
        """Return every name that has a version."""
        return self.shipped_names() | {
            path.parent.name for path in self._folder.glob("*/*.safetensors")
        }

    def of(self, name: str) -> dict[int, Path]:
        """Return the versions of `name` by number; raises ModelNotFound if there are none."""
        files = self.found(name)
        if not files:
            known = ", ".join(sorted(self.names())) or "none"
            raise ModelNotFound(f"there is no model {name!r}; there are: {known}")
        return files

    def found(self, name: str) -> dict[int, Path]:
        """Return the versions of `name` by number, which may be none."""
        if not re.fullmatch(NAME_PATTERN, name):  # also keeps "../" out of paths
            return {}
        folder = self._folder / name
        files = _numbered(folder, ".safetensors")
        shipped = self._shipped / f"{name}.safetensors"
        if shipped.exists() and not (folder / "1.deleted").exists():
            files.setdefault(1, shipped)  # a published version is never another one
        return files

    def facts(self, path: Path) -> tuple[Header, str]:
        """Return a file's header and SHA-256, read once; raises InvalidCheckpoint."""
        try:
            stat = path.stat()
            state = (stat.st_mtime_ns, stat.st_size)
            known = self._facts.get(path)
            if known is None or known[0] != state:
                known = self._facts[path] = state, read_header(path), file_sha256(path)
        except OSError as error:
            raise InvalidCheckpoint(f"{path.name} has gone: {error.strerror}") from error
        return known[1:]

    def add(self, path: Path, name: str) -> int:
        """Copy a file in as the next version of `name`; return its number."""
        self._sweep()
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=_PUBLISHING) as copy:
            with path.open("rb") as source:
                shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
            os.fchmod(copy.fileno(), 0o644)
            return self._claim(name, Path(copy.name))

    def remove(self, path: Path) -> None:
        """Remove a published version; its number stays taken. Raises FileNotFoundError."""
        path.rename(path.with_suffix(".deleted"))
        self._facts.pop(path, None)
        write_atomically(path.with_suffix(".deleted"), lambda target: target.touch())

    def _sweep(self) -> None:
        """Remove what killed processes left of publishing; copies being written are younger."""
        for copy in self._folder.glob(f"*/{_PUBLISHING}*"):
            with contextlib.suppress(FileNotFoundError):  # it has just been published
                if time.time() - copy.stat().st_mtime > _PUBLISHED_WITHIN_S:
                    copy.unlink()

    def _claim(self, name: str, copy: Path) -> int:
        """Give the copied file the next free number; a link never replaces another's file."""
        folder = self._folder / name
        while True:
            version = max([0, *self.found(name), *_numbered(folder, ".deleted")]) + 1
            try:
                (folder / f"{version}.safetensors").hardlink_to(copy)
            except FileExistsError:
                continue
            return version


def _numbered(folder: Path, suffix: str) -> dict[int, Path]:
    """Return the files that are called by a number, by it."""
    return {int(path.stem): path for path in folder.glob(f"*{suffix}") if path.stem.isdecimal()}
