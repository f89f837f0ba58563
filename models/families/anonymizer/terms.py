"""What the trainings of both face generators share: networks, weights and views of faces."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from models.blocks import Norm
from models.faces.embedding import EMBEDDED_PX, MobileFaceNet
from models.faces.geometry import FACE_PX
from models.faces.windows import window_of
from models.families.anonymizer.networks import build_generator
from models.families.anonymizer.painter import FaceConfig
from models.family import Config
from models.objective import Objective

# Of the window of an aligned face that the embedding was trained on: eyes at (38.3, 51.6) and
# (73.5, 51.6) of 112 there, at (48, 60) and (80.5, 60) of 128 here.
_WINDOW_CENTRE_PX, _WINDOW_PX = (64.3, 64.1), 103.3


class AnonymizerConfig(Config):
    """Weights of the terms and the discriminator.

    Attributes:
        changed: of the new faces' likeness to the person, beyond `margin`.
        kept: of the difference in light and tone: of pictures reduced to a sixteenth.
        found: of the detector's doubt that a new face is one.
        rebuilt: of the difference to the face itself, painted by its own code.
        meant: of the unlikeness to the person whose code it is.
        around: of the difference outside the face and at its rim, where it joins the picture.
        apart: of the likeness of two new faces in the same picture whose codes share most bits.
        margin: cosine of embeddings up to which two faces count as two people.
        patch_layers: as in `PatchGAN`; 4 judges the whole face.
        restored: of the difference to the face that was hidden (this and what follows for
            "identity", all above for "surroundings").
        recognised: of the unlikeness of the restored face to the person.
        decoy: of what a wrong passcode changes in the face that it paints.
    """

    adversarial: float = Field(2.0, ge=0)
    changed: float = Field(2.0, ge=0)
    kept: float = Field(4.0, ge=0)
    found: float = Field(0.3, ge=0)
    rebuilt: float = Field(10.0, ge=0)
    meant: float = Field(12.0, ge=0)
    around: float = Field(10.0, ge=0)
    apart: float = Field(5.0, ge=0)
    margin: float = Field(0.0, ge=-1, lt=1)
    patch_layers: int = Field(4, ge=1, le=5)
    patch_channels: int = Field(32, ge=1)
    patch_norm: Norm = "instance"
    restored: float = Field(10.0, ge=0)
    recognised: float = Field(1.0, ge=0)
    decoy: float = Field(5.0, ge=0)


class FaceObjective(Objective):
    """Base of the two: a generator named by its condition.

    `embedding`, frozen, tells who a face is.
    """

    def __init__(self, generator: FaceConfig, embedding: MobileFaceNet) -> None:
        super().__init__()
        self.code_length = generator.code_length
        self.generators[generator.condition] = build_generator(generator)
        self.embedding = embedding
        self.conventions = {"embedding": "MobileFaceNet, 112 px, ImageNet normalisation"}


def augmented_window(faces: Tensor) -> Tensor:
    """(B, 3, 128, 128) -> (B, 3, 112, 112), what an embedding looks at, each face a bit otherwise.

    Moved, turned, scaled, brightened, softened and half of them without colour, at random, so that
    a generator cannot answer one network's blind spots with noise or paint instead of another face.
    """
    count, device = len(faces), faces.device

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(count, device=device) * (high - low) + low

    angle, scale = draw(-0.1, 0.1), draw(0.92, 1.08) * _WINDOW_PX / FACE_PX
    cos, sin = angle.cos() * scale, angle.sin() * scale
    centre = [2 * (c + 0.5) / FACE_PX - 1 for c in _WINDOW_CENTRE_PX]
    right, down = draw(-0.05, 0.05) + centre[0], draw(-0.05, 0.05) + centre[1]
    matrix = torch.stack((cos, -sin, right, sin, cos, down), dim=1).view(count, 2, 3)
    window = window_of(faces, matrix, EMBEDDED_PX, "reflection")
    soft = nn.functional.avg_pool2d(nn.functional.pad(window, (1, 1, 1, 1), "reflect"), 3, 1)
    share = draw(0, 1)[:, None, None, None]
    window = torch.lerp(window, soft, share)
    coloured = (draw(0, 1) < 0.5)[:, None, None, None]
    window = torch.where(coloured, window, window.mean(1, keepdim=True))
    return window * draw(0.8, 1.2)[:, None, None, None] + draw(-0.1, 0.1)[:, None, None, None]


def coarse(pictures: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H / 16, W / 16): light and the skin's tone, and no face."""
    return nn.functional.avg_pool2d(pictures.float(), 16)
