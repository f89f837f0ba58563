"""A model's promotions: a file in its folder with a version a line, the last of which serves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from models.files import write_atomically

_KEPT = 100


class PromotionRecord:
    """The record in a model's folder, which several processes may share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "promoted"

    def read(self) -> list[int]:
        """Return the versions, oldest promotion first; what is no number is passed over."""
        try:
            lines = self._path.read_text("utf-8", "replace").split()
        except FileNotFoundError:
            return []
        return [int(line) for line in lines if line.isdecimal()]

    def write(self, versions: Sequence[int]) -> None:
        """Replace the record by the last of these."""
        text = "".join(f"{version}\n" for version in versions[-_KEPT:])
        write_atomically(self._path, lambda target: target.write_text(text, "utf-8"))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from promoting or deleting versions of the model."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / "lock", mode=0o666):  # other users' processes lock it, too
            yield
