"""All models' figures beside the published ones and beside what can be had without a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from models.evaluation.protocols import WITHOUT_MODEL, as_cell

PUBLISHED: Mapping[tuple[str, str, str], float] = {
    ("srresnet-x4", "Set5", "PSNR"): 32.05,
    ("srresnet-x4", "Set14", "PSNR"): 28.49,
    ("srgan-x4", "Set5", "PSNR"): 29.40,
    ("srgan-x4", "Set14", "PSNR"): 26.02,
}
"""By model, test set and figure: Ledig et al. 2017, table 2, in our protocol.

Their SSIM is computed otherwise, and the other families' papers give no figure in our protocols.
"""

_INTRODUCTION = (
    "Written by `anamorph evaluate --all`; each model's card has the same figures and more rows to "
    "compare them with. Published: the paper's figure, where it has one in our protocol."
)
_COLUMNS = ("model", "test", "figure", "ours", "published", "without a model")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a model.

    Attributes:
        test: the test set and the number of pictures.
        name: of the figure.
        protocol: how it is measured.
        ours: None where it has no meaning.
        published: by the paper, in the same protocol.
        baseline: of the simplest answer without a model.
    """

    model: str
    test: str
    name: str
    protocol: str
    ours: float | None
    published: float | None
    baseline: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of this figure in a table of `_COLUMNS`."""
        values = (self.ours, self.published, self.baseline)
        return self.model, self.test, self.name, *map(as_cell, values)


def figures_of(model: str, tables: Iterable[Mapping[str, Any]]) -> list[Figure]:
    """Read the figures in a card's "metrics"; the first row of each table is the model's."""
    return [
        Figure(
            model,
            table["title"],
            column,
            protocol,
            next(iter(table["rows"].values()))[column],
            _published(model, table["title"], column),
            _baseline(table["rows"])[column],
        )
        for table in tables
        for column, protocol in table["protocols"].items()
    ]


def as_text(figures: Iterable[Figure]) -> str:
    """Return one table with aligned columns and the protocols below it."""
    figures = list(figures)
    rows = [_COLUMNS, *(figure.cells for figure in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *_protocols(figures)])


def as_page(figures: Iterable[Figure], pictures: Mapping[str, str]) -> str:
    """Return a Markdown page: the table, protocols, and each model's picture by its path."""
    figures = list(figures)
    lines = [
        "# Quality",
        "",
        _INTRODUCTION,
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|" + "---|" * len(_COLUMNS),
        *(f"| {' | '.join(figure.cells)} |" for figure in figures),
        "",
        *(f"- {line}" for line in _protocols(figures)),
    ]
    for model, path in pictures.items():
        lines += ["", f"## {model}", "", f"![{model}: before above, after below]({path})"]
    return "\n".join(lines) + "\n"


def _protocols(figures: Iterable[Figure]) -> list[str]:
    """Say how each figure is measured, and of which models where that differs."""
    models: dict[tuple[str, str], dict[str, None]] = {}
    for figure in figures:
        models.setdefault((figure.name, figure.protocol), {})[figure.model] = None
    names = [name for name, _ in models]
    lines = []
    for (name, protocol), of in models.items():
        whose = f" ({', '.join(of)})" if names.count(name) > 1 else ""
        lines.append(f"{name}{whose}: {protocol}")
    return lines


def _published(model: str, title: str, column: str) -> float | None:
    test = title.partition(",")[0].rpartition("/")[2]
    return PUBLISHED.get((model, test, column))


def _baseline(rows: Mapping[str, Mapping[str, float | None]]) -> Mapping[str, float | None]:
    name = next((name for name in rows if name in WITHOUT_MODEL), None)
    return rows[name] if name else dict.fromkeys(next(iter(rows.values())))
