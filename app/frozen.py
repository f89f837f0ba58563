"""A generator whose InstanceNorms take their statistics from outside, so tiles can share them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class _FrozenNorm(nn.Module):
    """(B, C, H, W) * gain + shift; with `given` None, gain and shift normalise the batch itself."""

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.channels, self.eps = norm.num_features, norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        self.given: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.given is None:
            variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
            gain = torch.rsqrt(variance + self.eps)
            if self.weight is not None:
                gain = gain * self.weight
            shift = -mean * gain
            if self.bias is not None:
                shift = shift + self.bias
            self.given = torch.stack((gain, shift))
        gain, shift = self.given.view(2, 1, self.channels, 1, 1)
        y: Tensor = x * gain + shift
        return y


class FrozenStatistics(nn.Module):
    """A generator's twin, sharing its weights, with statistics as a second input.

    `forward` maps (B, C, H, W) and the 1-D vector of `measure` to the generator's answer.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = copy.deepcopy(generator, {id(p): p for p in generator.parameters()})
        self.norms: list[_FrozenNorm] = []
        self._replace(self.generator)

    def _replace(self, module: nn.Module) -> None:
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm2d):
                self.norms.append(_FrozenNorm(child))
                setattr(module, name, self.norms[-1])
            else:
                self._replace(child)

    def measure(self, patches: Tensor) -> Tensor:
        """Return the statistics of (N, C, h, w) taken as one picture, for `forward`."""
        for norm in self.norms:
            norm.given = None
        self.generator(patches)
        return torch.cat([norm.given.flatten() for norm in self.norms if norm.given is not None])

    def forward(self, x: Tensor, statistics: Tensor) -> Tensor:
        parts = torch.split(statistics, [2 * norm.channels for norm in self.norms])
        for norm, part in zip(self.norms, parts, strict=True):
            norm.given = part
        y: Tensor = self.generator(x)
        return y
