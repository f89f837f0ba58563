"""The datasets of a service: checked on arrival, stored by content, never changed.

    home/datasets/<id>/manifest.json      what it is, and the SHA-256 of every picture
    home/datasets/<id>/contact.png        a look at it
    home/datasets/<id>/train/ test/ ...   the pictures, sorted (see app.datasets.layouts)
    home/datasets/.incoming-*/            an upload under way; what a kill leaves is swept

A dataset appears by one rename, whole or not at all, so several processes can share the folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import re
import statistics
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.callers import Caller
from app.datasets.archives import ArchiveLimits, unpack
from app.datasets.contact_sheet import contact_sheet
from app.datasets.dataset import CONTACT, MANIFEST, Dataset
from app.datasets.layouts import MIN_SIDE_PX, Arrangement, Kind, Size, arrange, warn_of_doubles
from app.errors import DatasetInUse, DatasetNotFound, InvalidParameter, NotReady
from app.ids import is_id
from app.incoming import incoming_folder, sweep
from app.settings import Settings
from models import images
from models.checkpoint import NAME_PATTERN, file_sha256
from models.errors import ImageError, InvalidDataset
from models.files import write_atomically

log = logging.getLogger(__name__)

_UNKNOWN = "there is no such dataset"
_NAMED_SKIPPED = 1000  # every list of datasets reads their manifests
# A photo has some 10 pixels a byte. One colour has thousands, and takes as long to decode.
_MAX_PIXELS_PER_BYTE, _FREE_PIXELS = 200, 2_000_000_000


def open_datasets(settings: Settings) -> DatasetStore:
    """Return the store below the settings' `home`, with their limits."""
    trained = images.Limits()  # with which trainings read pictures, whatever requests may have
    limits = ArchiveLimits(
        max_files=settings.max_dataset_files,
        max_unpacked_bytes=settings.max_dataset_unpacked_bytes,
        max_file_bytes=settings.max_upload_bytes,
    )
    return DatasetStore(
        settings.home,
        limits,
        images.Limits(
            max_pixels=min(settings.max_pixels, trained.max_pixels),
            max_side=min(settings.max_side, trained.max_side),
        ),
    )


