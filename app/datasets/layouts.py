"""Which picture of an upload is what: from names and sizes to the parts of a dataset.

Pure: nothing here touches a file. A part is a folder of the stored dataset: `train` and `test`;
`trainA`, `trainB`, `testA` and `testB`; and `style`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from models.errors import InvalidDataset

Kind = Literal["paired", "unpaired", "highres", "style"]
Size = tuple[int, int]  # height, width

EXPECTED: dict[Kind, str] = {
    "paired": "pictures with A and B side by side, or folders A and B with pictures of equal names",
    "unpaired": "two folders, A and B",
    "highres": "photos",
    "style": "one picture called style (style.jpg), and photos to be painted",
}
MIN_TRAINING = 2
MIN_TEST: dict[Kind, int] = {"paired": 1, "unpaired": 3, "highres": 1, "style": 1}
MIN_SIDE_PX = 32  # SSIM needs 19 of what an upscaler is tested on
_FEW_PICTURES, _SHOWN_REASONS = 20, 3
_MAX_TEST, _TEST_SHARE = 50, 10
_MIN_PAIRS_FOR_KID = 6  # for unpaired data, where nothing else is measured, MIN_TEST
_MAX_NAME_BYTES = 200
_CROP_PX = 96  # of upscalers' trainings, unless asked for another

_FOLDER = re.compile(r"(?:(train)(?:ing)?|(test)(?:ing)?|(val)(?:id(?:ation)?)?)?[ _-]?([ab])?")


@dataclass
class Arrangement:
    """What goes where.

    Attributes:
        parts: for each part, the stored names and the names in the upload that they come from.
        skipped: why a picture of the upload is in no part.
        warnings: what is usable and yet worth a look.
    """

    parts: dict[str, dict[str, str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Number of pictures in each part."""
        return {part: len(names) for part, names in self.parts.items()}


class _Place(NamedTuple):
    source: str
    split: str  # "train", "test", "val" or ""
    side: str  # "A", "B" or ""
    name: str


def arrange(
    sizes: Mapping[str, Size], kind: Kind, skipped: Mapping[str, str] | None = None
) -> Arrangement:
    """Sort the usable pictures of an upload, given by name ("A/1.jpg") with their sizes.

    One folder around everything is looked through. Pictures in further folders count as if they
    lay above, with the folders in their names. Without a test part a tenth is held out, chosen by
    a hash of the name. `skipped` are the files that are no usable pictures, and why.

    Raises:
        InvalidDataset: a part is empty or nearly so; says what was found and what is expected.
    """
    made = Arrangement(skipped=dict(skipped or {}))
    places = _places(sizes, kind)
    if kind == "style":
        places = _take_style(places, made)
    two_sided = kind == "unpaired" or (kind == "paired" and any(place.side for place in places))
    if two_sided:
        for place in places:
            if not place.side:
                made.skipped[place.source] = "in neither of the folders A and B"
        places = [place for place in places if place.side]
    for split in ("train", "test"):
        for side in ("A", "B") if two_sided else ("",):
            chosen = [place for place in places if (place.split, place.side) == (split, side)]
            made.parts[split + side] = _named(chosen, made, by_stem=kind == "paired")
    if kind == "paired" and two_sided:
        for split in ("train", "test"):
            _keep_pairs(made, split, sizes)
    for side in ("A", "B") if two_sided else ("",):
        _hold_out(made.parts["train" + side], made.parts["test" + side], kind)
    _check(made, kind)
    _warn(made, sizes, kind)
    return made


def _places(sizes: Mapping[str, Size], kind: Kind) -> list[_Place]:
    paths = {name: PurePosixPath(name).parts for name in sorted(sizes)}
    while paths:
        tops = {parts[0] if len(parts) > 1 else "" for parts in paths.values()}
        top = tops.pop()
        if tops or not top or _meaning(top, kind) != ("", ""):
            break
        paths = {name: parts[1:] for name, parts in paths.items()}
    places = [_place(name, parts, kind) for name, parts in paths.items()]
    if any(place.split == "test" for place in places):
        # A validation part is then more to train on; its pictures may be called as those there.
        validation = [place for place in places if place.split == "val"]
        places = [place for place in places if place.split != "val"]
        places += [p._replace(split="train", name=_short(f"val-{p.name}")) for p in validation]
    renamed = {"val": "test", "": "train"}
    return [place._replace(split=renamed.get(place.split, place.split)) for place in places]


def _place(source: str, parts: tuple[str, ...], kind: Kind) -> _Place:
    split = side = ""
    folders = list(parts[:-1])
    while folders:
        found_split, found_side = _meaning(folders[0], kind)
        nothing = not found_split and not found_side
        if nothing or (split and found_split) or (side and found_side):
            break
        split, side = split or found_split, side or found_side
        folders.pop(0)
    return _Place(source, split, side, _short("-".join((*folders, parts[-1]))))


def _meaning(folder: str, kind: Kind) -> tuple[str, str]:
    """Return what split and side a folder's name stands for, "" for none."""
    match = _FOLDER.fullmatch(folder.lower())
    if kind == "style" and folder.lower() == "style":
        return "style", ""
    if not match:
        return "", ""
    side = (match[4] or "").upper()
    if side and kind in ("highres", "style"):
        return "", ""
    return match[1] or match[2] or match[3] or "", side


def _short(name: str) -> str:
    """Keep a name within what file systems take, and pairs of different suffixes pairs."""
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    return _stem_hash(name).hex()[:32] + PurePosixPath(name).suffix[:8]


def _stem(name: str) -> str:
    return PurePosixPath(name).stem.casefold()


