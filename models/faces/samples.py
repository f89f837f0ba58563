"""Faces to train on: aligned ones, and those found in photos of people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset
from torchvision.transforms import v2

from models.errors import InvalidDataset
from models.faces.alignment import LANDMARKS, Alignment
from models.faces.detection import Detector
from models.faces.geometry import CENTRE_PX, FACE_PX, RADII_PX
from models.faces.mtcnn import MTCNN
from models.faces.registration import on_face
from models.pictures import Pictures, resized, rgb_of, signed
from models.recipe import FacesData
from models.sampling import Sample, Samples, Shuffled

_CUT = 0.7  # share of the borders that are near, of faces with borders
_INSIDE_PX = 10.0  # how far inside the ellipse the nearest are


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
        self._orders = [Shuffled(len(faces), seed + i) for i, faces in enumerate(self._sets)]
        self._portrait_share = data.portrait_share if data.portraits else 0.0
        self._side_px = data.crop_px
        self._flip = data.flip
        self._grey, self._coarse, self._retoned = data.grey, data.coarse, data.retoned
        self._bordered = data.bordered
        self._landmarks: dict[tuple[int, int], Tensor] = {}

    def draw(self, k: int) -> Sample:
        source = int(self._portrait_share > 0 and bool(torch.rand(()) < self._portrait_share))
        index = self._orders[source][k]
        face = resized(self._sets[source][index], self._side_px, self._side_px)
        mirror = self._flip and bool(torch.rand(()) < 0.5)
        sample = {"face": signed(self._varied(face.flip(2) if mirror else face))}
        if self._detector:
            if (source, index) not in self._landmarks:
                self._landmarks[source, index] = _landmarks(self._detector, face)
            points = self._landmarks[source, index]
            sample["landmarks"] = _mirrored(points, self._side_px) if mirror else points
        return sample

    def _varied(self, face: Tensor) -> Tensor:
        """Give some another tone; old photographs lack colour and detail, so some lose them."""
        if self._retoned and torch.rand(()) < self._retoned:
            face = _retoned(face)
        if self._grey and torch.rand(()) < self._grey:
            face = v2.functional.rgb_to_grayscale(face, num_output_channels=3)
        if self._coarse and torch.rand(()) < self._coarse:
            side_px = int(torch.randint(self._side_px // 4, self._side_px, ()))
            face = resized(resized(face, side_px, side_px), self._side_px, self._side_px)
        if self._bordered and torch.rand(()) < self._bordered:
            face = _bordered(face)
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


def _bordered(face: Tensor) -> Tensor:
    """Surround an aligned face, uint8 (3, 128, 128), as in a picture that ends near it.

    Each border is drawn from where the square ends to a little inside the face's ellipse, as in
    passport photos; some are left out. The face stays whole: what it is painted from changes.
    """
    ellipse = np.array((CENTRE_PX, np.subtract(FACE_PX, CENTRE_PX))) - RADII_PX
    ends = ellipse + _INSIDE_PX
    drawn = torch.rand(2, 2).numpy() * ends * (torch.rand(2, 2) < _CUT).numpy()
    (left, top), (right, bottom) = drawn.round().astype(int)
    rgb = rgb_of(face)
    part = rgb[top : FACE_PX - bottom, left : FACE_PX - right]
    moved = np.array([(1.0, 0.0, -left), (0.0, 1.0, -top)])
    seen = Alignment(moved, part.shape[:2]).crop(part)
    whole = np.where(on_face()[..., None], rgb, seen)
    return torch.from_numpy(whole).permute(2, 0, 1).contiguous()


def _retoned(face: Tensor) -> Tensor:
    """Draw another tone for the skin of an aligned face, and for what looks like it, and a light.

    Sets of generated faces have few dark ones. uint8 (3, 128, 128).
    """

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, 1, 1) * (high - low) + low

    rgb = face.float() / 255
    skin = rgb[:, 40:100, 40:90].flatten(1).median(1).values[:, None, None]
    strayed = ((rgb - skin) / skin.clamp(min=0.15)).square().sum(0)
    red_first = torch.cat((draw(1, 1.08, 1), draw(0.92, 1, 1), draw(0.85, 1, 1)))
    rgb = rgb * (1 - (-4 * strayed).exp() * (1 - draw(0.3, 1.15, 1) * red_first))
    rgb = rgb.clamp(0, 1) ** draw(-0.35, 0.35, 1).exp() * draw(0.8, 1.1, 1) * draw(0.94, 1.06, 3)
    return (rgb.clamp(0, 1) * 255).round().byte()
