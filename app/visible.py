"""Whose a model is: every version of a name has the owner of the first.

So what a name means to others is never changed by somebody else's training.
"""

from __future__ import annotations

import contextlib

from app.callers import Caller
from app.errors import NameTaken
from models.errors import ModelNotFound
from models.registry import Registry


def check_visible(registry: Registry, name: str, caller: Caller) -> str | None:
    """Return the model's owner if the caller may use it; raises ModelNotFound if not."""
    try:
        owner = registry.owner(name)
    except ModelNotFound:
        if caller.sees_all:
            raise
    else:
        if caller.may_use(owner):
            return owner
    raise ModelNotFound(f"there is no model {name!r}")  # the registry would list others' names


def owner_of_next(registry: Registry, name: str, caller: Caller) -> str | None:
    """Return whose the next version of `name` will be.

    Raises NameTaken if that would be neither the caller's nor one that they may change.
    """
    try:
        owner = registry.owner(name)
    except ModelNotFound:
        return caller.key_id
    if not caller.owns(owner):
        raise name_taken(name)
    return owner


def check_name(registry: Registry, name: str, owner: str | None) -> None:
    """Raise NameTaken if models of that name are others' than `owner`'s."""
    with contextlib.suppress(ModelNotFound):
        if registry.owner(name) != owner:
            raise name_taken(name)


def name_taken(name: str) -> NameTaken:
    """Return the error that tells no more than it must."""
    return NameTaken(f"the name {name!r} is taken; choose another one for your model")
