"""`anamorph anonymize` and `restore`: faces, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.callers import OPERATOR
from app.commands.common import errors_as_text
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
    from app.faces.anonymizing import Anonymized
    from app.faces.restoring import Restored
    from app.service import Service


def anonymize(
    source: Input,
    target: Output,
    passcode_file: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Text file that holds the passcode to restore by."
        ),
    ] = None,
    method: Annotated[str, typer.Option(help="generate, blur, pixelate or solid.")] = "generate",
    faces: Annotated[
        str | None,
        typer.Option(help="JSON: boxes of left, top, right, bottom; else those found."),
    ] = None,
    allow_no_face: Annotated[
        bool, typer.Option("--allow-no-face", help="Write a picture without faces as it is.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="A generator by name.")] = None,
    device: Device = None,
    quality: Quality = None,
) -> None:
    """Make every face of a picture into another one."""
    from app.faces import anonymizing
    from app.faces.passcodes import read_passcode
    from app.schemas.pictures import AnonymizeParams

    async def work(service: Service) -> Anonymized:
        if name := anonymizing.generator_name(params):
            await service.catalog.load(name=name.partition("@")[0])
        return await anonymizing.anonymize(service, source.read_bytes(), params, OPERATOR)

    with errors_as_text():
        params = AnonymizeParams.model_validate(
            {
                "passcode": passcode_file and read_passcode(passcode_file),
                "method": method,
                "faces": faces,
                "allow_no_face": allow_no_face,
                "model": model,
                "format": format_of(target),
                "quality": quality,
            }
        )
        done = with_service(device, work)
        write_whole(target, done.data)
        uncertain = sum(target.face.uncertain for target in done.targets)
        count = len(done.targets)
        faces_found = f"{count} {'face' if count == 1 else 'faces'}"
        typer.echo(f"{target}: {faces_found}, {uncertain} uncertain, {done.method}", err=True)


def restore(
    source: Input,
    target: Output,
    passcode_file: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Text file that holds the passcode.")
    ],
    decoy: Annotated[
        bool, typer.Option("--decoy", help="Answer a wrong passcode with another plausible face.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="The generator it was anonymized by, where the seal is lost.")
    ] = None,
    device: Device = None,
    quality: Quality = None,
) -> None:
    """Bring the original faces of an anonymized picture back."""
    from app.faces import restoring
    from app.faces.passcodes import read_passcode
    from app.schemas.pictures import RestoreParams
    from models import images

    async def work(service: Service) -> Restored:
        data = source.read_bytes()
        kind = images.read_header(data, service.image_limits).format
        if restoring.needs_generator(restoring.seal_of(data, kind), params):
            await service.catalog.load(name=restoring.generator_name(params).partition("@")[0])
        return await restoring.restore(service, data, params, OPERATOR, "command line")

    with errors_as_text():
        params = RestoreParams(
            passcode=read_passcode(passcode_file),
            decoy=decoy,
            model=model,
            format=format_of(target),
            quality=quality,
        )
        restored = with_service(device, work)
        write_whole(target, restored.data)
        height, width = restored.size
        typer.echo(f"{target}: {width} x {height}, {restored.outcome}", err=True)
        if restored.outcome == "approximate":
            typer.echo(
                "It has no seal: unless this passcode made it, these faces are nobody's.",
                err=True,
            )
