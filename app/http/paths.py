"""A request's path as the routes are written, wherever a proxy has put the service."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi.routing import RouteContext, iter_route_contexts
from starlette.types import Scope


def path_of(scope: Scope) -> str:
    """Return a connection's path below `root_path`; "" where there is none, as at the start."""
    path: str = scope.get("path", "")
    return path.removeprefix(scope.get("root_path", ""))


def routes_at(scope: Scope) -> Iterator[RouteContext]:
    """Yield all routes of a connection's path, whatever methods they take."""
    path = path_of(scope)
    for route in iter_route_contexts(scope["app"].routes):
        if (pattern := getattr(route, "path_regex", None)) and pattern.match(path):
            yield route
