"""What the service says of itself, and a home in which its examples work."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from app.keys import KeyStore, Scope
from app.main import create_app
from models.registry import Registry
from tiny import publish_models, tiny_settings

FOLDER = "/docs/examples/"
MODELS = ("facades", "srresnet-x4", "starry-night", "face-surroundings")


def prepare(home: Path) -> str:
    """Leave in `home` what a while of use leaves: versions, promotions; return a new key."""
    publish_models(home, MODELS)
    registry = Registry(home, home / "no weights")
    file = registry.resolve("starry-night").path
    for _ in range(2):
        version = registry.publish(file, "starry-night").version
    registry.promote("starry-night", version)
    return KeyStore(home).create(set(Scope))[1]


def _bare_app() -> Any:
    return create_app(tiny_settings(Path("no home")))


@functools.cache
def description() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return _bare_app().openapi()  # type: ignore[no-any-return]


def with_files(example: Any) -> Any:
    """Return an example's value, or the file that it names."""
    if isinstance(example, str) and example.startswith(FOLDER):
        return TestClient(_bare_app()).get(example).content
    return example
