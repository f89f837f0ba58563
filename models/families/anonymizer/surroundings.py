"""A face painted from surroundings and landmarks alone (DeepPrivacy, Hukkelås et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models import losses
from models.blocks import PatchGAN, initialise_gan
from models.embedding import MobileFaceNet
from models.families.anonymizer.conditions import face_mask, pack_surroundings
from models.families.anonymizer.identity import augmented_window, coarse
from models.families.anonymizer.networks import FaceConfig, build_generator
from models.objective import Batch, GeneratorStep, Objective, Terms

if TYPE_CHECKING:
    from models.families.anonymizer.objective import AnonymizerConfig


class SurroundingsObjective(Objective):
    """Two codes paint two people into the hole; the discriminator knows hole and landmarks too."""

    def __init__(
        self, generator: FaceConfig, config: AnonymizerConfig, embedding: MobileFaceNet
    ) -> None:
        super().__init__()
        self.config, self.generator = config, generator
        terms = ("adversarial", "changed", "different", "kept", "around")
        self.weights = {name: getattr(config, name) for name in terms}
        self.generators["surroundings"] = build_generator(generator)
        discriminator = PatchGAN(
            generator.picture_channels,
            config.patch_channels,
            config.patch_layers,
            config.patch_norm,
        )
        initialise_gan(discriminator)
        self.discriminators["face"] = discriminator
        self.embedding = embedding

    def generator_step(self, batch: Batch) -> GeneratorStep:
        x = torch.cat((batch["face"], batch["face"]))
        code = torch.randn(len(x), self.generator.code_length, device=x.device)
        packed = pack_surroundings(x, batch["landmarks"].repeat(2, 1, 1), code)
        painted = self.generators["surroundings"](packed).float()
        mask = face_mask(x)
        joined = painted * mask + x * (1 - mask)
        seen = torch.cat((joined, self._known(packed)), dim=1)
        person = self.embedding(augmented_window(batch["face"]))
        people = self.embedding(augmented_window(joined))
        one, other = people.chunk(2)
        margin = self.config.margin
        terms = {
            "adversarial": losses.least_squares_generator(self.discriminators["face"](seen)),
            "changed": losses.likeness(people, person.repeat(2, 1), margin),
            "different": losses.likeness(one, other, margin),
            "kept": losses.mean_absolute_error(coarse(joined), coarse(x)),
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
            code = torch.randn(1, self.generator.code_length, generator=fixed).to(x.device)
            packed = pack_surroundings(x, batch["landmarks"], code.expand(len(x), -1))
            columns.append(generators["surroundings"](packed) * mask + x * (1 - mask))
        return columns

    def _known(self, packed: Tensor) -> Tensor:
        """Return the mask and the landmarks' spots."""
        return packed[:, 3 : self.generator.picture_channels]
