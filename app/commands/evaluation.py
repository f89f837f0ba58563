"""`anamorph evaluate`: figures of one model, or of all of them in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.common import errors_as_text, settings_from
from app.commands.pictures import Device, in_a_folder
from models.errors import AnamorphError

if TYPE_CHECKING:
    import torch

    from app.settings import Settings
    from models.checkpoint import LoadedGenerator
    from models.evaluation.protocols import Table

    Measure = Callable[..., list[Table]]

_SAMPLES = 4
_SEALED = 40


def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="Name, name@version or a .safetensors file.")
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Every model that is served; without --data, as the cards have them."
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="What the recipes' paths start from."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Pictures of each folder.")] = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Of the direct optimisation a style is compared with.")
    ] = 50,
    features: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="VGG16 weights.")
    ] = None,
    device: Device = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A file to measure on the same pictures, as one more row; may be repeated.",
        ),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write the figures into the file's card.")
    ] = False,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Of all, the cards' figures, with --data too.")
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            callback=in_a_folder,
            help="Of all, write a Markdown page too; with --data, pictures beside it in images/.",
        ),
    ] = None,
) -> None:
    """Measure a model on its test pictures; every figure with its protocol and its baselines."""
    from app.installation import choose_device

    if every == (model is not None):
        raise typer.BadParameter("name a model, or ask for --all")
    if model and not data:
        raise typer.BadParameter("a model is measured on --data")
    if (every and (record or beside)) or (model and (page or recorded)):
        raise typer.BadParameter(
            "--record and --beside are for one model, --page and --recorded for --all"
        )
    with errors_as_text():
        settings = settings_from(device=device, vgg16=features)
        place = choose_device(settings.device)
        measure = (
            None
            if data is None or recorded
            else partial(
                _measured,
                data_root=data,
                features=settings.vgg16,
                limit=limit,
                steps=steps,
                device=place,
            )
        )
        if model and measure:
            _measure_one(model, settings, measure, beside or [], record)
        else:
            _compare_all(settings, measure, page, data, place)


def _measured(
    loaded: LoadedGenerator,
    *,
    data_root: Path,
    limit: int | None,
    device: torch.device,
    **how: Any,
) -> list[Table]:
    """Measure a model, and for face generators the service's seal beside it."""
    from app.faces.exactness import seal_table
    from models.evaluation import figures
    from models.evaluation.data import FacesTest, parse_test, pictures_of
    from models.faces.detection import open_detector
    from models.family import Task

    tables = figures.evaluate(loaded, data_root, limit=limit, device=device, **how)
    if loaded.family.task is Task.ANONYMIZE:
        people = parse_test(FacesTest, loaded.header.card["evaluation"]).people
        photos = pictures_of(data_root, people, limit or _SEALED)
        name = loaded.header.name
        tables.append(seal_table(name, people, photos, open_detector(device)))
    return tables


def _measure_one(
    model: str, settings: Settings, measure: Measure, beside: list[Path], record: bool
) -> None:
    from app.installation import open_registry
    from models.checkpoint import amend_card, load_generator
    from models.family import Task

    path = Path(model)
    if record and not path.is_file():
        raise typer.BadParameter("published versions never change: --record takes a file")
    if not path.is_file():
        path = open_registry(settings).resolve(model).path
    loaded = load_generator(path)
    rivals: dict[str, LoadedGenerator] = {}
    for file in beside:
        rival = load_generator(file)
        if rival.family.task is not loaded.family.task:
            raise typer.BadParameter("--beside takes models for the same task")
        name = rival.header.name
        rivals[str(file) if name in {loaded.header.name, *rivals} else name] = rival
    if rivals and loaded.family.task is Task.ANONYMIZE:
        raise typer.BadParameter("anonymizers are measured one by one")
    tables = measure(loaded, rivals=rivals)
    typer.echo("\n\n".join(map(str, tables)))
    if record:
        amend_card(path, {"metrics": [table.as_card() for table in tables]})


def _compare_all(
    settings: Settings,
    measure: Measure | None,
    page: Path | None,
    data: Path | None,
    device: torch.device,
) -> None:
    from models.checkpoint import load_generator
    from models.evaluation import quality

    figures, pictures = [], {}
    for name, path in _served(settings):
        try:
            loaded = load_generator(path)
            metrics: list[dict[str, Any]] = loaded.header.card.get("metrics", [])
            if measure:
                metrics = [table.as_card() for table in measure(loaded)]
            if page and data:
                pictures[name] = _write_samples(page.parent, name, loaded, data, device)
        except AnamorphError as error:  # an imported model has no test data; the others have
            typer.echo(f"{name}: {error}", err=True)
            continue
        if not metrics:
            typer.echo(f"{name}: its card has no figures", err=True)
        figures += quality.figures_of(name, metrics)
    if not figures and not pictures:  # a page that was good stays
        typer.echo("there is nothing to show of any model", err=True)
        raise typer.Exit(1)
    typer.echo(quality.as_text(figures))
    if page:
        page.write_text(quality.as_page(figures, pictures), "utf-8")


def _served(settings: Settings) -> Iterator[tuple[str, Path]]:
    from app.installation import open_registry

    for version in open_registry(settings).list():
        if version.promoted:
            yield version.name, version.path


def _write_samples(
    folder: Path, name: str, loaded: LoadedGenerator, data: Path, device: torch.device
) -> str:
    """Write a JPEG of test pictures and answers; return its path from `folder`."""
    from models import images
    from models.evaluation.samples import samples, sheet

    target = folder / "images" / f"quality-{name}.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    picture = images.Picture(sheet(samples(loaded, data, _SAMPLES, device)), None, "jpeg")
    target.write_bytes(images.encode(picture, "jpeg", 85))
    return target.relative_to(folder).as_posix()
