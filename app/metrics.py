"""What Prometheus sees of one app; each has its own registry, so several share a process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Laps:
    """The seconds of one answer's stages, in the order in which they end."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.monotonic()
        self._waited_s = 0.0

    def wait(self, seconds: float) -> None:
        """Note that so much of the stage under way was spent in the queue."""
        self._waited_s += seconds

    def end(self, stage: str) -> None:
        """Note that a stage ends and the next begins."""
        ended = time.monotonic()
        self.seconds[stage] = ended - self._started - self._waited_s
        if self._waited_s:
            self.seconds["queue"] = self.seconds.get("queue", 0.0) + self._waited_s
        self._started, self._waited_s = ended, 0.0

    def note(self, **seconds: float) -> None:
        """Note stages that others measured since the last one ended; the next begins."""
        self.seconds |= seconds
        self._started = time.monotonic()


class Metrics:
    """Counters and histograms; labels come from routes and served models, never from clients."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "anamorph_requests", "Requests answered", ["route", "status"], registry=self.registry
        )
        self.problems = Counter(
            "anamorph_problems", "Problems answered", ["code"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "anamorph_request_seconds",
            "Seconds from the request's first byte until the answer's last",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "anamorph_stage_seconds",
            "Time of one stage of a picture",
            ["stage", "model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "anamorph_batch_size",
            "Pictures in the forward pass that a picture shared",
            ["model"],
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )

        self.jobs = Gauge(
            "anamorph_jobs",
            "Training jobs: queued and running now, ended within a day",
            ["state"],
            registry=self.registry,
        )

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def observe(self, model: str, seconds: Mapping[str, float], batch_size: int) -> None:
        """Record one answered picture: the time of each stage and who shared its forward pass."""
        for stage, duration in seconds.items():
            self.stage_seconds.labels(stage, model).observe(duration)
        self.batch_size.labels(model).observe(batch_size)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
