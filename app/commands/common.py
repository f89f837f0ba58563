"""What every command does with its settings and its errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import typer
from pydantic import ValidationError

from app.settings import Settings
from models.errors import AnamorphError
from models.faults import faults_of


def settings_from(**overrides: Any) -> Settings:
    """Return the settings with what the command line gave; None leaves one to the environment."""
    return Settings(**{name: value for name, value in overrides.items() if value is not None})


@contextlib.contextmanager
def errors_as_text() -> Iterator[None]:
    """Print the project's own errors without a traceback and exit: 2 for settings, else 1."""
    try:
        yield
    except ValidationError as error:
        typer.echo("\n".join(faults_of(error)), err=True)
        raise typer.Exit(2) from None
    except (AnamorphError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
