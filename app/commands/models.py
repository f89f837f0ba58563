"""`anamorph models`: what is at hand, importing more, and which version serves."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.common import errors_as_text, settings_from

if TYPE_CHECKING:
    from models.registry import ModelVersion

app = typer.Typer(no_args_is_help=True, help="The models at hand.")

_Name = Annotated[str, typer.Argument(help="Name of a model.")]
_Version = Annotated[int, typer.Argument(min=1, help="Number of one of its versions.")]


@app.command("list")
def list_models() -> None:
    """Every version of every model; the star marks the one that is served."""
    from app.installation import open_registry

    with errors_as_text():
        for version in open_registry(settings_from()).list():
            star = "*" if version.promoted else " "
            typer.echo(
                f"{star} {version.label:<28} {version.header.family:<10} {version.sha256[:12]}"
            )


@app.command("card")
def show_card(model: Annotated[str, typer.Argument(help="Name or name@version.")]) -> None:
    """Print a model's card as Markdown."""
    from app.installation import open_registry
    from models.card import markdown

    with errors_as_text():
        typer.echo(markdown(open_registry(settings_from()).resolve(model).header), nl=False)


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    name: Annotated[str, typer.Option(help="What the model will be called.")],
) -> None:
    """Publish and promote a checkpoint (.safetensors, .pth, .pt, .model), also of other projects.

    Nothing in the file is executed. What is not understood is named. Whose the file was where it
    was made does not matter: a new model is everybody's, a further version its model's owner's.
    """
    from app.callers import OPERATOR
    from app.installation import open_registry
    from app.visible import owner_of_next
    from models.checkpoint import amend_card, has_header, load_generator, save_generator
    from models.errors import AnamorphError
    from models.importers import import_foreign
    from models.registry import check_name

    with errors_as_text(), tempfile.TemporaryDirectory() as folder:
        check_name(name)
        copy = Path(folder) / "model.safetensors"
        if has_header(file):
            loaded = load_generator(file)
            shutil.copyfile(file, copy)
            if loaded.header.name != name:
                amend_card(copy, {}, name)
        else:
            loaded = import_foreign(file)
            save_generator(copy, loaded.module, loaded.header.model_copy(update={"name": name}))
        registry = open_registry(settings_from())
        _give(copy, owner_of_next(registry, name, OPERATOR))
        version = registry.publish(copy, name)
        try:
            _try_out(version)
        except AnamorphError:
            registry.delete(name, version.version)
            raise
        registry.promote(name, version.version, force=True)  # asked for in so many words
        typer.echo(f"{name}@{version.version}: {loaded.family.id}, does {loaded.family.task.value}")
        for key, value in loaded.config.model_dump(exclude=loaded.config.unused()).items():
            typer.echo(f"  {key}: {value}")


def _give(file: Path, owner: str | None) -> None:
    """Make a file the owner's, or nobody's; one that is so already stays as it is."""
    from models.checkpoint import amend_card, read_header

    lineage = read_header(file).card.get("lineage", {})
    if lineage.get("owner") != owner:
        others = {key: value for key, value in lineage.items() if key != "owner"}
        amend_card(file, {"lineage": others | ({"owner": owner} if owner else {})})


def _try_out(version: ModelVersion) -> None:
    """Raise what a service would refuse to serve it for; it will find it compiled."""
    from app.installation import choose_device, open_cache
    from app.opening import open_version

    settings = settings_from()
    open_version(version, choose_device(settings.device), open_cache(settings))


@app.command("versions")
def list_versions(name: _Name) -> None:
    """Every version of one model with what it was made from; the star marks what is served."""
    from app.installation import open_registry

    with errors_as_text():
        for version in open_registry(settings_from()).versions(name):
            star = "*" if version.promoted else " "
            typer.echo(f"{star} {version.label:<28} {version.sha256[:12]}")
            for key, value in version.lineage.items():
                typer.echo(f"    {key}: {value}")
            if version.gate:
                passed = "passed" if version.gate.get("passed") else "refused"
                typer.echo(f"    gate: {passed}: {version.gate.get('reason', '')}")


@app.command()
def promote(
    name: _Name,
    version: _Version,
    force: Annotated[
        bool, typer.Option("--force", help="Even if it did not pass the gate.")
    ] = False,
) -> None:
    """Let a version serve; running services follow within ANAMORPH_RELOAD_S."""
    from app.installation import open_registry

    with errors_as_text():
        registry = open_registry(settings_from())
        _try_out(registry.resolve(f"{name}@{version}"))
        typer.echo(f"{registry.promote(name, version, force=force).label} serves")


@app.command()
def rollback(name: _Name) -> None:
    """Let the version serve that was promoted before the present one."""
    from app.installation import open_registry

    with errors_as_text():
        typer.echo(f"{open_registry(settings_from()).rollback(name).label} serves")


@app.command()
def delete(name: _Name, version: _Version) -> None:
    """Remove a version for good, and with the last one its name.

    Refused if it ships, or while it is promoted and there are others of its name.
    """
    from app.installation import open_registry

    with errors_as_text():
        open_registry(settings_from()).delete(name, version)
        typer.echo(f"{name}@{version} is deleted")
