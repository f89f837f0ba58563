"""Password-conditioned anonymization and its inverse (Gu et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from models import losses
from models.faces.embedding import MobileFaceNet
from models.families.anonymizer.conditions import code_of
from models.families.anonymizer.networks import IdentityTransformer
from models.families.anonymizer.painter import FaceConfig
from models.families.anonymizer.terms import AnonymizerConfig, FaceObjective, augmented_window
from models.family import Config
from models.objective import Batch, GeneratorStep


class IdentityObjective(FaceObjective):
    """M = G(x, p) is somebody else, R = G(M, p, inverse) is x again, W = G(M, q, inverse) a third.

    Who M and W are is for the painter to say, which is trained beforehand, as a generator of
    "surroundings", and stays as it is. Learned here is to find x in M where the passcode is right,
    also when M was softened and spoiled on its way, and to find nothing where it is wrong.
    """

    def __init__(
        self, generator: FaceConfig, config: AnonymizerConfig, embedding: MobileFaceNet
    ) -> None:
        super().__init__(generator, embedding)
        names = ("restored", "recognised", "decoy")
        self.weights = {name: getattr(config, name) for name in names}
        cast(IdentityTransformer, self.generators["identity"]).painter.requires_grad_(False)

    def adopt(self, key: str, config: Config, weights: Mapping[str, Tensor]) -> bool:
        generator = cast(IdentityTransformer, self.generators[key])
        if not generator.config.paints_as(config, generator.config.tone_channels):
            return False
        generator.painter.load_state_dict(weights)
        return True

    def generator_step(self, batch: Batch) -> GeneratorStep:
        x = batch["face"]
        generator = cast(IdentityTransformer, self.generators["identity"])
        p, q = (
            code_of(torch.rand(len(x), self.code_length, device=x.device) < 0.5, x) for _ in "pq"
        )
        with torch.no_grad():
            painted, other = (generator.painted(x, code).float() for code in (p, q))
            new = eight_bit(generator.hidden(x, painted, p).float())
            arrived = painted + _softened(new - painted)
        restored = generator.revealed(arrived, painted, p).float()
        person = self.embedding(augmented_window(x.float()))
        brought_back = self.embedding(augmented_window(restored))
        terms = {
            "restored": losses.mean_absolute_error(restored, x.float()),
            "recognised": 2 - losses.likeness(brought_back, person, -1.0),
            "decoy": losses.mean_absolute_error(generator.revealed(arrived, other, q), other),
        }
        return GeneratorStep(terms, {})

    def preview(self, generators: Mapping[str, nn.Module], batch: Batch) -> list[Tensor]:
        generator, x = cast(IdentityTransformer, generators["identity"]), batch["face"]
        fixed = torch.Generator().manual_seed(0)
        p, p2, q = (
            code_of(torch.rand(1, self.code_length, generator=fixed) < 0.5, x).expand(len(x), -1)
            for _ in range(3)
        )
        new, other = (generator.hidden(x, generator.painted(x, code), code) for code in (p, p2))
        kept = eight_bit(new)
        back = [generator.revealed(kept, generator.painted(kept, code), code) for code in (p, q)]
        return [x, new, other, *back]


def eight_bit(pictures: Tensor) -> Tensor:
    """Round [-1, 1] to the 256 levels of a file."""
    return pictures.add(1).mul(127.5).round().div(127.5).sub(1)


def _softened(hidden: Tensor) -> Tensor:
    """Treat what is hidden (B, 3, H, W) as pasting, cutting out and messengers do.

    It is moved by a part of a pixel, softened and spoiled. Every second one stays as it is.
    """
    count, device = len(hidden), hidden.device

    def draw(high: float) -> Tensor:
        some = torch.arange(count, device=device) % 2 == 1
        return (torch.rand(count, device=device) * high * some)[:, None, None, None]

    towards = torch.randint(0, 2, (2,)) * 2 - 1
    moved = hidden.roll((int(towards[0]), int(towards[1])), (2, 3))
    y = torch.lerp(hidden, moved, draw(0.3))
    soft = nn.functional.avg_pool2d(nn.functional.pad(y, (1, 1, 1, 1), "replicate"), 3, 1)
    y = torch.lerp(y, soft, draw(1.0))
    noise = torch.randn_like(y)
    blotches = nn.functional.avg_pool2d(torch.randn_like(y), 2)
    blotches = nn.functional.interpolate(blotches, scale_factor=2.0, mode="nearest")
    return y + noise * draw(0.015) + blotches * draw(0.03)
