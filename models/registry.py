"""The versions of every model: those that ship, and those published under the service's folder.

    shipped/<name>.safetensors               version 1, read-only
    home/models/<name>/<version>.safetensors immutable once published
    home/models/<name>/<version>.deleted     so that a number never means two things
    home/models/<name>/promoted              one version a line; the last one serves

A version's card is part of its file. Who trained it writes there, beside what the recipe says,
"lineage": what it was made from, {"job", "dataset", "base", "code"}, and whose it is ("owner": that
of a name's first version counts for all), "metrics", and "gate": how it compared with the version
that served then (`models.evaluation.gate`).

Every change is one atomic file operation, so several processes can share a folder; what is promoted
is changed by one at a time (`home/models/<name>/lock`).
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoint import NAME_PATTERN, Header, load_generator
from models.errors import GateRefused, InvalidCheckpoint, ModelNotFound, ModelProtected
from models.promotion_record import PromotionRecord
from models.version_files import VersionFiles

NOTHING = ""
"""The label of what is promoted where nothing is."""

MAX_VERSION = 999_999
VERSION_PATTERN = f"[0-9]{{1,{len(str(MAX_VERSION))}}}"

log = logging.getLogger(__name__)


class Superseded(Exception):
    """Another version is promoted than the one that `promote` was to replace."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One immutable set of weights.

    Attributes:
        promoted: whether "name" alone means this one.
        owner: id of the key that the name belongs to, whatever this version's own card says; None
            if it is everybody's.
    """

    name: str
    version: int
    path: Path
    header: Header
    sha256: str
    promoted: bool
    owner: str | None

    @property
    def label(self) -> str:
        """Return name@version."""
        return f"{self.name}@{self.version}"

    @property
    def lineage(self) -> Mapping[str, Any]:
        """What it was made from, as far as its card says: dataset, base, code."""
        return dict(self.header.card.get("lineage") or {})

    @property
    def gate(self) -> Mapping[str, Any] | None:
        """How it compared with the version that served when it was made; None if never asked."""
        return self.header.card.get("gate")


def check_name(name: str) -> None:
    """Raise InvalidCheckpoint for what can be no model's name."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidCheckpoint(
            f"{name!r} is no model name: up to 64 of a-z 0-9 . _ - between letters or digits"
        )


