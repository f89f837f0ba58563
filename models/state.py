"""The whole state of a training in one safetensors file: nested dicts of tensors and plain values.

Written to a neighbour and renamed, so a kill leaves the previous file or the new one, never half.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.errors import InvalidCheckpoint
from models.files import write_atomically

_TENSOR = "$tensor"
_KEYED = "$keyed"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` atomically: dicts, lists, tensors, and what JSON holds."""
    tensors: dict[str, Tensor] = {}
    tree = _fold(state, tensors)
    write_atomically(path, lambda target: save_file(tensors, target, {"state": json.dumps(tree)}))


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote; raises InvalidCheckpoint for a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads(file.metadata()["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 -- no dict
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidCheckpoint(f"{path.name} is not a training state: {error}") from error
    state: dict[str, Any] = _unfold(tree, tensors)
    return state


def _fold(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: key}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _fold(item, tensors) for key, item in value.items()}
        return {_KEYED: [[key, _fold(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_fold(item, tensors) for item in value]
    return value


def _unfold(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if _KEYED in value:
            return {key: _unfold(item, tensors) for key, item in value[_KEYED]}
        return {key: _unfold(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_unfold(item, tensors) for item in value]
    return value
