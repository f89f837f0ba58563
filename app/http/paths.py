"""A request's path as the routes are written, wherever a proxy has put the service."""

from __future__ import annotations

from starlette.types import Scope


def path_of(scope: Scope) -> str:
    """Return a connection's path below `root_path`; "" where there is none, as at the start."""
    path: str = scope.get("path", "")
    return path.removeprefix(scope.get("root_path", ""))
