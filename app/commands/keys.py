"""`anamorph keys`: who may use the service."""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands.common import errors_as_text, settings_from

app = typer.Typer(no_args_is_help=True, help="Keys to the service.")


@app.command()
def create(
    scope: Annotated[str, typer.Option(help="Of infer, train and admin, with commas between.")],
    name: Annotated[str, typer.Option(help="To tell it from others in the list.")] = "",
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Instead of the service's limit.")
    ] = None,
    compute_s_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Seconds of the device, instead of the service's.")
    ] = None,
) -> None:
    """Make a key and print it: it is shown now and never again."""
    from app.errors import InvalidParameter
    from app.keys import KeyStore, Scope

    with errors_as_text():
        asked = [word.strip() for word in scope.split(",")]
        if wrong := sorted(set(asked) - set(Scope)):
            raise InvalidParameter(f"scope: {', '.join(wrong)} is none of {', '.join(Scope)}")
        key, text = KeyStore(settings_from().home).create(
            map(Scope, asked), name, requests_per_minute, compute_s_per_minute
        )
        typer.echo(text)
        typer.echo(f"keep it: it is not shown again. Its id is {key.id}", err=True)


@app.command("list")
def list_keys() -> None:
    """Every key, the oldest first, with its scopes and its last use."""
    from app.keys import KeyStore

    with errors_as_text():
        for key in KeyStore(settings_from().home).list():
            scopes = ",".join(sorted(key.scopes))
            used = f"used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used"
            state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else used
            typer.echo(f"{key.id}  {key.created_at:%Y-%m-%d}  {scopes:<17}  {state}  {key.name}")


@app.command()
def revoke(id: Annotated[str, typer.Argument(help="As `keys list` shows it.")]) -> None:  # noqa: A002
    """Let a key open nothing any more, at once, also in services that run."""
    from app.keys import KeyStore

    with errors_as_text():
        typer.echo(f"{KeyStore(settings_from().home).revoke(id).id} is revoked")
