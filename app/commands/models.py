"""`anamorph models`: what is at hand, and importing more."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from app.commands.common import errors_as_text, settings_from

app = typer.Typer(no_args_is_help=True, help="The models at hand.")


@app.command("list")
def list_models() -> None:
    """Every version of every model; the star marks the one that is served."""
    from app.service import open_registry

    with errors_as_text():
        for version in open_registry(settings_from()).list():
            star = "*" if version.promoted else " "
            label = f"{version.name}@{version.version}"
            typer.echo(f"{star} {label:<28} {version.header.family:<10} {version.sha256[:12]}")


@app.command("card")
def show_card(model: Annotated[str, typer.Argument(help="Name or name@version.")]) -> None:
    """Print a model's card as Markdown."""
    from app.service import open_registry
    from models.card import markdown

    with errors_as_text():
        typer.echo(markdown(open_registry(settings_from()).resolve(model).header), nl=False)


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    name: Annotated[str, typer.Option(help="What the model will be called.")],
) -> None:
    """Publish and promote a checkpoint (.safetensors, .pth, .pt, .model), also of other projects.

    Nothing in the file is executed. What is not understood is named.
    """
    from app.service import open_registry
    from models.checkpoint import load_generator, read_header, save_generator
    from models.errors import InvalidCheckpoint
    from models.importers import import_foreign

    with errors_as_text(), tempfile.TemporaryDirectory() as folder:
        try:
            read_header(file)
        except InvalidCheckpoint:  # not this project's format
            loaded = import_foreign(file)
            file = Path(folder) / "model.safetensors"
            save_generator(file, loaded.module, loaded.header.model_copy(update={"name": name}))
        else:
            loaded = load_generator(file)
        registry = open_registry(settings_from())
        version = registry.publish(file, name)
        registry.promote(name, version.version)
        typer.echo(f"{name}@{version.version}: {loaded.family.id}, does {loaded.family.task.value}")
        for key, value in (loaded.header.card | loaded.config.model_dump()).items():
            typer.echo(f"  {key}: {value}")
