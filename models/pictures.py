"""Pictures as training and evaluation read them: folders of files, as uint8 tensors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from models import images
from models.errors import ImageError, InvalidDataset
from models.images import Pixels

log = logging.getLogger(__name__)

_CACHE_BYTES = 2 << 30


class Pictures(Dataset[Tensor]):
    """The usable images of some folders, sorted by name, as uint8 (3, H, W) tensors.

    Every file is decoded once; what does not decode, or has a side below `min_px`, is named in the
    log and left out. With `limit` there are at most so many files, evenly spaced. Decoded pictures
    are kept in memory up to 2 GiB. Raises InvalidDataset when nothing is left.

    Attributes:
        paths: of the usable files.
        sizes: (H, W) of each.
    """

    def __init__(
        self, root: Path, folders: Sequence[str], min_px: int = 1, limit: int | None = None
    ) -> None:
        self.paths: list[Path] = []
        self.sizes: list[tuple[int, int]] = []
        self._kept: dict[int, Tensor] = {}
        bytes_left = _CACHE_BYTES
        files, skipped = _files(root, folders), ""
        for path in (files[index] for index in evenly_spaced(len(files), limit)):
            try:
                picture = read_picture(path)
                if min(picture.shape[1:]) < min_px:
                    raise ImageError(f"a side is shorter than {min_px} pixels")
            except (ImageError, OSError) as error:
                skipped = f"{path.name}: {error}"
                log.warning("skipped %s", skipped)
                continue
            if picture.nbytes <= bytes_left:
                self._kept[len(self.paths)] = picture
                bytes_left -= picture.nbytes
            self.paths.append(path)
            self.sizes.append((picture.shape[1], picture.shape[2]))
        if not self.paths:
            raise InvalidDataset(f"no usable image in {', '.join(folders)}; {skipped}")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        kept = self._kept.get(index)
        return read_picture(self.paths[index]) if kept is None else kept


def evenly_spaced(count: int, limit: int | None) -> list[int]:
    """Return `limit` of the numbers below `count`, all of them if these are fewer."""
    kept = min(count, limit or count)
    return [index * count // kept for index in range(kept)]


def _files(root: Path, folders: Sequence[str]) -> list[Path]:
    found = []
    for folder in folders:
        path = root / folder
        if not path.is_dir():
            raise InvalidDataset(f"there is no folder {folder} under the data root")
        pictures = sorted(
            p for p in path.iterdir() if p.suffix.lower() in images.FORMAT_OF_SUFFIX and p.is_file()
        )
        if not pictures:
            raise InvalidDataset(f"no usable image in {folder}")
        found += pictures
    return found


def read_picture(path: Path) -> Tensor:
    """Decode a file into uint8 (3, H, W)."""
    rgb = images.decode(path.read_bytes(), images.Limits()).rgb
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1).contiguous()


def rgb_of(picture: Tensor) -> Pixels:
    """uint8 (3, H, W) -> (H, W, 3), for what works on pixels."""
    return picture.permute(1, 2, 0).contiguous().numpy()


def signed(picture: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return picture.float() / 127.5 - 1


def reduced(picture: Tensor, scale: int) -> Tensor:
    """uint8 (3, sH, sW) -> (3, H, W), by antialiased bicubic interpolation."""
    return resized(picture, *(side // scale for side in picture.shape[1:]))


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    """Resample uint8 (3, H, W), if it has another size, by antialiased bicubic interpolation."""
    resized: Tensor = v2.functional.resize(
        picture, [height, width], interpolation=v2.InterpolationMode.BICUBIC, antialias=True
    )
    return resized
