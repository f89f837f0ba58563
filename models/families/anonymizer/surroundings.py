"""A face painted from surroundings and landmarks alone (DeepPrivacy, Hukkelås et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models import losses
from models.embedding import MobileFaceNet
from models.families.anonymizer.conditions import face_mask, pack_surroundings
from models.families.anonymizer.networks import FaceConfig
from models.families.anonymizer.terms import (
    AnonymizerConfig,
    FaceObjective,
    augmented_window,
    coarse,
)
from models.objective import Batch, GeneratorStep, Terms


class SurroundingsObjective(FaceObjective):
    """Two codes paint two people into the hole; the discriminator knows hole and landmarks too."""

    def __init__(
        self, generator: FaceConfig, config: AnonymizerConfig, embedding: MobileFaceNet
    ) -> None:
        super().__init__(generator, config, embedding)
        self.weights |= {"around": config.around}

    def generator_step(self, batch: Batch) -> GeneratorStep:
        x = torch.cat((batch["face"], batch["face"]))
        code = torch.randn(len(x), self.code_length, device=x.device)
        packed = pack_surroundings(x, batch["landmarks"].repeat(2, 1, 1), code)
        painted = self.generators["surroundings"](packed).float()
        mask = face_mask(x)
        joined = painted * mask + x * (1 - mask)
        seen = torch.cat((joined, self._known(packed)), dim=1)
        person = self.embedding(augmented_window(batch["face"]))
        people = self.embedding(augmented_window(joined))
        one, other = people.chunk(2)
        terms = {
            "adversarial": losses.least_squares_generator(self.discriminators["face"](seen)),
            "changed": losses.likeness(people, person.repeat(2, 1), self.margin),
            "different": losses.likeness(one, other, self.margin),
            "kept": losses.mean_absolute_error(coarse(joined), coarse(x)),
            "found": losses.face_classification(self.confidence(joined)),
            "around": losses.mean_absolute_error(painted * (1 - mask), x * (1 - mask)),
        }
        half = len(x) // 2  # one of the two is enough for the discriminator
        return GeneratorStep(terms, {"face": seen[:half].detach()})

    def discriminator_step(self, batch: Batch, fakes: Mapping[str, Tensor]) -> Terms:
        discriminator = self.discriminators["face"]
        fake = fakes["face"]
        real = torch.cat((batch["face"], fake[:, 3:]), dim=1)
        return {
            "face": losses.least_squares_discriminator(discriminator(real), discriminator(fake))
        }

    def preview(self, generators: Mapping[str, nn.Module], batch: Batch) -> list[Tensor]:
        x, mask = batch["face"], face_mask(batch["face"])
        fixed = torch.Generator().manual_seed(0)
        columns = [x]
        for _ in range(3):
            code = torch.randn(1, self.code_length, generator=fixed).to(x.device)
            packed = pack_surroundings(x, batch["landmarks"], code.expand(len(x), -1))
            columns.append(generators["surroundings"](packed) * mask + x * (1 - mask))
        return columns

    def _known(self, packed: Tensor) -> Tensor:
        """Return the mask and the landmarks' spots."""
        return packed[:, 3 : -self.code_length]
