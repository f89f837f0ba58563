"""One dataset: its manifest, whether its pictures are as they were, and how to train on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.datasets.layouts import Kind
from models.checkpoint import file_sha256
from models.errors import InvalidDataset

MANIFEST, CONTACT = "manifest.json", "contact.png"
_UPSCALED_PX, _PAINTED_PX = 768, 256  # of a test photo: whole ones take minutes and gigabytes each


@dataclass(frozen=True, slots=True)
class Dataset:
    """A stored dataset.

    Attributes:
        id: of its content and owner; the same pictures as the same kind have the same id.
        created_at: ISO 8601, UTC.
        counts: pictures in each part.
        sizes: "min", "median" and "max" of the pictures' shorter sides, in pixels.
        bytes: of all pictures.
        skipped: files of the upload that are not in it, and why.
        warnings: what is usable and yet worth a look.
        checksums: SHA-256 of each picture by its path below `folder`.
        owner: id of the key that it belongs to, if it belongs to one.
    """

    id: str
    name: str
    kind: Kind
    created_at: str
    folder: Path
    counts: dict[str, int]
    sizes: dict[str, int]
    bytes: int
    skipped: dict[str, str] = field(repr=False)
    warnings: list[str]
    checksums: dict[str, str] = field(repr=False)
    owner: str | None = None

    @property
    def contact_sheet(self) -> Path:
        """A PNG with up to 12 pictures of each part, a row each."""
        return self.folder / CONTACT

    def facts(self) -> dict[str, Any]:
        """Return what the manifest holds: all but the folder."""
        return {key: value for key, value in asdict(self).items() if key != "folder"}

    def parts(self) -> dict[str, list[str]]:
        """Return the names of each part's pictures."""
        parts: dict[str, list[str]] = {part: [] for part in self.counts}
        for path in self.checksums:
            part, _, name = path.partition("/")
            parts[part].append(name)
        return parts

    def verify(self) -> None:
        """Read every picture; raises InvalidDataset naming what vanished, changed or was added."""
        faults = (self._fault(path, sha256) for path, sha256 in self.checksums.items())
        wrong = [fault for fault in faults if fault]
        for part in {path.partition("/")[0] for path in self.checksums}:
            present = {f"{part}/{path.name}" for path in (self.folder / part).glob("*")}
            wrong += [f"{path} was added" for path in sorted(present - set(self.checksums))]
        if wrong:
            more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
            raise InvalidDataset(f"dataset {self.id}: {', '.join(wrong[:10])}{more}")

    def _fault(self, path: str, sha256: str) -> str | None:
        try:
            return None if file_sha256(self.folder / path) == sha256 else f"{path} is damaged"
        except FileNotFoundError:
            return f"{path} has vanished"
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"

    def recipe_tables(
        self, family: str, direction: str = "AtoB"
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a recipe's [data] table and its card's [evaluation] table.

        Paths start from the folder of all datasets. `direction` is of paired data. From photos an
        upscaler learns detail, a translation by pairs their colours.
        """

        def path(part: str) -> str:
            return f"{self.id}/{part}"

        match self.kind:
            case "paired":
                data: dict[str, Any] = {"kind": "paired", "direction": direction}
                if "trainA" in self.counts:
                    data |= {"train": [path("trainA")], "targets": [path("trainB")]}
                    return data, {"test": path("testA"), "targets": [path("testB")]}
                return data | {"train": [path("train")]}, {"test": path("test")}
            case "unpaired":
                sides = {"AtoB": ("A", "B"), "BtoA": ("B", "A")}
                return {"kind": "unpaired", "a": [path("trainA")], "b": [path("trainB")]}, {
                    way: {
                        "source": path(f"test{source}"),
                        "target": path(f"test{target}"),
                        "reference": path(f"train{target}"),
                    }
                    for way, (source, target) in sides.items()
                }
            case "highres" if family == "pix2pix":
                return {"kind": "colours", "train": [path("train")]}, {"sets": [path("test")]}
            case "highres":
                return {"kind": "highres", "train": [path("train")]}, {
                    "sets": [path("test")],
                    "middle_px": _UPSCALED_PX,
                }
            case "style":
                style = next(name for name in self.checksums if name.startswith("style/"))
                data = {"kind": "content", "train": [path("train")], "style": path(style)}
                return data, {"photos": path("test"), "side_px": _PAINTED_PX}
