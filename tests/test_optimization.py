"""The optimizers move weights as their papers say."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from models.optimization import MovingAverage, Muon, rate_factor
from models.recipe import TrainingConfig


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (64, 2, 3, 3), (6, 40)])
def test_muon_turns_every_direction_alike(shape: tuple[int, ...]):
    """Muon's step of a kernel has singular values near one another, of the size of Adam's step."""
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.zeros(shape))
    module = nn.ParameterList([kernel])
    gradient = torch.randn(shape) * torch.logspace(-1, 1, shape[0]).view(
        -1, *[1] * (kernel.ndim - 1)
    )
    Muon(module, 1e-3, (0.9, 0.999)).step()
    assert not kernel.any()  # no gradient, no step
    kernel.grad = gradient
    Muon(module, 1e-3, (0.9, 0.999)).step()
    before, after = (torch.linalg.svdvals(x.flatten(1)) for x in (gradient, kernel.detach()))
    assert before.max() / before.min() > 10
    assert after.max() / after.min() < 2.5
    rms = kernel.detach().square().mean().sqrt()
    assert 0.5e-4 < rms < 3e-4  # a fifth of the rate, as Adam's steps have it in practice


def test_muon_treats_vectors_as_adam_does():
    """Biases and scales move as under Adam."""
    torch.manual_seed(0)
    vectors = [nn.Parameter(torch.ones(5)) for _ in range(2)]
    ours = Muon(nn.ParameterList([vectors[0]]), 1e-2, (0.5, 0.999))
    adam = torch.optim.Adam([vectors[1]], lr=1e-2, betas=(0.5, 0.999))
    for _ in range(4):
        gradient = torch.randn(5)
        for vector, optimizer in zip(vectors, (ours, adam), strict=True):
            vector.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(vectors[0], vectors[1])


@pytest.mark.parametrize(("steps", "lag"), [(10, 3), (300, 40), (2000, 250)])
def test_an_average_forgets_the_start(steps: int, lag: float):
    """What a training of few steps publishes is near its last weights, whatever the decay."""
    module = nn.Linear(1, 1)
    averaged = AveragedModel(module, multi_avg_fn=MovingAverage(0.999))
    for step in range(1, steps + 1):
        nn.init.constant_(module.weight, float(step))
        averaged.update_parameters(module)
    assert 0 < steps - averaged.module.weight.item() < lag


def test_an_average_reaches_its_decay():
    """After 9 / (1 - decay) steps a step counts for 1 - decay, however many follow."""
    old, new = [torch.zeros(3)], [torch.ones(3)]
    MovingAverage(0.99)(old, new, torch.tensor(10_000))
    torch.testing.assert_close(old[0], torch.full((3,), 0.01))


def test_linear_is_constant_for_half_the_steps():
    """Then it falls to zero, as in the papers of pix2pix and CycleGAN."""
    config = TrainingConfig(steps=8, schedule="linear")
    assert [rate_factor(config, step) for step in (0, 4, 6, 8)] == [1, 1, 0.5, 0]
