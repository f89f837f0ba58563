"""How training draws: the k-th sample is a pure function of (seed, k).

So the order does not depend on the number of loading processes, and a training resumed at step n
sees exactly the batches an uninterrupted one would have seen from there.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import torch
from numpy.random import SeedSequence
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Sample = dict[str, Tensor]


class Shuffled:
    """An endless shuffled pass over `length` items: a new permutation each epoch."""

    def __init__(self, length: int, seed: int) -> None:
        self._length, self._seed = length, seed
        self._epoch, self._order = -1, torch.empty(0)

    def __getitem__(self, k: int) -> int:
        epoch, position = divmod(k, self._length)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
            self._epoch = epoch
            self._order = torch.randperm(self._length, generator=generator)
        return int(self._order[position])


class Samples(Dataset[Sample]):
    """Base of the kinds: draws pictures by shuffled index and augments them reproducibly."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __getitem__(self, k: int) -> Sample:
        mixed = SeedSequence((self._seed, k)).generate_state(1)  # torch looks at 32 bits only
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(mixed[0]))  # the CPU's alone
            return self.draw(k)

    def draw(self, k: int) -> Sample:
        """Return the k-th sample, using the global generator, which the caller has seeded."""
        raise NotImplementedError


def batches(
    samples: Samples, batch: int, first_step: int, steps: int, workers: int, rank: int, ranks: int
) -> Iterator[Sample]:
    """Yield the batches of steps `first_step` to `steps`.

    Step s of rank r holds samples (s * ranks + r) * batch onwards, so all ranks together see each
    sample once.
    """
    starts = ((step * ranks + rank) * batch for step in range(first_step, steps))
    yield from DataLoader(
        samples,
        batch_sampler=(list(range(start, start + batch)) for start in starts),
        generator=torch.Generator(),  # the global one must be as an uninterrupted run has it
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_ignore_sigterm,
    )


def _ignore_sigterm(_worker: int) -> None:
    """Leave it to the training to end its workers, after its state is saved.

    torchrun and service managers signal the whole group, and a worker that dies is an error.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
