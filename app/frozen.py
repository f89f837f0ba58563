"""A generator whose InstanceNorms take their statistics from outside, so tiles can share them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class _FrozenNorm(nn.Module):
    """Normalises (B, C, H, W) with given statistics, or with its own, which it keeps.

    `statistics` (2, C) are scale and offset, `drift` (2, C) mean and mean square of what they make
    of a picture: 0 and, up to eps, 1 if they are the picture's own.
    """

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.channels, self.eps = norm.num_features, norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        self.statistics: Tensor | None = None
        self.drift: Tensor | None = None
        self.watches = False

    def forward(self, x: Tensor) -> Tensor:
        if self.statistics is None:
            self.statistics = self._measured(x)
        scale, offset = self.statistics.view(2, 1, self.channels, 1, 1)
        if self.watches:
            normalised = x * scale + offset
            over = (0, 2, 3)
            self.drift = torch.stack((normalised.mean(over), normalised.square().mean(over)))
        if self.weight is not None:
            weight, bias = (p.view(1, -1, 1, 1) for p in (self.weight, self.bias))
            scale, offset = scale * weight, offset * weight + bias
        y: Tensor = x * scale + offset
        return y

    def _measured(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        scale = torch.rsqrt(variance + self.eps)
        offset = -mean * scale
        if self.drift is not None:
            mean, mean_square = self.drift
            variance = (mean_square - mean.square()).clamp_min(0)
            ratio = torch.rsqrt(variance + self.eps * scale.square())
            scale, offset = scale * ratio, (offset - mean) * ratio
        return torch.stack((scale, offset))


class FrozenStatistics(nn.Module):
    """A generator's twin, sharing its weights, with statistics as a second input.

    `forward` maps (B, C, H, W) and the 1-D vector of `measure` to the generator's answer.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.norms: list[_FrozenNorm] = []
        self.generator = self._twin(generator)

    def _twin(self, module: nn.Module) -> nn.Module:
        if isinstance(module, nn.InstanceNorm2d):
            self.norms.append(_FrozenNorm(module))
            return self.norms[-1]
        twin = copy.copy(module)  # a deep one takes ten times as long, and holds requests up
        twin._modules = {  # noqa: SLF001
            name: None if child is None else self._twin(child)
            for name, child in module._modules.items()  # noqa: SLF001
        }
        return twin

    @property
    def size(self) -> int:
        """Length of the vectors of statistics and of drift."""
        return sum(2 * norm.channels for norm in self.norms)

    def measure(self, patches: Tensor, drift: Tensor | None = None) -> Tensor:
        """Return the statistics of (N, C, h, w) taken as one picture, for `forward`.

        With `drift`, that of a picture the patches are from, they are corrected by it layer after
        layer: the patches then only tell how the layers before change what a layer gets.
        """
        self._give(None, drift)
        self.generator(patches)
        return torch.cat([norm.statistics.flatten() for norm in self.norms])  # type: ignore[union-attr]

    def drift(self, x: Tensor, statistics: Tensor) -> Tensor:
        """Return how far `statistics` are from those of (B, C, H, W) in every layer.

        The means of pictures of equal size, averaged, are those of all of them together.
        """
        self._give(statistics, None)
        for norm in self.norms:
            norm.watches = True
        self.generator(x)
        for norm in self.norms:
            norm.watches = False
        return torch.cat([norm.drift.flatten() for norm in self.norms])  # type: ignore[union-attr]

    def forward(self, x: Tensor, statistics: Tensor) -> Tensor:
        self._give(statistics, None)
        y: Tensor = self.generator(x)
        return y

    def _give(self, statistics: Tensor | None, drift: Tensor | None) -> None:
        sizes = [2 * norm.channels for norm in self.norms]
        for norm in self.norms:
            norm.statistics = norm.drift = None
        if statistics is not None:
            for norm, part in zip(self.norms, torch.split(statistics, sizes), strict=True):
                norm.statistics = part
        if drift is not None:
            for norm, part in zip(self.norms, torch.split(drift, sizes), strict=True):
                norm.drift = part.view(2, -1)


class Drift(nn.Module):
    """`FrozenStatistics.drift` as a module of its own, to be traced."""

    def __init__(self, twin: FrozenStatistics) -> None:
        super().__init__()
        self.twin = twin

    def forward(self, x: Tensor, statistics: Tensor) -> Tensor:
        return self.twin.drift(x, statistics)
