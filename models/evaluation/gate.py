"""The gate before a promotion: is a new version at least as good as the one that serves?

Both answer the same held-out pictures, those the new version's card names, and one figure of the
family's own decides:

    upscale, regression stage     PSNR
    upscale, adversarial stage    perceptual distance
    translate, paired             mean absolute difference
    translate, unpaired           kernel distance
    translate, colours            chroma distance
    stylize                       objective

A new version passes while it is no worse than the serving one by more than the figure's noise
between two runs of one recipe: 0.05 dB of PSNR, one percent of a mean difference or objective, one
standard error of a kernel distance, of the version that has the smaller one. Where nothing serves
yet, it must be better than what can be had without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import torch

from models.checkpoint import LoadedGenerator, load_generator
from models.evaluation.figures import evaluate
from models.evaluation.protocols import WITHOUT_MODEL, Table, row_of
from models.family import Task, channels

_NEW, _SERVING = "new", "serving"
_RIVAL = "the serving version"  # as no model can be called, whose name is a row, too
_PSNR_NOISE_DB = 0.05
_RELATIVE_NOISE = 0.01
_PICTURES_OF_A_FOLDER = 50


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate decided, and by which figures.

    Attributes:
        metric: name of the column that decided.
        better: whether a higher or a lower figure is the better one.
        new: figure of the new version, the mean over the tables.
        serving: the same of the serving version; None where none serves or can be compared.
        baseline: the same of what can be had without a model.
        tables: all figures of both, with their protocols, as in a card's "metrics".
        reason: the decision in words, with the figures.
    """

    passed: bool
    metric: str
    better: Literal["higher", "lower"]
    new: float
    serving: float | None
    baseline: float
    tables: tuple[dict[str, Any], ...]
    reason: str

    def as_card(self) -> dict[str, Any]:
        """Return plain values for a model card's "gate", which `Registry.promote` heeds."""
        return asdict(self) | {"tables": list(self.tables)}


def gate(
    new: Path,
    serving: Path | None,
    data_root: Path,
    *,
    features: Path | None,
    device: torch.device | None = None,
    before_each: Callable[[], None] = lambda: None,
) -> Verdict:
    """Compare a new generator's file with the serving one, or with what needs no model.

    Args:
        new: the file to be promoted; the [evaluation] table of its card names the test pictures.
        serving: the file that serves now, or None.
        data_root: what the paths of the new one's card are relative to.
        features: VGG16 weights; None leaves what is seen through VGG16 to torchvision's.
        device: where to run; None is the CPU.
        before_each: called before every answer; may raise to stop.

    Raises:
        InvalidCheckpoint: a file does not load.
        InvalidRecipe: the new one's card does not say how to evaluate.
        InvalidDataset: a test folder is missing or holds too little.
        MissingFeatures: no VGG16 weights are at hand, and the figure needs them.
    """
    loaded = load_generator(new)
    row = row_of(loaded.header.name)
    rival = load_generator(serving) if serving else None
    comparable = rival is not None and _do_the_same(rival, loaded)
    tables = evaluate(
        loaded,
        data_root,
        features=features,
        limit=_PICTURES_OF_A_FOLDER,
        device=device,
        rivals={_RIVAL: rival} if rival and comparable else None,
        brief=True,
        before_each=before_each,
    )
    tables = [_renamed(table, {row: _NEW, _RIVAL: _SERVING}) for table in tables]
    metric = _metric(loaded, tables)
    figures = _figures(tables, metric)
    better: Literal["higher", "lower"] = "higher" if metric == "PSNR" else "lower"
    if rival and not comparable:
        passed, reason = False, "the serving version does something else; only force replaces it"
    else:
        passed, reason = _decide(metric, better, figures, _noise(metric, figures, tables))
    return Verdict(
        passed=passed,
        metric=metric,
        better=better,
        new=figures[_NEW],
        serving=figures.get(_SERVING),
        baseline=figures["baseline"],
        tables=tuple(table.as_card() for table in tables),
        reason=reason,
    )


def _do_the_same(one: LoadedGenerator, other: LoadedGenerator) -> bool:
    """Tell whether two generators answer the same question, as far as their cards say which."""
    directions = _direction(one), _direction(other)
    return _purpose(one) == _purpose(other) and (None in directions or len({*directions}) == 1)


def _purpose(loaded: LoadedGenerator) -> tuple[Any, ...]:
    scale = loaded.family.scale(loaded.config)
    return loaded.family.task, scale, loaded.header.stage, channels(loaded.config)


def _direction(loaded: LoadedGenerator) -> tuple[str, str] | None:
    """Return from which pictures to which a translation goes: its key, and that of the data."""
    recipe = loaded.header.card.get("recipe", {})
    names = {name: key for key, name in recipe.get("models", {}).items()}
    if loaded.header.name not in names:
        return None
    return names[loaded.header.name], recipe.get("data", {}).get("direction", "AtoB")


def _renamed(table: Table, names: Mapping[str, str]) -> Table:
    return replace(table, rows={names.get(row, row): cells for row, cells in table.rows.items()})


def _metric(loaded: LoadedGenerator, tables: Sequence[Table]) -> str:
    columns = tables[0].protocols
    if loaded.family.task is Task.UPSCALE:
        return "perceptual" if loaded.header.stage == "adversarial" else "PSNR"
    return next(column for column in ("L1", "KID", "objective", "chroma") if column in columns)


def _figures(tables: Sequence[Table], metric: str) -> dict[str, float]:
    """Return the mean over the tables for the new, the serving and the baseline row."""
    sums: dict[str, float] = {}
    for table in tables:
        column = list(table.protocols).index(metric)
        for row, cells in table.rows.items():
            key = "baseline" if row in WITHOUT_MODEL else row
            sums[key] = sums.get(key, 0.0) + (cells[column] or 0.0) / len(tables)
    return sums


def _noise(metric: str, figures: Mapping[str, float], tables: Sequence[Table]) -> float:
    """Return how much worse than the serving version's a figure may be, in its own unit."""
    if metric == "PSNR":
        return _PSNR_NOISE_DB
    if metric == "KID":
        errors = _figures(tables, "+-")
        return min(errors[row] for row in (_NEW, _SERVING) if row in errors)
    return _RELATIVE_NOISE * figures.get(_SERVING, 0.0)


def _decide(
    metric: str, better: Literal["higher", "lower"], figures: Mapping[str, float], noise: float
) -> tuple[bool, str]:
    new, baseline, serving = figures[_NEW], figures["baseline"], figures.get(_SERVING)
    sign = 1 if better == "higher" else -1
    told = f"{metric} {new:.4g} ({better} is better)"
    if serving is None or not isfinite(serving):  # a new one that is not passes no comparison
        passed = sign * new > sign * baseline
        why = "nothing serves yet" if serving is None else f"what serves has {serving}"
        return passed, f"{told}, without a model {baseline:.4g}; {why}"
    passed = sign * new >= sign * serving - noise
    return passed, f"{told}, serving {serving:.4g}, tolerance {noise:.2g}"
