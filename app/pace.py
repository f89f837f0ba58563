"""Time foreseen: a large picture that would pass the deadline is refused before its pixels."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from app.accounts import current_account
from app.engines import Engine
from app.errors import QueueFull, TakesTooLong

_WARM_UP_S = 10.0  # after so many of running, what was seen counts as much as the first measurement
_MEMORY_S = 60.0
_FORGOTTEN_S = 600.0  # after it a slow spell no longer keeps pictures out


class Pace:
    """How long one engine takes for input pixels: as first measured, then as tiles really take."""

    def __init__(self, seconds_per_pixel: float) -> None:
        self._first = (_WARM_UP_S, _WARM_UP_S / max(seconds_per_pixel, 1e-12))
        self._seconds, self._pixels = self._first
        self._observed = -math.inf

    def seconds(self, pixels: int) -> float:
        """Predict the time for `pixels`."""
        if time.monotonic() - self._observed > _FORGOTTEN_S:
            self._seconds, self._pixels = self._first
        return pixels * self._seconds / self._pixels

    def observe(self, pixels: int, seconds: float) -> None:
        """Take into account what a piece of a large picture took."""
        kept = math.exp(-seconds / _MEMORY_S)
        self._seconds = kept * self._seconds + seconds
        self._pixels = kept * self._pixels + pixels
        self._observed = time.monotonic()


def measure_pace(engine: Engine, picture: Tensor) -> Pace:
    """Time a run over (1, C, H, W), large enough to stand for a tile, that is not the first one."""
    seconds = math.inf
    with torch.inference_mode():
        for _ in range(2):
            started = time.perf_counter()
            engine(picture)
            seconds = min(seconds, time.perf_counter() - started)
    return Pace(seconds / (picture.shape[-2] * picture.shape[-1]))


class QueuedPicture:
    """One large picture in the queue, whose it is, and the pixels it still has to run."""

    def __init__(self, pace: Pace, pixels: int) -> None:
        self._pace, self._pixels, self._all = pace, pixels, pixels
        self.account = current_account().name

    @property
    def needs_s(self) -> float:
        """The time it still takes."""
        return self._pace.seconds(self._pixels)

    @property
    def left(self) -> float:
        """The share of it that has not run, 0 to 1."""
        return self._pixels / self._all

    def advance(self, pixels: int, seconds: float) -> None:
        """Tell that `pixels` were run, in `seconds`."""
        self._pace.observe(pixels, seconds)
        self._pixels = max(0, self._pixels - pixels)


class LargeQueue:
    """Large pictures run one after the other, of several accounts in turn.

    To be used from one event loop.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._pictures: list[QueuedPicture] = []

    @contextlib.contextmanager
    def join(self, pace: Pace, pixels: int) -> Iterator[QueuedPicture]:
        """Queue a picture whose tiles have `pixels` together.

        Raises TakesTooLong if it alone would pass the deadline, QueueFull if it would because of
        those before it.
        """
        picture = QueuedPicture(pace, pixels)
        needs_s = picture.needs_s
        if needs_s > self._deadline_s:
            raise TakesTooLong(
                f"the picture would take about {needs_s:,.0f} s on this machine; the limit "
                f"(deadline_s) is {self._deadline_s:g} s: a smaller picture or a larger limit helps"
            )
        waiting_s = sum(other.needs_s for other in self._before(picture))
        if waiting_s + needs_s > self._deadline_s:
            raise QueueFull(
                f"large pictures under way take about {waiting_s:,.0f} s more and this one "
                f"{needs_s:,.0f} s; the limit (deadline_s) is {self._deadline_s:g} s",
                retry_after_s=waiting_s + needs_s - self._deadline_s,
            )
        self._pictures.append(picture)
        try:
            yield picture
        finally:
            self._pictures.remove(picture)

    @property
    def depth(self) -> int:
        """Large pictures under way."""
        return len(self._pictures)

    def _before(self, picture: QueuedPicture) -> list[QueuedPicture]:
        """Who runs before a new picture: of each account no more than of its own."""
        own = sum(other.account == picture.account for other in self._pictures)
        seen: Counter[str] = Counter()
        before = []
        for other in self._pictures:
            seen[other.account] += 1
            if other.account == picture.account or seen[other.account] <= own + 1:
                before.append(other)
        return before
