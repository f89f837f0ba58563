"""Direct optimisation of a picture, the yardstick of the style generators."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from models.families.style.gatys import objective, optimise
from models.families.style.networks import TransformerConfig
from models.families.style.objective import PerceptualTerms, StyleConfig, StyleObjective
from models.features import VGG16


def terms(**weights: float) -> PerceptualTerms:
    """Terms on the first layers of a random VGG16, for a random style."""
    layers: dict[str, Any] = {"content_layer": "relu1_2", "style_layers": ("relu1_1", "relu1_2")}
    config = StyleConfig(**layers | weights)
    return PerceptualTerms(config, torch.rand(1, 3, 24, 24) * 2 - 1, VGG16(("relu1_1", "relu1_2")))


@pytest.fixture
def photo() -> Tensor:
    return torch.linspace(-1, 1, 3 * 16 * 20).view(1, 3, 16, 20).sin()


@pytest.mark.parametrize("start", ["photo", "noise"])
def test_the_objective_falls(photo: Tensor, start: Any):
    """Every step lowers the objective, the last is that of the picture, which stays in range."""
    measure = terms(style=1e4)
    picture, history = optimise(photo, measure, 8, start)
    assert len(history) == 9
    assert history[-1] < 0.7 * history[0]
    assert all(after <= before for before, after in pairwise(history))
    assert history[-1] == pytest.approx(float(objective(picture, measure.target(photo), measure)))
    assert picture.shape == photo.shape
    assert picture.abs().max() <= 1
    assert not picture.requires_grad


def test_the_start(photo: Tensor):
    """From the photo, it begins at the untouched photo's objective; noise depends on the seed."""
    measure = terms()
    picture, (start,) = optimise(photo, measure, 0, "photo")
    assert torch.equal(picture, photo)
    assert start == pytest.approx(float(objective(photo, measure.target(photo), measure)))
    first, again, other = (optimise(photo, measure, 0, "noise", seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_content_alone_keeps_the_photo(photo: Tensor):
    """Without style and smoothing, the photo is the optimum and stays."""
    measure = terms(style=0, total_variation=0)
    picture, history = optimise(photo, measure, 2, "photo")
    assert history == [0, 0, 0]
    assert torch.equal(picture, photo)


def test_the_weights_count(photo: Tensor):
    """The objective is the weighted sum of the terms."""
    measure = terms(content=2, style=3, total_variation=5)
    answer = photo.flip(3)
    named = measure(answer, measure.target(photo))
    expected = 2 * named["content"] + 3 * named["style"] + 5 * named["total_variation"]
    torch.testing.assert_close(objective(answer, measure.target(photo), measure), expected)


def test_a_style_is_judged_as_displayed(photo: Tensor):
    """A generator's terms are those of its clamped answer, which is what a client gets."""
    style = StyleObjective(TransformerConfig(base_channels=4, blocks=1), terms())
    generator = style.generators["stylize"]
    with torch.no_grad():
        for parameter in generator.decode[-1].parameters():
            parameter.mul_(20)
        answer = generator(photo)
    assert answer.abs().max() > 1.5
    found = style.generator_step({"content": photo}).terms
    expected = style.terms(answer.clamp(-1, 1), style.terms.target(photo))
    assert {name: term.item() for name, term in found.items()} == pytest.approx(
        {name: term.item() for name, term in expected.items()}
    )
