"""Adam and its learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from models.recipe import TrainingConfig


def adam(module: nn.Module, rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """Return Adam (Kingma and Ba 2015) over all parameters, in one kernel a step."""
    return torch.optim.Adam(module.parameters(), lr=rate, betas=betas, fused=True)


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
