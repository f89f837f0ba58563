"""Which pictures each objective shows to which of its terms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.beginning import build_objective
from models.families.cyclegan.objective import ImagePool
from models.objective import Objective
from tiny_training import tiny_recipe


class Brightness(nn.Module):
    """A discriminator that takes bright pictures for real."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * x.mean((1, 2, 3))


class Brighter(nn.Module):
    """A generator that adds the same to every pixel."""

    def __init__(self, change: float) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change


def objective_of(stage: str, data_root: Path, slope: float = 1.0) -> Objective:
    objective = build_objective(tiny_recipe(stage), data_root, data_root / "vgg16.safetensors")
    for name in objective.discriminators:
        objective.discriminators[name] = Brightness(slope)
    return objective


WHITE = torch.ones(1, 3, 32, 32)


@pytest.mark.parametrize(
    ("stage", "real"), [("pix2pix", "b"), ("srgan-adversarial", "high")], ids=str
)
def test_discriminators_learn_which_are_real(data_root: Path, stage: str, real: str) -> None:
    """One that tells real pictures from fakes has next to no loss left."""
    objective = objective_of(stage, data_root, slope=50)
    batch = {"a": 0 * WHITE, "low": 0 * WHITE[..., :16, :16], real: WHITE}
    terms = objective.discriminator_step(batch, {real: -WHITE})
    assert all(value < 0.1 for value in terms.values())


def test_each_translator_has_its_own_terms(data_root: Path) -> None:
    """A cycle goes through both translators; an identity is of the one that paints the domain."""
    objective = objective_of("cyclegan", data_root)
    objective.generators["AtoB"], objective.generators["BtoA"] = Brighter(0.25), Brighter(0.5)
    terms = objective.generator_step({"a": 0 * WHITE, "b": WHITE / 8}).terms
    assert float(terms["cycle_a"]) == float(terms["cycle_b"]) == 0.75
    assert (float(terms["identity_b"]), float(terms["identity_a"])) == (0.25, 0.5)


def test_discriminators_see_earlier_fakes(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CycleGAN's discriminators judge what the pool gives for a fake, not the fake."""
    monkeypatch.setattr(ImagePool, "exchange", lambda _pool, fresh: torch.zeros_like(fresh))
    objective = objective_of("cyclegan", data_root)
    terms = objective.discriminator_step({"a": WHITE, "b": WHITE}, {"a": WHITE, "b": WHITE})
    assert [float(value) for value in terms.values()] == [0.0, 0.0]


def test_the_perceptual_term_compares_answer_and_photo(data_root: Path) -> None:
    """Its gradient reaches the generator, as another picture than the photo is judged."""
    objective = objective_of("srgan-adversarial", data_root)
    torch.manual_seed(0)
    batch = {"low": torch.rand(1, 3, 16, 16), "high": torch.rand(1, 3, 32, 32)}
    term = objective.generator_step(batch).terms["perceptual"]
    assert float(term.detach()) > 0
    assert term.requires_grad
