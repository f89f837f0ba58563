"""Password-conditioned anonymization and its inverse (Gu et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models import losses
from models.embedding import MobileFaceNet
from models.families.anonymizer.conditions import pack_identity
from models.families.anonymizer.networks import FaceConfig
from models.families.anonymizer.terms import (
    AnonymizerConfig,
    FaceObjective,
    augmented_window,
    coarse,
)
from models.objective import Batch, GeneratorStep, Terms


class IdentityObjective(FaceObjective):
    """M = G(x, p) is somebody else, R = G(M, not p) is x again, W = G(M, q) is a third person.

    Who M is shall be for p to say, as in CIAGAN (Maximov et al. 2020), whose faces cannot be
    restored: being unlike x is not enough, where M still tells x from other people.
    """

    def __init__(
        self, generator: FaceConfig, config: AnonymizerConfig, embedding: MobileFaceNet
    ) -> None:
        super().__init__(generator, config, embedding)
        self.weights |= {
            "restored": config.restored,
            "recognised": config.changed,
            "different": config.different,
            "alike": config.alike,
        }

    def generator_step(self, batch: Batch) -> GeneratorStep:
        x = batch["face"]
        generator = self.generators["identity"]
        p, p2, q = (torch.rand(len(x), self.code_length, device=x.device) < 0.5 for _ in range(3))
        p = p[:1].expand_as(p)  # one for all, so that "alike" can compare people
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
            "alike": 2 - losses.likeness(new_one, new_one.roll(1, 0), -1.0),
            "kept": losses.mean_absolute_error(coarse(strangers), coarse(x).repeat(3, 1, 1, 1)),
            "found": losses.face_classification(self.confidence(strangers)),
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
