"""The optimizers and their learning rate."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam as adam_step

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
        """Move every parameter that has a gradient, those of one shape together."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if vectors := [parameter for parameter in moved if parameter.ndim < 2]:
                self._adapt(vectors, group["lr"], *group["betas"])
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for kernel in moved:
                if kernel.ndim > 1:
                    alike[kernel.flatten(1).shape].append(kernel)
            for kernels in alike.values():
                self._turn(kernels, group["lr"], group["momentum"])

    def _turn(self, kernels: list[Tensor], rate: float, momentum: float) -> None:
        ahead = [
            gradient.lerp(mean.lerp_(gradient, 1 - momentum), momentum)  # Nesterov's
            for gradient, mean in zip(_gradients(kernels), self._kept("mean", kernels), strict=True)
        ]
        steps = _orthogonal(torch.stack([matrix.flatten(1) for matrix in ahead]))
        size = 0.2 * math.sqrt(max(steps.shape[1:]))
        for kernel, step in zip(kernels, steps, strict=True):
            kernel.sub_(step.view(kernel.shape), alpha=rate * size)

    def _adapt(self, vectors: list[Tensor], rate: float, beta1: float, beta2: float) -> None:
        for vector in vectors:
            if "count" not in self.state[vector]:
                self.state[vector]["count"] = torch.zeros(())
        moments = self._kept("mean", vectors), self._kept("square", vectors)
        counts = [self.state[vector]["count"] for vector in vectors]
        adam_step(
            vectors,
            _gradients(vectors),
            *moments,
            [],
            counts,
            foreach=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def _kept(self, key: str, parameters: list[Tensor]) -> list[Tensor]:
        """Return a moment of each, zeros before the first step."""
        for parameter in parameters:
            if key not in self.state[parameter]:
                self.state[parameter][key] = torch.zeros_like(parameter)
        return [self.state[parameter][key] for parameter in parameters]


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _orthogonal(matrices: Tensor) -> Tensor:
    """Return about U V^T of each (M, N) of (B, M, N) U S V^T, by five Newton-Schulz iterations."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices.float() if wide else matrices.float().mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, polynomial, x, beta=3.4445)
    return x if wide else x.mT


class MovingAverage:
    """How `AveragedModel` averages: w <- kept w + (1 - kept) w_new, with `kept` at most `decay`.

    It grows to that with the steps, as in TensorFlow's ExponentialMovingAverage: after n of them it
    averages over about the last n / 9, so that a short training forgets its first weights.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay

    @torch.no_grad()
    def __call__(
        self,
        averaged: tuple[Tensor, ...] | list[Tensor],
        current: tuple[Tensor, ...] | list[Tensor],
        count: Tensor | int,
    ) -> None:
        count = torch.as_tensor(count)
        new = 1 - ((1 + count) / (10 + count)).clamp(max=self._decay)  # nothing waits for a GPU
        # The only way to change all in a few kernels, as AveragedModel's own averages do.
        changes = torch._foreach_sub(current, averaged)  # noqa: SLF001
        torch._foreach_mul_(changes, new)
        torch._foreach_add_(averaged, changes)


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
