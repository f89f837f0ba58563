"""What the settings and the machine give: the models at hand, the device, the code's version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import torch

from app.compiled_cache import CompiledCache
from app.errors import ServiceError
from app.settings import Settings
from models.registry import Registry


def open_registry(settings: Settings) -> Registry:
    """Return the models that the settings name: published and shipped ones."""
    return Registry(settings.home, settings.shipped_weights)


def open_cache(settings: Settings) -> CompiledCache:
    """Return the networks compiled before, by any process with the same `home`."""
    return CompiledCache(settings.home / "cache")


def choose_device(name: str) -> torch.device:
    """Return the torch device of the setting "auto", "cpu" or "cuda".

    Raises ServiceError for "cuda" where there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ServiceError("cuda: no GPU that this torch can use; auto takes the CPU then")
    return torch.device("cuda:0" if name == "cuda" else name)


def code_version() -> str:
    """Return the version of the installed code; "0" where it runs from a source tree."""
    try:
        return version("anamorph")
    except PackageNotFoundError:
        return "0"
