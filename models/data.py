"""Training data of every kind: what a recipe's [data] table names, opened."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms import v2

from models import lab
from models.errors import ImageError, InvalidDataset
from models.faces.samples import FaceSamples
from models.pictures import Pictures, read_picture, reduced, resized, signed
from models.recipe import (
    ColoursData,
    ContentData,
    CroppedData,
    Data,
    FacesData,
    HighResolutionData,
    PairedData,
    UnpairedData,
)
from models.sampling import Sample, Samples, Shuffled

log = logging.getLogger(__name__)


def _augmentation(data: CroppedData) -> Callable[[Tensor], Tensor]:
    """Resize the short side, crop, mirror: pix2pix's jitter (Isola et al. 2017, section 6.2)."""
    least_px, bicubic = max(data.load_px, data.crop_px), v2.InterpolationMode.BICUBIC
    resize = (
        v2.RandomResize(least_px, data.max_load_px + 1, interpolation=bicubic)
        if data.max_load_px
        else v2.Resize(least_px, interpolation=bicubic)
    )
    steps: list[torch.nn.Module] = [resize, v2.RandomCrop(data.crop_px)]
    if data.flip:
        steps.append(v2.RandomHorizontalFlip())
    augmentation: Callable[[Tensor], Tensor] = v2.Compose(steps)
    return augmentation


