"""The command `anamorph`. A new command is one more decorated function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from app.callers import OPERATOR, Caller
from app.commands import datasets, evaluation, faces, jobs, keys, models
from app.commands.common import errors_as_text, settings_from
from app.commands.pictures import (
    Device,
    Input,
    Output,
    Quality,
    format_of,
    with_service,
    write_whole,
)

if TYPE_CHECKING:
    from app.inference import Plan, Result
    from app.service import Service
    from models.registry import Registry

P = TypeVar("P")

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.add_typer(models.app, name="models")
app.add_typer(jobs.app, name="jobs")
app.add_typer(datasets.app, name="datasets")
app.add_typer(keys.app, name="keys")
app.command()(evaluation.evaluate)
app.command()(faces.anonymize)
app.command()(faces.restore)


def _tell_version(asked: bool) -> None:
    if asked:
        from app.installation import code_version

        typer.echo(f"anamorph {code_version()}")
        raise typer.Exit


@app.callback()
def anamorph(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_tell_version, help="Tell the version."),
    ] = False,
) -> None:
    """Image-to-image generation."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 8000.")] = None,
    device: Device = None,
    worker: Annotated[
        bool | None, typer.Option(help="Start a worker that trains beside the service.")
    ] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Ask nobody for a key, on any address.")
    ] = None,
) -> None:
    """Serve every promoted model over HTTP, and train what is asked for."""
    from app.server import serve

    with errors_as_text():
        serve(settings_from(host=host, port=port, device=device, worker=worker, insecure=insecure))


@app.command()
def worker(
    device: Device = None,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
) -> None:
    """Train what is in the queue, one job at a time; start one for each device."""
    from app.logs import configure_logs
    from app.retraining.worker import run_worker

    with errors_as_text():
        settings = settings_from(device=device)
        configure_logs(settings.log_level)
        run_worker(settings, until_stdin_closes=until_stdin_closes)


@app.command()
def translate(
    source: Input,
    target: Output,
    model: Annotated[str, typer.Option(help="For example facades.")],
    device: Device = None,
    quality: Quality = None,
) -> None:
    """Turn a picture of one domain into one of another."""
    from app.plans import translate_plan
    from app.schemas.pictures import TranslateParams

    with errors_as_text():
        params = TranslateParams(model=model, format=format_of(target), quality=quality)
        _apply(source, target, device, params.model, translate_plan, params)


@app.command()
def upscale(
    source: Input,
    target: Output,
    scale: Annotated[int, typer.Option(min=2, max=4, help="So many times a side.")] = 4,
    detail: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="From 0, soft and true, to 1, sharp and made up."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="An upscaler by name.")] = None,
    device: Device = None,
    quality: Quality = None,
) -> None:
    """Enlarge a picture 2, 3 or 4 times."""
    from app.plans import upscale_plan
    from app.schemas.pictures import UpscaleParams

    with errors_as_text():
        params = UpscaleParams(
            scale=scale, detail=detail, model=model, format=format_of(target), quality=quality
        )
        alone = params.model if detail is None else None  # else its counterpart is asked for, too
        _apply(source, target, device, alone, upscale_plan, params)


@app.command()
def stylize(
    source: Input,
    target: Output,
    style: Annotated[str, typer.Option(help="For example starry-night.")],
    strength: Annotated[float, typer.Option(min=0, max=1)] = 1.0,
    keep_colors: Annotated[bool, typer.Option()] = False,
    device: Device = None,
    quality: Quality = None,
) -> None:
    """Paint a picture in a style."""
    from app.plans import stylize_plan
    from app.schemas.pictures import StylizeParams

    with errors_as_text():
        params = StylizeParams(
            style=style,
            strength=strength,
            keep_colors=keep_colors,
            format=format_of(target),
            quality=quality,
        )
        _apply(source, target, device, params.style, stylize_plan, params)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="For example recipes/facades.toml.")],
    data: Annotated[Path, typer.Option(help="Folder that the recipe's paths are relative to.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; by default runs/RECIPE in the home.")
    ] = None,
    device: Device = None,
    features: Annotated[
        Path | None, typer.Option(help="VGG16 weights; for faces MobileFaceNet's.")
    ] = None,
    stop_after: Annotated[int | None, typer.Option(min=1, help="Pause at this step.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Replace a key: training.steps=100")
    ] = None,
) -> None:
    """Train a recipe, or go on with the training in its folder."""
    import torch

    from app.installation import choose_device, open_registry
    from app.signals import stop_signal
    from models import training
    from models.evaluation.data import check_evaluation
    from models.recipe import load_recipe

    with errors_as_text(), stop_signal() as asked:
        settings = settings_from(device=device, vgg16=features)
        folder = out or settings.home / "runs" / recipe.stem
        wanted = load_recipe(recipe, changes or ())
        check_evaluation(wanted)
        made = training.train(
            wanted,
            folder,
            data_root=data,
            # Without an index: torchrun gives each of its processes a GPU.
            device=torch.device(choose_device(settings.device).type),
            # Of faces the features are an embedding, which no setting names.
            features=features if wanted.family == "anonymizer" else settings.vgg16,
            find_model=partial(_find_model, open_registry(settings)),
            stop_after=stop_after,
            should_stop=asked.is_set,
            show_bar=True,
        )
        for path in made.values():
            typer.echo(f"anamorph models import {path} --name {path.stem}")
        if not made and (asked.is_set() or stop_after):
            typer.echo(f"paused; the same command goes on from the state in {folder}", err=True)
            raise typer.Exit(130 if asked.is_set() else 0)


def _apply(
    source: Path,
    target: Path,
    device: str | None,
    model: str | None,
    make_plan: Callable[[Service, P, Caller], Awaitable[Plan]],
    params: P,
) -> None:
    """Answer one picture in this process, loading only `model` (None: every upscaler)."""
    from app import inference
    from models.family import Task

    async def answer(service: Service) -> Result:
        name = model and model.partition("@")[0]
        await service.catalog.load(name=name, task=None if name else Task.UPSCALE)
        plan = await make_plan(service, params, OPERATOR)
        return await inference.run(service, source.read_bytes(), plan)

    result = with_service(device, answer)
    write_whole(target, result.data)
    height, width = result.size
    seconds = sum(result.seconds.values())
    typer.echo(f"{target}: {width} x {height}, {result.model.label}, {seconds:.2f} s", err=True)


def _find_model(registry: Registry, reference: str) -> Path:
    """Return the file that a recipe's [initial] table means: a path, "name" or "name@version".

    Raises ModelNotFound.
    """
    path = Path(reference)
    return path if path.is_file() else registry.resolve(reference).path


if __name__ == "__main__":
    app()
