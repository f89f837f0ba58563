"""Training in several processes started by torchrun, each with its own share of the samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn


@contextmanager
def process_group(device: torch.device) -> Iterator[tuple[int, int]]:
    """(rank, number of ranks) in the group that torchrun describes; (0, 1) without torchrun."""
    if not dist.is_torchelastic_launched():
        yield 0, 1
        return
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(dist.get_node_local_rank())
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def average_gradients(module: nn.Module) -> None:
    """Average the gradients over all ranks: DDP's sum, without its wrapper.

    A GAN runs the generator several times a step and freezes one side in turn, which DDP's
    one-forward-one-backward hooks do not follow.
    """
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])  # one message instead of many
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    means = torch.split(flat, [g.numel() for g in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def any_rank(answer: bool, device: torch.device) -> bool:
    """Whether `answer` is true on any rank, so that all act alike."""
    if not dist.is_initialized():
        return answer
    flag = torch.tensor(float(answer), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)
