"""A wider generator that computes what a narrower one does.

It preserves the function as Net2Net does (Chen et al. 2016), but its new channels are random ones
that nothing reads yet, where Net2Net copies old ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn


@torch.no_grad()
def widen(generator: nn.Module, narrow: Mapping[str, Tensor]) -> None:
    """Let `generator` compute what one with the same layers, but fewer channels, does.

    The first channels of each layer are the narrow ones, and read nothing of the others. Those
    have random weights as large as the layer's: features that training may begin to read. Layers
    must hand their channels on in order, so none may join two of them, as a U-Net does.

    Args:
        generator: changed in place.
        narrow: the narrow generator's state.
    """
    for prefix, module in generator.named_modules(remove_duplicate=False):
        own = itertools.chain(
            module.named_parameters(prefix, recurse=False),
            module.named_buffers(prefix, recurse=False),
        )
        for name, wide in own:
            old = narrow[name]
            if wide.ndim > 1:
                wide.normal_(std=float(old.std()))
                outputs = 1 if isinstance(module, nn.ConvTranspose2d) else 0
                wide.narrow(outputs, 0, old.shape[outputs]).zero_()
            wide[tuple(slice(size) for size in old.shape)] = old