class Registry:
    """Publishes, finds, promotes and deletes versions; a name without a promotion serves none.

    A shipped model is promoted until another version of its name is.
    """

    def __init__(self, home: Path, shipped: Path = Path(__file__).parent / "weights") -> None:
        self._folder = home / "models"
        self._files = VersionFiles(self._folder, shipped)
        self._last_promoted: dict[str, int] = {}
        for name in sorted(self.shipped_names()):
            if any((self._folder / name).glob("1.*")):  # deleted or not
                log.warning("%s@1 was published here; the %s that ships is left out", name, name)

    def list(self) -> list[ModelVersion]:
        """Return every version, by name and number; damaged files are logged and left out."""
        return [version for name in sorted(self._files.names()) for version in self._versions(name)]

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return the versions of `name` as `list` does; raises ModelNotFound if there are none."""
        self._files.of(name)
        return self._versions(name)

    def owner(self, name: str) -> str | None:
        """Return whose `name` is, as every version's `owner`; raises ModelNotFound."""
        self._files.of(name)
        return self._owner(name)

    def promotions(self) -> dict[str, int]:
        """Return the promoted version's number of every name that has one; reads no model file."""
        found: dict[str, int] = {}
        for name in sorted(self._files.names()):
            try:
                version = self._promoted(name)
            except PermissionError as error:  # what was known of it is as good
                log.warning("what of %s is promoted cannot be read: %s", name, error)
                version = self._last_promoted.get(name)
            if version is not None:
                found[name] = version
        self._last_promoted = found
        return dict(found)

    def resolve(self, reference: str) -> ModelVersion:
        """Return "name" (its promoted version) or "name@version"; raises ModelNotFound."""
        name, _, number = reference.partition("@")
        files = self._files.of(name)
        if "@" in reference and not re.fullmatch(VERSION_PATTERN, number):
            raise ModelNotFound(f"{reference[:100]!r} is not name@version")
        serving = self._promoted(name)
        version = int(number) if number else serving
        if version is None:
            raise ModelNotFound(f"no version of {name!r} is promoted; there are: {sorted(files)}")
        if version not in files:
            raise ModelNotFound(f"{name!r} has no version {version}; there are: {sorted(files)}")
        path = files[version]
        facts = self._files.facts(path)
        return ModelVersion(name, version, path, *facts, version == serving, self._owner(name))

    def shipped_names(self) -> set[str]:
        """Return the names of the models that ship, whichever version of them is promoted."""
        return self._files.shipped_names()

    def publish(self, path: Path, name: str) -> ModelVersion:
        """Copy a checkpoint in as the next version of `name`, not yet promoted.

        Raises:
            InvalidCheckpoint: the file does not load, or the name is none.
        """
        check_name(name)
        load_generator(path)
        return self.resolve(f"{name}@{self._files.add(path, name)}")

    def check_gate(self, version: ModelVersion) -> None:
        """Raise GateRefused, with the figures, if the version's card holds a failed comparison."""
        verdict = version.gate
        if verdict and not verdict.get("passed"):
            raise GateRefused(
                f"{version.label} did not pass the gate: {verdict.get('reason', '')}", verdict
            )

    def promote(
        self, name: str, version: int, *, force: bool = False, instead_of: str | None = None
    ) -> ModelVersion:
        """Make `version` the one that `name` alone means.

        Args:
            name: of the model.
            version: to be promoted.
            force: whatever its comparison says.
            instead_of: what is promoted now, name@version or NOTHING; None if that is all the same.

        Raises:
            ModelNotFound: there is no such version.
            GateRefused: its card holds a failed comparison, and `force` is not given.
            Superseded: another version than `instead_of` is promoted, neither is this one.
        """
        record = self._record(name)
        with record.alone():
            found = self.resolve(f"{name}@{version}")
            if not force:
                self.check_gate(found)
            promoted = self._promoted(name)
            label = NOTHING if promoted is None else f"{name}@{promoted}"
            if instead_of is not None and label not in (instead_of, found.label):
                raise Superseded(f"{label or 'nothing'} is promoted, not {instead_of or 'nothing'}")
            earlier = tuple(v for v in self._history(name) if v != version)
            record.write((*earlier, version))
            return self.resolve(found.label)

    def previous(self, name: str) -> ModelVersion:
        """Return what `rollback` would promote; raises ModelNotFound if there is none."""
        history = self._history(name)
        if len(history) < 2:
            raise ModelNotFound(f"{name!r} has no earlier promoted version to go back to")
        return self.resolve(f"{name}@{history[-2]}")

    def rollback(self, name: str, version: int | None = None) -> ModelVersion:
        """Forget what was promoted after `version`, by default all but the version before.

        Raises ModelNotFound if there is none, or `version` is no longer among those promoted.
        """
        record = self._record(name)
        with record.alone():
            version = version or self.previous(name).version
            history = self._history(name)
            if version not in history:
                raise ModelNotFound(f"{name}@{version} is no longer there to go back to")
            record.write(history[: history.index(version) + 1])
            return self.resolve(name)

    def delete(self, name: str, version: int) -> None:
        """Remove a published version for good; its number is not used again.

        With its last version a name goes too, whether or not that was promoted.

        Raises:
            ModelNotFound: there is no such version.
            ModelProtected: it ships with the project, or is the promoted one of several.
        """
        self._deletable(name, version)  # before the lock, which makes a folder
        with self._record(name).alone():
            found = self._deletable(name, version)
            try:
                self._files.remove(found.path)
            except FileNotFoundError as error:
                raise ModelNotFound(f"{found.label} was deleted meanwhile") from error

    def _deletable(self, name: str, version: int) -> ModelVersion:
        found = self.resolve(f"{name}@{version}")
        if self._files.ships(found.path):
            raise ModelProtected(f"{name}@{version} ships with Anamorph and stays")
        if found.promoted and len(self._files.of(name)) > 1:
            raise ModelProtected(f"{name}@{version} is promoted; promote another one first")
        return found

    def _record(self, name: str) -> PromotionRecord:
        self._files.of(name)  # a lock makes a folder, also for what there is not
        return PromotionRecord(self._folder / name)

    def _versions(self, name: str) -> Sequence[ModelVersion]:
        found = []
        promoted, owner = self._promoted(name), self._owner(name)
        for version, path in sorted(self._files.found(name).items()):
            try:
                facts = self._files.facts(path)
            except InvalidCheckpoint as error:
                log.warning("%s@%d is left out: %s", name, version, error)
            else:
                found.append(ModelVersion(name, version, path, *facts, version == promoted, owner))
        return found

    def _history(self, name: str) -> tuple[int, ...]:
        """Promotions that still have a file, oldest first."""
        files = self._files.found(name)
        versions = PromotionRecord(self._folder / name).read()
        if 1 in files and self._files.ships(files[1]) and 1 not in versions:
            versions.insert(0, 1)
        return tuple(version for version in versions if version in files)

    def _promoted(self, name: str) -> int | None:
        history = self._history(name)
        return history[-1] if history else None

    def _owner(self, name: str) -> str | None:
        """Return the owner of the oldest version that can be read."""
        for _, path in sorted(self._files.found(name).items()):
            with contextlib.suppress(InvalidCheckpoint):
                header, _ = self._files.facts(path)
                owner: str | None = header.card.get("lineage", {}).get("owner")
                return owner
        return None
