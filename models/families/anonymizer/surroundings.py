"""A face painted from surroundings and landmarks alone (DeepPrivacy, Hukkelås et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models import losses
from models.blocks import PatchGAN, initialise_gan
from models.faces.confidence import FaceConfidence
from models.faces.embedding import EMBEDDED, MobileFaceNet
from models.families.anonymizer.conditions import code_of, face_mask, pack_surroundings
from models.families.anonymizer.painter import SURROUNDINGS, FaceConfig
from models.families.anonymizer.terms import (
    AnonymizerConfig,
    FaceObjective,
    augmented_window,
    coarse,
)
from models.objective import Batch, GeneratorStep, Terms

_OTHER_BITS = 0.35  # of a neighbour's code; of two drawn by chance, 5 % have fewer
_CORE = 0.88  # of the mask's radii; between it and the rim people differ less than pictures do


class SurroundingsObjective(FaceObjective):
    """The code says who is painted: in training it is made of a person's embedding.

    With the face's own code the face itself is to be painted, with another's that person's into
    these surroundings, as face swaps are trained (FaceShifter, Li et al. 2020). So codes spread
    over as many people as there are, and one drawn by chance is nobody's; half of the others' are
    drawn so. Their faces are painted once more by codes that share most bits with theirs, and shall
    be other people's. The discriminator knows hole and landmarks too.
    """

    directions: Tensor

    def __init__(
        self, generator: FaceConfig, config: AnonymizerConfig, embedding: MobileFaceNet
    ) -> None:
        super().__init__(generator, embedding)
        names = ("adversarial", "changed", "kept", "found", "rebuilt", "meant", "around", "apart")
        self.weights = {name: getattr(config, name) for name in names}
        self.margin = config.margin
        discriminator = PatchGAN(
            SURROUNDINGS, config.patch_channels, config.patch_layers, config.patch_norm
        )
        initialise_gan(discriminator)
        self.discriminators["face"] = discriminator
        self.confidence = FaceConfidence()
        self.conventions = {
            **self.conventions,
            "detector": "MTCNN of facenet-pytorch, its second and third network",
        }
        fixed = torch.Generator().manual_seed(0)
        directions = torch.randn(EMBEDDED, generator.code_length, generator=fixed)
        self.register_buffer("directions", directions, persistent=False)

    def generator_step(self, batch: Batch) -> GeneratorStep:
        face = batch["face"]
        count = len(face)
        half = count // 2
        person = self.embedding(augmented_window(face))
        people = torch.cat((person, person.roll(1, 0)))
        code = people @ self.directions  # of about normally distributed values
        nobody = code[count + half :]
        nobody.copy_(code_of(torch.rand_like(nobody) < 0.5, nobody))
        neighbour = torch.where(torch.rand_like(nobody) < _OTHER_BITS, -nobody, nobody)
        code = torch.cat((code, neighbour))
        x, landmarks = (torch.cat((y, y, y[half:])) for y in (face, batch["landmarks"]))
        packed = pack_surroundings(x, landmarks, code)
        painted = self.generators["surroundings"](packed).float()
        mask, core = face_mask(x), face_mask(x, _CORE)
        seen = torch.cat((painted, self._known(packed)), dim=1)
        who = self.embedding(augmented_window(painted))
        _, others, neighbours = who.split((count, count, count - half))
        terms = {
            "adversarial": losses.least_squares_generator(self.discriminators["face"](seen)),
            "rebuilt": losses.mean_absolute_error(painted[:count] * mask, face * mask),
            "meant": 2 - losses.likeness(_unit(who @ self.directions), _unit(code), -1.0),
            "changed": losses.likeness(others, person, self.margin),
            "apart": losses.likeness(neighbours, others[half:]),
            "kept": losses.mean_absolute_error(coarse(painted), coarse(x)),
            "found": losses.face_classification(self.confidence(painted)),
            "around": losses.mean_absolute_error(painted * (1 - core), x * (1 - core)),
        }
        return GeneratorStep(terms, {"face": seen.detach()})

    def discriminator_step(self, batch: Batch, fakes: Mapping[str, Tensor]) -> Terms:
        discriminator, face = self.discriminators["face"], batch["face"]
        fake = fakes["face"]
        real = torch.cat((face, fake[: len(face), 3:]), dim=1)
        return {
            "face": losses.least_squares_discriminator(discriminator(real), discriminator(fake))
        }

    def preview(self, generators: Mapping[str, nn.Module], batch: Batch) -> list[Tensor]:
        x = batch["face"]
        fixed = torch.Generator().manual_seed(0)
        codes = [self.embedding(augmented_window(x)) @ self.directions]
        codes += [
            code_of(torch.rand(1, self.code_length, generator=fixed) < 0.5, x).expand(len(x), -1)
            for _ in range(3)
        ]
        columns = [x]
        for code in codes:
            packed = pack_surroundings(x, batch["landmarks"], code)
            columns.append(generators["surroundings"](packed))
        return columns

    def _known(self, packed: Tensor) -> Tensor:
        """Return the mask and the landmarks' spots."""
        return packed[:, 3 : -self.code_length]


def _unit(codes: Tensor) -> Tensor:
    return nn.functional.normalize(codes)
