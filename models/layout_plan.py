"""How the tensors of another project's generator are renamed to ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from models.errors import UnknownLayout

State = Mapping[str, Tensor]

_MAX_NAMED_KEYS = 40


@dataclass(frozen=True, slots=True)
class Plan:
    """How to rename: foreign layer -> our layer; `drop_statistics` of norms that keep none.

    `added` is what the foreign state lacks, by its names.
    """

    family: str
    config: dict[str, Any]
    layers: dict[str, str]
    drop_statistics: bool = False
    added: State = field(default_factory=dict)


def side(state: State, key: str, dimension: int) -> int:
    """Return a side of a tensor; raises UnknownLayout where there is none."""
    if key not in state or state[key].ndim <= dimension or not state[key].numel():
        raise UnknownLayout(f"{key} is missing or empty; not understood: {named(state)}")
    return state[key].shape[dimension]


def named(keys: State | list[str]) -> str:
    """List keys, by far enough for every architecture's error to be read."""
    names = sorted(keys)
    more = f", and {len(names) - _MAX_NAMED_KEYS} more" if len(names) > _MAX_NAMED_KEYS else ""
    return ", ".join(names[:_MAX_NAMED_KEYS]) + more