class PairedSamples(Samples):
    """Condition "a" and target "b", cropped and mirrored alike."""

    def __init__(self, data: PairedData, root: Path, seed: int) -> None:
        super().__init__(seed)
        self._second = Pictures(root, data.targets) if data.targets else None
        self._first = Pictures(root, data.train, min_px=1 if self._second else 2)
        self._pairs = [(i, i) for i in range(len(self._first))]
        if self._second:
            self._pairs = equally_named(self._first.paths, self._second.paths)
            for one, other in self._pairs:
                if self._first.sizes[one] != self._second.sizes[other]:
                    name = self._first.paths[one].name
                    raise InvalidDataset(f"the two pictures called {name} differ in size")
        self._order = Shuffled(len(self._pairs), seed)
        self._swap = data.direction == "BtoA"
        self._augment = _augmentation(data)

    @property
    def pair_count(self) -> int:
        """Number of pairs that `pair` knows."""
        return len(self._pairs)

    def draw(self, k: int) -> Sample:
        first, second = self.pair(self._order[k])
        both = signed(self._augment(torch.cat((first, second))))
        return {"a": both[:3], "b": both[3:]}

    def pair(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (condition, target) number `index`, whole, uint8."""
        index_first, index_second = self._pairs[index]
        picture = self._first[index_first]
        if self._second is None:
            half = picture.shape[2] // 2
            first, second = picture[..., :half], picture[..., half : 2 * half]
        else:
            first, second = picture, self._second[index_second]
        return (second, first) if self._swap else (first, second)


def equally_named(first: list[Path], second: list[Path], ending: str = "") -> list[tuple[int, int]]:
    """Index pairs of the files that have the same name, whatever its case and suffix.

    Names of the second may have an `ending` more than those of the first. Raises InvalidDataset
    when a name comes twice or no file has a partner.
    """
    names = [path.stem.casefold() for path in first]
    known = set(names)
    partner_names = [
        name if name in known else name.removesuffix(ending)
        for name in (path.stem.casefold() for path in second)
    ]
    for side in (names, partner_names):
        name, times = Counter(side).most_common(1)[0]
        if times > 1:
            raise InvalidDataset(f"{times} pictures are called {name}: whose partner is unclear")
    partners = {name: index for index, name in enumerate(partner_names)}
    pairs = [(i, partners.pop(name)) for i, name in enumerate(names) if name in partners]
    if not pairs:
        raise InvalidDataset("no picture has a partner of the same name")
    if alone := len(first) + len(second) - 2 * len(pairs):
        log.warning("left out, having no partner of the same name: %d pictures", alone)
    return pairs


class UnpairedSamples(Samples):
    """Unrelated "a" and "b", each from its own shuffled set."""

    def __init__(self, data: UnpairedData, root: Path, seed: int) -> None:
        super().__init__(seed)
        self._sets = {"a": Pictures(root, data.a), "b": Pictures(root, data.b)}
        self._orders = {
            name: Shuffled(len(pictures), 2 * seed + index)
            for index, (name, pictures) in enumerate(self._sets.items())
        }
        self._augment = _augmentation(data)

    def draw(self, k: int) -> Sample:
        return {
            name: signed(self._augment(pictures[self._orders[name][k]]))
            for name, pictures in self._sets.items()
        }


class HighResolutionSamples(Samples):
    """A crop "high" and "low", its 8-bit antialiased bicubic reduction by `scale`."""

    def __init__(self, data: HighResolutionData, root: Path, seed: int, scale: int) -> None:
        super().__init__(seed)
        self._pictures = Pictures(root, data.train, min_px=data.crop_px)
        self._order = Shuffled(len(self._pictures), seed)
        self._scale = scale
        self._crop_px, self._min_factor = data.crop_px, data.min_factor
        self._flip = data.flip

    def draw(self, k: int) -> Sample:
        picture, crop_px = self._pictures[self._order[k]], self._crop_px
        taken_px = crop_px
        if self._min_factor < 1:
            factor = 1 - (1 - self._min_factor) * float(torch.rand(()))
            taken_px = min(round(crop_px / factor), *picture.shape[1:])
        high = resized(v2.RandomCrop(taken_px)(picture), crop_px, crop_px)
        if self._flip:
            turns, mirror = int(torch.randint(4, ())), bool(torch.rand(()) < 0.5)
            high = high.rot90(turns, (1, 2))
            high = high.flip(2) if mirror else high
        return {"low": signed(reduced(high, self._scale)), "high": signed(high)}


class PhotoSamples(Samples):
    """Base of the kinds that take crops of one set of photos."""

    def __init__(self, data: ContentData | ColoursData, root: Path, seed: int) -> None:
        super().__init__(seed)
        self._pictures = Pictures(root, data.train)
        self._order = Shuffled(len(self._pictures), seed)
        self._augment = _augmentation(data)

    def photo(self, k: int) -> Tensor:
        """Draw a crop, (3, H, W) in [-1, 1]."""
        return signed(self._augment(self._pictures[self._order[k]]))


class ContentSamples(PhotoSamples):
    """A crop of a photo, "content"."""

    def draw(self, k: int) -> Sample:
        return {"content": self.photo(k)}


class ColourSamples(PhotoSamples):
    """The lightness of a crop, "a", and its chroma, "b"; see `models.lab`."""

    def draw(self, k: int) -> Sample:
        lightness, chroma = lab.split(self.photo(k))
        return {"a": lightness, "b": chroma}


def open_samples(data: Data, root: Path, seed: int, scale: int = 1) -> Samples:
    """Return the samples of a recipe's [data] table; paths are relative to `root`."""
    match data:
        case PairedData():
            return PairedSamples(data, root, seed)
        case UnpairedData():
            return UnpairedSamples(data, root, seed)
        case HighResolutionData():
            return HighResolutionSamples(data, root, seed, scale)
        case ContentData():
            return ContentSamples(data, root, seed)
        case ColoursData():
            return ColourSamples(data, root, seed)
        case FacesData():
            return FaceSamples(data, root, seed)


def style_image(data: ContentData, root: Path) -> Tensor:
    """Return the style image, (1, 3, H, W) in [-1, 1], its long side `style_px`."""
    try:
        picture = read_picture(root / data.style)
    except (OSError, ImageError) as error:
        raise InvalidDataset(f"cannot read the style image {data.style}: {error}") from error
    factor = data.style_px / max(picture.shape[1:])
    size = (max(32, round(side * factor)) for side in picture.shape[1:])
    return signed(resized(picture, *size))[None]
