"""`anamorph datasets`: training data, without a server."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer

from app.callers import OPERATOR
from app.commands.common import errors_as_text, settings_from
from app.datasets.layouts import EXPECTED, Kind

app = typer.Typer(no_args_is_help=True, help="The training data at hand.")

_Id = Annotated[str, typer.Argument(help="As `datasets list` shows it.")]
_KINDS = "; ".join(f"{kind}: {expected}" for kind, expected in EXPECTED.items())


@app.command("add")
def add_dataset(
    source: Annotated[Path, typer.Argument(exists=True, help="A zip of pictures, or a folder.")],
    kind: Annotated[Kind, typer.Option(help=_KINDS)],
    name: Annotated[str, typer.Option(help="What people call it.")],
) -> None:
    """Check pictures and store them as training data; the source is left as it is."""
    from app.datasets.store import open_datasets

    with errors_as_text():
        store = open_datasets(settings_from())
        store.sweep()
        dataset, is_new = store.add(source, name, kind)
        typer.echo(f"{dataset.id} {'added' if is_new else 'is there already'}: {dataset.name}")
        typer.echo(_counts(dataset.counts))
        for path, why in dataset.skipped.items():
            typer.echo(f"left out: {path}: {why}", err=True)
        for warning in dataset.warnings:
            typer.echo(f"warning: {warning}", err=True)


@app.command("list")
def list_datasets() -> None:
    """Every dataset, the oldest first."""
    from app.datasets.store import open_datasets

    with errors_as_text():
        for dataset in open_datasets(settings_from()).list(OPERATOR):
            counts = _counts(dataset.counts)
            typer.echo(f"{dataset.id}  {dataset.name:<24} {dataset.kind:<8}  {counts}")


@app.command("show")
def show_dataset(id: _Id) -> None:  # noqa: A002
    """Print a dataset's manifest, and check its pictures against it."""
    from app.datasets.store import open_datasets

    with errors_as_text():
        dataset = open_datasets(settings_from()).get(id, OPERATOR)
        typer.echo(json.dumps(dataset.facts(), indent=1))
        typer.echo(f"contact sheet: {dataset.contact_sheet}", err=True)
        dataset.verify()


@app.command("delete")
def delete_dataset(id: _Id) -> None:  # noqa: A002
    """Remove a dataset; refused while a training job uses it."""
    from app.datasets.store import open_datasets
    from app.retraining.jobs import Jobs

    with errors_as_text(), contextlib.closing(Jobs(settings_from())) as jobs:
        open_datasets(settings_from()).delete(id, OPERATOR, jobs.using)
        typer.echo(f"{id} is deleted")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {part}" for part, count in counts.items())
