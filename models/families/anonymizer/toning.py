"""What a painter with a tone is trained by: the painter itself is trained beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from models import losses
from models.faces.geometry import LANDMARKS
from models.families.anonymizer.conditions import code_of, erased, pack_surroundings
from models.families.anonymizer.networks import build_generator
from models.families.anonymizer.painter import FaceConfig, FacePainter
from models.families.anonymizer.tone import ToneNet, tones
from models.family import Config
from models.objective import Batch, GeneratorStep, Objective


class ToneObjective(Objective):
    """T(what is around a face) is the tones of face and surroundings: plain regression.

    The painter stays as it is; its embedding and detector are in the recipe it comes from.
    """

    def __init__(self, generator: FaceConfig) -> None:
        super().__init__()
        painter = cast(FacePainter, build_generator(generator))
        painter.requires_grad_(False)
        _tone_of(painter).requires_grad_(True)
        self.generators[generator.condition] = painter
        self.weights = {"toned": 1.0}

    def adopt(self, key: str, config: Config, weights: Mapping[str, Tensor]) -> bool:
        painter = cast(FacePainter, self.generators[key])
        if not painter.config.paints_as(config, 0):
            return False
        own = {f"tone.{name}": value for name, value in _tone_of(painter).state_dict().items()}
        painter.load_state_dict({**weights, **own})
        return True

    def generator_step(self, batch: Batch) -> GeneratorStep:
        x = batch["face"]
        guessed = _tone_of(self.generators["surroundings"])(erased(x))
        return GeneratorStep({"toned": losses.mean_absolute_error(guessed, tones(x))}, {})

    def preview(self, generators: Mapping[str, nn.Module], batch: Batch) -> list[Tensor]:
        painter, x = cast(FacePainter, generators["surroundings"]), batch["face"]
        known = erased(x)
        guessed = nn.functional.interpolate(_tone_of(painter)(known), x.shape[2:], mode="bicubic")
        fixed = torch.Generator().manual_seed(0)
        bits = torch.rand(1, painter.config.code_length, generator=fixed) < 0.5
        code = code_of(bits, x).expand(len(x), -1)
        landmarks = x.new_tensor(LANDMARKS).expand(len(x), -1, -1)
        painted = painter(pack_surroundings(x, landmarks, code))
        return [x, known[:, :3], guessed, painted]


def _tone_of(painter: nn.Module) -> ToneNet:
    return cast(ToneNet, cast(FacePainter, painter).tone)