class DatasetStore:
    """Adds, finds and deletes the datasets below `home`."""

    def __init__(
        self,
        home: Path,
        archive_limits: ArchiveLimits | None = None,
        image_limits: images.Limits | None = None,
    ) -> None:
        self.root = home / "datasets"
        self._archive_limits = archive_limits or ArchiveLimits()
        self._image_limits = image_limits or images.Limits()
        self._closing = threading.Event()

    def add(
        self, source: Path, name: str, kind: Kind, owner: str | None = None
    ) -> tuple[Dataset, bool]:
        """Check and store a zip or a folder; return the dataset and whether it is new.

        The owner's one with the same pictures is left as it is, with its own name, unless damaged.

        Raises:
            InvalidDataset: not usable; the text says what was found and what is expected.
            InvalidParameter: the name is none.
            StorageFull: the disk is full.
            NotReady: the store was closed meanwhile.
        """
        if not re.fullmatch(NAME_PATTERN, name):
            raise InvalidParameter(
                f"name: {name!r} has other than a-z 0-9 . _ - between letters or digits"
            )
        with self.incoming() as incoming:
            unpacked, built = incoming / "unpacked", incoming / "dataset"
            unpacked.mkdir()
            found = unpack(source, unpacked, self._archive_limits, self._pause)
            sizes, unusable = self._measure(found.files)
            made = arrange(sizes, kind, found.skipped | unusable)
            checksums = self._place(made, found.files, built)
            warn_of_doubles(made, checksums)
            dataset = self._describe(name, kind, owner, made, sizes, checksums, built)
            if sound := self._sound(dataset.id):
                return sound, False
            self._write(dataset, built)
            damaged = incoming / "damaged"
            if dataset.folder.exists():
                dataset.folder.rename(damaged)
            try:
                built.rename(dataset.folder)
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    return self._read(dataset.id), False  # another process was quicker
                if damaged.exists():
                    damaged.rename(dataset.folder)
                raise
            return dataset, True

    def get(self, id: str, caller: Caller) -> Dataset:  # noqa: A002
        """Return the caller's dataset; raises DatasetNotFound, or InvalidDataset if damaged."""
        dataset = self._read(id)
        if not caller.owns(dataset.owner):
            raise DatasetNotFound(_UNKNOWN)
        return dataset

    def list(self, caller: Caller) -> list[Dataset]:
        """Return the caller's datasets, oldest first; damaged ones are logged and left out."""
        found = []
        for folder in self.root.glob("*"):
            if is_id(folder.name):
                try:
                    found.append(self._read(folder.name))
                except (InvalidDataset, DatasetNotFound) as error:
                    log.warning("left out: %s", error)
        return sorted(
            (d for d in found if caller.owns(d.owner)), key=lambda d: (d.created_at, d.id)
        )

    def contact_sheet(self, id: str, caller: Caller) -> bytes:  # noqa: A002
        """Return the PNG of a dataset; raises DatasetNotFound, or InvalidDataset without one."""
        try:
            return (self._own_folder(id, caller) / CONTACT).read_bytes()
        except OSError as error:
            raise InvalidDataset(f"the contact sheet of dataset {id} has vanished") from error

    def delete(
        self,
        id: str,  # noqa: A002
        caller: Caller,
        using: Callable[[str], str | None],
    ) -> None:
        """Remove a dataset, unless `using(id)` names a training job that keeps it.

        Raises DatasetNotFound, or DatasetInUse naming the job.
        """
        folder = self._own_folder(id, caller)
        if user := using(id):
            raise DatasetInUse(f"dataset {id} is in use by the training job {user}")
        with self.incoming() as incoming:
            gone = incoming / "deleted"
            try:
                folder.rename(gone)
            except FileNotFoundError as error:  # by another request
                raise DatasetNotFound(_UNKNOWN) from error
            try:
                if user := using(id):  # submitted just before
                    raise DatasetInUse(f"dataset {id} is in use by the training job {user}")
            except BaseException:
                gone.rename(folder)
                raise

    def incoming(self) -> AbstractContextManager[Path]:
        """Give a new folder on the datasets' disk; it is removed at the end, or after a kill."""
        return incoming_folder(self.root)

    def sweep(self) -> None:
        """Remove what uploads of killed processes left."""
        sweep(self.root)

    def close(self) -> None:
        """Make uploads that are being checked give up."""
        self._closing.set()

    def _pause(self) -> None:
        if self._closing.is_set():
            raise NotReady("the service is stopping", retry_after_s=5)

    def _folder(self, id: str) -> Path:  # noqa: A002
        folder = self.root / id
        if not is_id(id) or not folder.is_dir():
            raise DatasetNotFound(_UNKNOWN)
        return folder

    def _read(self, id: str) -> Dataset:  # noqa: A002
        folder = self._folder(id)
        try:
            manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
            return Dataset(folder=folder, **manifest)
        except (OSError, ValueError, TypeError) as error:
            raise InvalidDataset(f"the manifest of dataset {id} is damaged") from error

    def _own_folder(self, id: str, caller: Caller) -> Path:  # noqa: A002
        return self._folder(id) if caller.sees_all else self.get(id, caller).folder

    def _sound(self, id: str) -> Dataset | None:  # noqa: A002
        with contextlib.suppress(DatasetNotFound, InvalidDataset):
            dataset = self._read(id)
            dataset.verify()
            return dataset if dataset.contact_sheet.is_file() else None
        return None

    def _measure(self, files: Mapping[str, Path]) -> tuple[dict[str, Size], dict[str, str]]:
        """Decode every picture, as training will; return sizes, and why others are unusable."""
        sizes: dict[str, Size] = {}
        unusable: dict[str, str] = {}
        files_bytes = pixels = 0
        for name, path in files.items():
            self._pause()
            data = path.read_bytes()
            files_bytes += len(data)
            if pixels > _FREE_PIXELS + _MAX_PIXELS_PER_BYTE * files_bytes:
                raise InvalidDataset(
                    "the pictures have too many pixels for files as small as these"
                )
            try:
                header = images.read_header(data, self._image_limits)
                pixels += header.height * header.width
                height, width = images.decode(data, self._image_limits).rgb.shape[:2]
            except ImageError as error:
                unusable[name] = str(error)
                continue
            if min(height, width) < MIN_SIDE_PX:
                unusable[name] = f"{width} x {height} pixels; a side has at least {MIN_SIDE_PX}"
            else:
                sizes[name] = height, width
        return sizes, unusable

    def _place(self, made: Arrangement, files: Mapping[str, Path], built: Path) -> dict[str, str]:
        checksums = {}
        for part, names in made.parts.items():
            (built / part).mkdir(parents=True)
            for name, source in names.items():
                self._pause()
                target = files[source].rename(built / part / name)
                checksums[f"{part}/{name}"] = file_sha256(target)
        return dict(sorted(checksums.items()))

    def _describe(
        self,
        name: str,
        kind: Kind,
        owner: str | None,
        made: Arrangement,
        sizes: Mapping[str, Size],
        checksums: dict[str, str],
        built: Path,
    ) -> Dataset:
        lines = [kind, *(f"{path}\0{sha256}" for path, sha256 in checksums.items())]
        lines += [owner] if owner else []  # no id tells that others have the same pictures
        id_ = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
        unnamed = len(made.skipped) - _NAMED_SKIPPED
        more = [f"{unnamed:,} more files are left out, which are not named"] if unnamed > 0 else []
        sides = [min(sizes[source]) for names in made.parts.values() for source in names.values()]
        return Dataset(
            id=id_,
            name=name,
            kind=kind,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            folder=self.root / id_,
            counts=made.counts,
            sizes={"min": min(sides), "median": statistics.median_low(sides), "max": max(sides)},
            bytes=sum((built / path).stat().st_size for path in checksums),
            skipped=dict(sorted(made.skipped.items())[:_NAMED_SKIPPED]),
            warnings=made.warnings + more,
            checksums=checksums,
            owner=owner,
        )

    def _write(self, dataset: Dataset, built: Path) -> None:
        rows = [[built / part / name for name in names] for part, names in dataset.parts().items()]
        (built / CONTACT).write_bytes(contact_sheet(rows, self._image_limits))
        text = json.dumps(dataset.facts(), indent=1)
        write_atomically(built / MANIFEST, lambda target: target.write_text(text, "utf-8"))
