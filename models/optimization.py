"""The optimizers and their learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from models.recipe import TrainingConfig


def adam(module: nn.Module, rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """Return Adam (Kingma and Ba 2015) over all parameters, in one kernel a step."""
    return torch.optim.Adam(module.parameters(), lr=rate, betas=betas, fused=True)


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for kernels, Adam for the vectors between them.

    A kernel moves along its momentum made orthogonal, so that no direction of a layer waits for the
    others: on style transfer half of Adam's steps reach the same loss. Its step has the root mean
    square of Adam's (Liu et al. 2025, equation 4), so one rate serves both. torch.optim.Muon takes
    matrices alone.
    """

    def __init__(
        self, module: nn.Module, rate: float, betas: tuple[float, float], momentum: float = 0.95
    ) -> None:
        super().__init__(module.parameters(), {"lr": rate, "betas": betas, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.ndim > 1:
                    self._turn(parameter, group["lr"], group["momentum"])
                else:
                    self._adapt(parameter, group["lr"], *group["betas"])

    def _turn(self, kernel: Tensor, rate: float, momentum: float) -> None:
        state, gradient = self.state[kernel], kernel.grad
        assert gradient is not None
        if not state:
            state["mean"] = torch.zeros_like(kernel)
        mean = state["mean"].lerp_(gradient, 1 - momentum)
        matrix = gradient.lerp(mean, momentum).flatten(1)  # Nesterov's look ahead
        step = 0.2 * math.sqrt(max(matrix.shape)) * _orthogonal(matrix)
        kernel.sub_(step.view(kernel.shape), alpha=rate)

    def _adapt(self, vector: Tensor, rate: float, beta1: float, beta2: float) -> None:
        state, gradient = self.state[vector], vector.grad
        assert gradient is not None
        if not state:
            state["mean"], state["square"] = torch.zeros_like(vector), torch.zeros_like(vector)
            state["count"] = torch.zeros(())
        state["count"] += 1
        count = float(state["count"])
        mean = state["mean"].lerp_(gradient, 1 - beta1) / (1 - beta1**count)
        square = state["square"].lerp_(gradient.square(), 1 - beta2) / (1 - beta2**count)
        vector.sub_(mean / (square.sqrt() + 1e-8), alpha=rate)


def _orthogonal(matrix: Tensor) -> Tensor:
    """Return about U V^T of the (M, N) matrix U S V^T, by five Newton-Schulz iterations."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix.float() if wide else matrix.float().T
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    orthogonal: Tensor = x if wide else x.T
    return orthogonal


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up a saved state, each moment with its parameter's strides.

    The fused kernel pairs elements by their position in memory, so moments of another layout
    (channels_last parameters, contiguous file) would be applied to the wrong weights.
    """
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        for key, value in kept.items():
            if value.shape == parameter.shape:
                kept[key] = torch.empty_like(parameter).copy_(value)


def rate_factor(config: TrainingConfig, step: int) -> float:
    """Return the learning rate of step `step` (from 0) over the recipe's."""
    done = step / config.steps
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    match config.schedule:
        case "constant":
            return warmup
        case "linear":
            return warmup * min(1.0, 2 * (1 - done))
        case "cosine":
            return warmup * (1 + math.cos(math.pi * done)) / 2
