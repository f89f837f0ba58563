"""A model's card, the facts in its file's header: what they must be, and Markdown for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json, to_json

from models.faults import faults_of

if TYPE_CHECKING:
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


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True)


class _Recipe(_Facts):
    models: dict[str, str] = {}
    features: str | None = None
    objective: dict[str, Any] = {}
    training: dict[str, Any] = {}


class _Lineage(_Facts):
    owner: str | None = None


class _Gate(_Facts):
    passed: bool
    reason: str


class _Table(_Facts):
    title: str
    protocols: dict[str, str]
    rows: Annotated[dict[str, dict[str, float | None]], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        if any(row.keys() != self.protocols.keys() for row in self.rows.values()):
            raise ValueError("a row has other figures than there are protocols")
        return self


class _Card(_Facts):
    """What code reads of a card; whatever else may stand beside it."""

    task_note: str = ""
    licence: str = ""
    stage: str = ""
    regression_model: str = ""
    evaluation: dict[str, Any] = {}
    conventions: dict[str, Any] = {}
    recipe: _Recipe = _Recipe()
    lineage: _Lineage = _Lineage()
    gate: _Gate | None = None
    metrics: list[_Table] = []


def check_card(card: dict[str, Any]) -> dict[str, Any]:
    """Return `card` as JSON can have it: null where a figure is not finite.

    Raises ValueError naming every fact that those who read it could not use.
    """
    try:
        _Card.model_validate(card)
    except ValidationError as error:
        raise ValueError("; ".join(faults_of(error))) from None
    plain: dict[str, Any] = from_json(to_json(card, inf_nan_mode="null"))
    return plain


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