def _stem_hash(name: str) -> bytes:
    return hashlib.sha256(_stem(name).encode()).digest()


def _take_style(places: list[_Place], made: Arrangement) -> list[_Place]:
    def is_style(place: _Place) -> bool:
        return place.split == "style" or _stem(place.name) == "style"

    styles = [place for place in places if is_style(place)]
    if len(styles) != 1:
        raise InvalidDataset(
            f"found {len(styles)} style pictures among {len(places)} usable pictures"
            f"{_left_out(made)}; style expects {EXPECTED['style']}"
        )
    suffix = PurePosixPath(styles[0].name).suffix
    made.parts["style"] = {f"style{suffix.lower()}": styles[0].source}
    return [place for place in places if not is_style(place)]


def _named(places: list[_Place], made: Arrangement, *, by_stem: bool) -> dict[str, str]:
    key: Callable[[str], str] = _stem if by_stem else str.casefold
    names: dict[str, str] = {}
    taken: set[str] = set()
    for place in places:
        if key(place.name) in taken:
            made.skipped[place.source] = "another picture of this part has the same name"
        else:
            taken.add(key(place.name))
            names[place.name] = place.source
    return names


def _keep_pairs(made: Arrangement, split: str, sizes: Mapping[str, Size]) -> None:
    """Leave only pictures that have a partner of the same name and size."""
    sides = {
        side: {_stem(name): (name, source) for name, source in made.parts[split + side].items()}
        for side in ("A", "B")
    }
    for side, other in (("A", "B"), ("B", "A")):
        kept = made.parts[split + side] = {}
        for stem, (name, source) in sides[side].items():
            if stem not in sides[other]:
                made.skipped[source] = f"no picture of this name in {other}"
            elif sizes[source] != sizes[sides[other][stem][1]]:
                made.skipped[source] = f"its partner in {other} has another size"
            else:
                kept[name] = source


def _hold_out(train: dict[str, str], test: dict[str, str], kind: Kind) -> None:
    """Move about a tenth to an empty test part: for pairs, the same names on both sides."""
    if test:
        return
    count = min(max(MIN_TEST[kind], round(len(train) / _TEST_SHARE)), _MAX_TEST)
    if kind == "paired" and len(train) >= 4 * _MIN_PAIRS_FOR_KID:
        count = max(count, _MIN_PAIRS_FOR_KID)
    for name in sorted(sorted(train, key=_stem_hash)[:count]):
        test[name] = train.pop(name)


def _left_out(made: Arrangement) -> str:
    """Say how many files are not used, with some of the reasons."""
    if not made.skipped:
        return ""
    names = {why: name for name, why in reversed(made.skipped.items())}
    some = "; ".join(f"{names[why]}: {why}" for why in list(names)[:_SHOWN_REASONS])
    return f" and {len(made.skipped)} other files ({some})"


def _check(made: Arrangement, kind: Kind) -> None:
    short = [
        part
        for part, count in made.counts.items()
        if count < {"train": MIN_TRAINING, "test": MIN_TEST[kind]}.get(part.rstrip("AB"), 1)
    ]
    if short:
        found = ", ".join(f"{count} in {part}" for part, count in made.counts.items())
        raise InvalidDataset(
            f"found usable pictures: {found}{_left_out(made)}; {kind} expects {EXPECTED[kind]}: "
            f"at least {MIN_TRAINING} to train on and {MIN_TEST[kind]} to test with"
            + " on each side"
            * any(part.endswith("B") for part in made.parts)
        )


def warn_of_doubles(made: Arrangement, checksums: Mapping[str, str]) -> None:
    """Tell of files that two parts hold, by the checksums of PART/NAME."""
    parts: dict[str, set[str]] = {}
    for path, sha256 in checksums.items():
        parts.setdefault(path.partition("/")[0], set()).add(sha256)
    for one, other in itertools.combinations(sorted(parts), 2):
        if count := len(parts[one] & parts[other]):
            made.warnings.append(
                f"{count} {'picture is' if count == 1 else 'pictures are'} both in {one} and in "
                f"{other}: the comparison after a training says less with each"
            )


def _warn(made: Arrangement, sizes: Mapping[str, Size], kind: Kind) -> None:
    for part, names in made.parts.items():
        if part.startswith("train") and len(names) < _FEW_PICTURES:
            made.warnings.append(
                f"only {len(names)} pictures in {part}: expect them to be memorised"
            )
        if part.startswith("test") and len(names) < _FEW_PICTURES and kind == "unpaired":
            made.warnings.append(
                f"only {len(names)} pictures in {part}: the kernel distance (KID) that compares "
                "versions is coarse with so few"
            )
    if kind == "paired" and "train" in made.parts:
        shapes = [sizes[source] for source in made.parts["train"].values()]
        odd = sum(width != 2 * height for height, width in shapes)
        if 2 * odd > len(shapes):
            made.warnings.append(
                f"{odd} of {len(shapes)} training pictures are not twice as wide as high, as two "
                "squares side by side are: make sure that A and B are in them"
            )
    if kind == "highres":
        sides = [min(sizes[source]) for source in made.parts.get("train", {}).values()]
        small = sum(side < _CROP_PX for side in sides)
        if small:
            made.warnings.append(
                f"{small} of {len(sides)} training photos have a side below {_CROP_PX} pixels, the "
                "crop of upscalers: these learn from them only with a smaller crop_px"
            )
    tests = made.parts.get("test", made.parts.get("testA", {}))
    if kind == "paired" and len(tests) < _MIN_PAIRS_FOR_KID:
        made.warnings.append(
            f"{len(tests)} test pairs: a kernel distance (KID) takes {_MIN_PAIRS_FOR_KID}"
        )
