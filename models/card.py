"""A model's card: the facts in its file's header, as Markdown for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.checkpoint import Header

_FACTS = {
    "data": "Data",
    "licence": "Licence of the data",
    "trained_px": "Trained at (px)",
    "regression_model": "Started from, and `detail` begins at",
    "steps": "Steps",
    "device": "Device",
    "hours": "Hours",
    "note": "Note",
}


def markdown(header: Header) -> str:
    """Return the card of a model: facts, hyperparameters, metrics with their protocols."""
    card = header.card
    lines = [f"# {header.name}", "", f"Family: {header.family}", ""]
    lines += [f"- {label}: {card[key]}" for key, label in _FACTS.items() if key in card]
    lines += ["", "## Generator", "", *_listing(header.generator)]
    recipe = card.get("recipe", {})
    for part in ("objective", "training"):
        if recipe.get(part):
            lines += ["", f"## {part.capitalize()}", "", *_listing(recipe[part])]
    if card.get("conventions"):
        lines += ["", "## Conventions", "", *_listing(card["conventions"])]
    if card.get("lineage"):
        lines += ["", "## Lineage", "", *_listing(card["lineage"])]
    if card.get("gate"):
        lines += ["", "## Gate", "", card["gate"]["reason"]]
    for table in card.get("metrics", ()):
        lines += ["", f"## {table['title']}", "", *_metrics(table)]
    return "\n".join(lines) + "\n"


def _listing(values: Mapping[str, Any]) -> list[str]:
    return [f"- {name}: {value}" for name, value in values.items()]


def _metrics(table: Mapping[str, Any]) -> list[str]:
    """A table of figures with a line on how each is measured."""
    columns = list(table["protocols"])
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, figures in table["rows"].items():
        cells = ["-" if figures[c] is None else f"{figures[c]:.4g}" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, "", *(f"- {name}: {how}" for name, how in table["protocols"].items())]
