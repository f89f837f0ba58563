"""The calls about the service itself and its models.

Promoting a version twice is promoting it once; rolling back twice is not, and a deletion that is
repeated would answer that there was nothing to delete.
"""

from __future__ import annotations

from anamorph.call import Call, nothing, segment
from anamorph.records import Limits, Model, ModelDetails, Readiness, Version, reader


def health() -> Call[dict[str, str]]:
    """Return `{"status": "ok"}` if the process answers."""
    return Call("GET", "/healthz", reader(dict[str, str]))


def readiness() -> Call[Readiness]:
    """Return what is loaded, if every model is; raises NotReady at once until then."""
    return Call("GET", "/readyz", reader(Readiness))


def limits() -> Call[Limits]:
    """Return what the service takes and gives at most."""
    return Call("GET", "/v1/limits", reader(Limits), repeatable=True)


def list_models() -> Call[list[Model]]:
    """Return every model that is served, by name."""
    return Call("GET", "/v1/models", reader(list[Model]), repeatable=True)


def get_model(name: str) -> Call[ModelDetails]:
    """Return a model with its card and where it runs. Raises ModelNotFound."""
    return Call("GET", f"/v1/models/{segment(name)}", reader(ModelDetails), repeatable=True)


def list_versions(name: str) -> Call[list[Version]]:
    """Return every version of a model, by number. Raises ModelNotFound."""
    path = f"/v1/models/{segment(name)}/versions"
    return Call("GET", path, reader(list[Version]), repeatable=True)


def promote(name: str, version: int, *, force: bool = False) -> Call[Model]:
    """Let a version serve; returns once it does.

    Args:
        name: of the model.
        version: its number.
        force: even if it did not pass its comparison, which otherwise raises GateRefused with the
            figures in `problem["verdict"]`.
    """
    body = {"version": version, "force": force}
    path = f"/v1/models/{segment(name)}/promote"
    return Call("POST", path, reader(Model), json=body, repeatable=True)


def rollback(name: str) -> Call[Model]:
    """Let the version serve that was promoted before; returns once it does."""
    return Call("POST", f"/v1/models/{segment(name)}/rollback", reader(Model))


def delete_version(name: str, version: int) -> Call[None]:
    """Remove a version for good, and with the last one its name.

    Raises ModelProtected while it is promoted or serves and there are others of its name.
    """
    return Call("DELETE", f"/v1/models/{segment(name)}/versions/{segment(version)}", nothing)
