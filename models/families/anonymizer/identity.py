"""Password-conditioned anonymization and its inverse (Gu et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models import losses
from models.blocks import PatchGAN, initialise_gan
from models.embedding import EMBEDDED_PX, MobileFaceNet
from models.face_geometry import FACE_PX
from models.families.anonymizer.conditions import face_mask, pack_identity
from models.families.anonymizer.networks import FaceConfig, build_generator
from models.objective import Batch, GeneratorStep, Objective, Terms

if TYPE_CHECKING:
    from models.families.anonymizer.objective import AnonymizerConfig

# Of the window of an aligned face that the embedding was trained on: eyes at (38.3, 51.6) and
# (73.5, 51.6) of 112 there, at (48, 60) and (80.5, 60) of 128 here.
_WINDOW_CENTRE_PX, _WINDOW_PX = (64.3, 64.1), 103.3


class IdentityObjective(Objective):
    """M = G(x, p) is somebody else, R = G(M, not p) is x again, W = G(M, q) is a third person."""

    def __init__(
        self, generator: FaceConfig, config: AnonymizerConfig, embedding: MobileFaceNet
    ) -> None:
        super().__init__()
        self.code_length = generator.code_length
        self.margin = config.margin
        self.weights = {
            name: getattr(config, name)
            for name in ("adversarial", "restored", "changed", "different", "kept", "around")
        } | {"recognised": config.changed}
        self.generators["identity"] = build_generator(generator)
        discriminator = PatchGAN(3, config.patch_channels, config.patch_layers, config.patch_norm)
        initialise_gan(discriminator)
        self.discriminators["face"] = discriminator
        self.embedding = embedding
        self.conventions = {"embedding": "MobileFaceNet, 112 px, ImageNet normalisation"}

    def generator_step(self, batch: Batch) -> GeneratorStep:
        x = batch["face"]
        generator = self.generators["identity"]
        p, p2, q = (torch.rand(len(x), self.code_length, device=x.device) < 0.5 for _ in range(3))
        new, other = generator(pack_identity(torch.cat((x, x)), torch.cat((p, p2)))).chunk(2)
        kept = eight_bit(new)  # what a file holds
        restored, wrong = generator(
            pack_identity(torch.cat((kept, kept)), torch.cat((~p, q)))
        ).chunk(2)

        faces = torch.cat((x, new, other, restored, wrong))
        people = self.embedding(augmented_window(faces.float())).chunk(5)
        person, new_one, other_one, restored_one, wrong_one = people
        strangers = torch.cat((new, other, wrong))
        fakes = torch.cat((new, wrong))
        around, three = 1 - face_mask(x), torch.cat((x, x, x))
        terms = {
            "adversarial": losses.least_squares_generator(self.discriminators["face"](fakes)),
            "restored": losses.mean_absolute_error(restored, x),
            "recognised": 2 - losses.likeness(restored_one, person, -1.0),
            "changed": losses.likeness(
                torch.cat((new_one, other_one, wrong_one)), person.repeat(3, 1), self.margin
            ),
            "different": losses.likeness(
                torch.cat((new_one, new_one)), torch.cat((other_one, wrong_one)), self.margin
            ),
            "kept": losses.mean_absolute_error(coarse(strangers), coarse(three)),
            "around": losses.mean_absolute_error(
                strangers * around, (x * around).repeat(3, 1, 1, 1)
            ),
        }
        return GeneratorStep(terms, {"face": fakes.detach()})

    def discriminator_step(self, batch: Batch, fakes: Mapping[str, Tensor]) -> Terms:
        discriminator = self.discriminators["face"]
        return {
            "face": losses.least_squares_discriminator(
                discriminator(batch["face"]), discriminator(fakes["face"])
            )
        }

    def preview(self, generators: Mapping[str, nn.Module], batch: Batch) -> list[Tensor]:
        generator, x = generators["identity"], batch["face"]
        fixed = torch.Generator().manual_seed(0)
        p, p2, q = (
            (torch.rand(1, self.code_length, generator=fixed) < 0.5).to(x.device).expand(len(x), -1)
            for _ in range(3)
        )
        new, other = generator(pack_identity(x, p)), generator(pack_identity(x, p2))
        kept = eight_bit(new)
        restored = generator(pack_identity(kept, ~p))
        return [x, new, other, restored, generator(pack_identity(kept, q))]


def eight_bit(pictures: Tensor) -> Tensor:
    """Round [-1, 1] to the 256 levels of a file; the gradient passes as if it did not."""
    rounded = pictures.detach().add(1).mul(127.5).round().div(127.5).sub(1)
    return pictures + (rounded - pictures.detach())


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
    grid = nn.functional.affine_grid(matrix, [count, 3, EMBEDDED_PX, EMBEDDED_PX], False)
    window = nn.functional.grid_sample(
        faces, grid, "bilinear", padding_mode="reflection", align_corners=False
    )
    soft = nn.functional.avg_pool2d(nn.functional.pad(window, (1, 1, 1, 1), "reflect"), 3, 1)
    share = draw(0, 1)[:, None, None, None]
    window = torch.lerp(window, soft, share)
    coloured = (draw(0, 1) < 0.5)[:, None, None, None]
    window = torch.where(coloured, window, window.mean(1, keepdim=True))
    return window * draw(0.8, 1.2)[:, None, None, None] + draw(-0.1, 0.1)[:, None, None, None]


def coarse(pictures: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H / 8, W / 8): light and pose, hardly a face."""
    return nn.functional.avg_pool2d(pictures.float(), 8)
