"""Generators that go on wider."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from models.families import family
from models.families.cyclegan.widening import widen

NARROW: dict[str, Any] = {"base_channels": 3, "blocks": 2}


@pytest.mark.parametrize(
    ("norm", "upsampling"),
    [
        *itertools.product(("instance", "instance_affine", "batch"), ("nearest", "transposed")),
        ("none", "nearest"),
    ],
)
def test_a_widened_generator_answers_alike(norm: str, upsampling: str) -> None:
    """It answers as the narrow one does, and can learn what that cannot."""
    cyclegan = family("cyclegan")
    pair = []
    for channels in (3, 5):
        config = NARROW | {"base_channels": channels, "norm": norm, "upsampling": upsampling}
        pair.append(cyclegan.build_generator(cyclegan.generator_config(**config)))
    narrow, wide = pair
    x = torch.rand(2, 3, 16, 20) * 2 - 1
    narrow(x)  # what a batch norm remembers of it counts
    widen(wide, narrow.state_dict())
    assert torch.allclose(wide.eval()(x), narrow.eval()(x), atol=1e-5)
    wide.train()(x).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in wide.parameters() if weight.ndim > 1)
