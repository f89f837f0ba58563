"""Training data: the k-th sample is a pure function of (seed, k).

So the order does not depend on the number of loading processes, and a training resumed at step n
sees exactly the batches an uninterrupted one would have seen from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

from models import lab
from models.alignment import LANDMARKS, Alignment
from models.errors import ImageError, InvalidDataset
from models.faces import Detector
from models.mtcnn import MTCNN
from models.pictures import Pictures, read_picture, reduced, resized, rgb_of, signed
from models.recipe import (
    ColoursData,
    ContentData,
    Data,
    FacesData,
    HighResolutionData,
    PairedData,
    UnpairedData,
)

log = logging.getLogger(__name__)

Sample = dict[str, Tensor]


def _augmentation(load_px: int, crop_px: int, flip: bool) -> Callable[[Tensor], Tensor]:
    """Resize the short side, crop, mirror: pix2pix's jitter (Isola et al. 2017, section 6.2)."""
    steps: list[torch.nn.Module] = [
        v2.Resize(max(load_px, crop_px), interpolation=v2.InterpolationMode.BICUBIC),
        v2.RandomCrop(crop_px),
    ]
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    augmentation: Callable[[Tensor], Tensor] = v2.Compose(steps)
    return augmentation


class _Shuffled:
    """An endless shuffled pass over `length` items: a new permutation each epoch."""

    def __init__(self, length: int, seed: int) -> None:
        self._length, self._seed = length, seed
        self._epoch, self._order = -1, torch.empty(0)

    def __getitem__(self, k: int) -> int:
        epoch, position = divmod(k, self._length)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
            self._epoch = epoch
            self._order = torch.randperm(self._length, generator=generator)
        return int(self._order[position])


