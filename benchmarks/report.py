"""What benchmarks/serving.py measured of one model at one size, and its line in the table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from models.images import Pixels

MIN_PSNR_DB = 40.0
"""An arm whose answer is further from the in-process one than this voids the row."""

_COLUMNS = (
    "model (family)",
    "px",
    "engine",
    "forward",
    "in-process",
    "HTTP",
    "baseline",
    "overhead",
    "speed-up",
    "PSNR",
)
_MAX_PSNR_DB = 99.0  # stands for equal pictures: JSON has no infinity


@dataclass(frozen=True, slots=True)
class Row:
    """One model at one size.

    Attributes:
        engine: backend and precision of the service's engine.
        psnr_db: arm -> its lossless answer against the in-process one.
        ms: arm -> the median of each block, in milliseconds.
    """

    model: str
    family: str
    input_px: int
    output_px: int
    engine: str
    psnr_db: dict[str, float]
    ms: dict[str, list[float]]

    @property
    def void(self) -> bool:
        """Whether the arms did different work."""
        return min(self.psnr_db.values()) < MIN_PSNR_DB

    def summary(self) -> dict[str, float]:
        """Return medians over blocks; a difference or ratio is taken within each block first."""
        blocks = list(
            zip(*(self.ms[arm] for arm in ("in_process", "http", "baseline")), strict=True)
        )
        return {f"{arm}_ms": median(values) for arm, values in self.ms.items()} | {
            "overhead_ms": median(http - in_process for in_process, http, _ in blocks),
            "speedup": median(baseline / http for _, http, baseline in blocks),
        }

    def line(self) -> str:
        """Return the row under HEADER; a void one shows no times."""
        cells = [
            f"{self.model} ({self.family})",
            f"{self.input_px} → {self.output_px}",
            self.engine,
            *["void"] * 6,
            f"{min(self.psnr_db.values()):.0f} dB",
        ]
        if not self.void:
            found = self.summary()
            arms = ("forward", "in_process", "http", "baseline", "overhead")
            cells[3:9] = [*(f"{found[f'{arm}_ms']:.1f}" for arm in arms), f"{found['speedup']:.2f}"]
        return table_line(cells)


def table_head(columns: Sequence[str]) -> str:
    """Return a Markdown table's names and the rule under them."""
    return f"{table_line(columns)}\n|{'---|' * len(columns)}"


def table_line(cells: Iterable[object]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


HEADER = table_head(_COLUMNS)


def psnr_db(answer: Pixels, reference: Pixels) -> float:
    """Peak signal-to-noise ratio of uint8 pictures in dB, at most 99; 0 for different sizes."""
    if answer.shape != reference.shape:
        return 0.0
    error = float(np.square(answer.astype(np.float64) - reference).mean())
    return min(_MAX_PSNR_DB, 10 * math.log10(255**2 / error)) if error else _MAX_PSNR_DB