class Samples(Dataset[Sample]):
    """Base of the kinds: draws pictures by shuffled index and augments them reproducibly."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __getitem__(self, k: int) -> Sample:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed((self._seed << 40) ^ k)  # the CPU's alone
            return self.draw(k)

    def draw(self, k: int) -> Sample:
        """Return the k-th sample, using the global generator, which the caller has seeded."""
        raise NotImplementedError


class PairedSamples(Samples):
    """Condition "a" and target "b", cropped and mirrored alike."""

    def __init__(self, data: PairedData, root: Path, seed: int) -> None:
        super().__init__(seed)
        self._first = Pictures(root, data.train)
        self._second = Pictures(root, data.targets) if data.targets else None
        self._pairs = [(i, i) for i in range(len(self._first))]
        if self._second:
            self._pairs = _equally_named(self._first.paths, self._second.paths)
        self._order = _Shuffled(len(self._pairs), seed)
        self._swap = data.direction == "BtoA"
        self._augment = _augmentation(data.load_px, data.crop_px, data.flip)

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
            if first.shape != second.shape:
                name = self._first.paths[index_first].name
                raise InvalidDataset(f"the two pictures called {name} differ in size")
        return (second, first) if self._swap else (first, second)


def _equally_named(first: list[Path], second: list[Path]) -> list[tuple[int, int]]:
    """Index pairs of the files that have the same name, apart from the suffix."""
    partners = {path.stem: index for index, path in enumerate(second)}
    pairs = [(i, partners.pop(path.stem)) for i, path in enumerate(first) if path.stem in partners]
    if not pairs:
        raise InvalidDataset("no picture has one of the same name in the targets' folder")
    if alone := len(first) + len(second) - 2 * len(pairs):
        log.warning("left out, having no partner of the same name: %d pictures", alone)
    return pairs


class UnpairedSamples(Samples):
    """Unrelated "a" and "b", each from its own shuffled set."""

    def __init__(self, data: UnpairedData, root: Path, seed: int) -> None:
        super().__init__(seed)
        self._sets = {"a": Pictures(root, data.a), "b": Pictures(root, data.b)}
        self._orders = {
            name: _Shuffled(len(pictures), 2 * seed + index)
            for index, (name, pictures) in enumerate(self._sets.items())
        }
        self._augment = _augmentation(data.load_px, data.crop_px, data.flip)

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
        self._order = _Shuffled(len(self._pictures), seed)
        self._scale = scale
        self._crop = v2.RandomCrop(data.crop_px)
        self._flip = data.flip

    def draw(self, k: int) -> Sample:
        high: Tensor = self._crop(self._pictures[self._order[k]])
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
        self._order = _Shuffled(len(self._pictures), seed)
        self._augment = _augmentation(data.load_px, data.crop_px, data.flip)

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


def held_out(count: int, every: int) -> range:
    """Return which of `count` pictures, every n-th, training leaves out; none for 0."""
    return range(0, count, every) if every else range(0)


class FaceSamples(Samples):
    """An aligned "face" and, where asked for, its "landmarks", (5, 2) in pixels."""

    def __init__(self, data: FacesData, root: Path, seed: int) -> None:
        super().__init__(seed)
        detector = MTCNN(torch.device("cpu"))
        self._detector = detector if data.landmarks else None
        self._sets: list[Subset[Tensor] | list[Tensor]]
        self._sets = [_trained(Pictures(root, data.train), data.held_out)]
        if data.portraits:
            photos = _trained(Pictures(root, data.portraits), data.held_out)
            self._sets.append(_cut_out(photos, detector))
        self._orders = [_Shuffled(len(faces), seed + i) for i, faces in enumerate(self._sets)]
        self._portrait_share = data.portrait_share if data.portraits else 0.0
        self._side_px = data.crop_px
        self._flip = data.flip
        self._grey, self._coarse = data.grey, data.coarse
        self._landmarks: dict[tuple[int, int], Tensor] = {}

    def draw(self, k: int) -> Sample:
        source = int(self._portrait_share > 0 and bool(torch.rand(()) < self._portrait_share))
        index = self._orders[source][k]
        face = resized(self._sets[source][index], self._side_px, self._side_px)
        mirror = self._flip and bool(torch.rand(()) < 0.5)
        sample = {"face": signed(self._poorer(face.flip(2) if mirror else face))}
        if self._detector:
            if (source, index) not in self._landmarks:
                self._landmarks[source, index] = _landmarks(self._detector, face)
            points = self._landmarks[source, index]
            sample["landmarks"] = _mirrored(points, self._side_px) if mirror else points
        return sample

    def _poorer(self, face: Tensor) -> Tensor:
        """Take colour and detail from some, as old and small photographs lack them."""
        if self._grey and torch.rand(()) < self._grey:
            face = v2.functional.rgb_to_grayscale(face, num_output_channels=3)
        if self._coarse and torch.rand(()) < self._coarse:
            side_px = int(torch.randint(self._side_px // 4, self._side_px, ()))
            face = resized(resized(face, side_px, side_px), self._side_px, self._side_px)
        return face


def _trained(pictures: Pictures, every: int) -> Subset[Tensor]:
    """Return all pictures but those held out."""
    left = held_out(len(pictures), every)
    trained = [i for i in range(len(pictures)) if i not in left]
    if not trained:
        raise InvalidDataset("held_out leaves no picture to train on")
    return Subset(pictures, trained)


def _cut_out(photos: Subset[Tensor], detector: Detector) -> list[Tensor]:
    """Return the surest face of each photo, aligned, (3, 128, 128); photos without one go."""
    faces = []
    for index in range(len(photos)):
        rgb = rgb_of(photos[index])
        if found := detector(rgb):
            crop = Alignment.of_face(found[0], rgb.shape[:2]).crop(rgb)
            faces.append(torch.from_numpy(crop).permute(2, 0, 1).contiguous())
    if not faces:
        raise InvalidDataset("no face was found in the portraits")
    return faces


def _landmarks(detector: Detector, face: Tensor) -> Tensor:
    """Return (5, 2) float32 of the surest face; where an aligned face has them if none is found."""
    found = detector.look(rgb_of(face))
    points = max(found, key=lambda f: f.confidence).landmarks if found else LANDMARKS
    return torch.from_numpy(points).float()


def _mirrored(points: Tensor, width: int) -> Tensor:
    """Mirror landmarks (5, 2): what was left is right."""
    x, y = points[[1, 0, 2, 4, 3]].unbind(1)
    return torch.stack((width - x, y), dim=1)


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


def batches(
    samples: Samples, batch: int, first_step: int, steps: int, workers: int, rank: int, ranks: int
) -> Iterator[Sample]:
    """Yield the batches of steps `first_step` to `steps`.

    Step s of rank r holds samples (s * ranks + r) * batch onwards, so all ranks together see each
    sample once.
    """
    starts = ((step * ranks + rank) * batch for step in range(first_step, steps))
    yield from DataLoader(
        samples,
        batch_sampler=(list(range(start, start + batch)) for start in starts),
        generator=torch.Generator(),  # the global one must be as an uninterrupted run has it
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
