"""Reads other projects' checkpoint files. Nothing in a file is ever executed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoint import Header, LoadedGenerator, assemble, file_sha256, skeleton
from models.errors import InvalidCheckpoint, UnknownLayout
from models.families import family
from models.layouts import import_state

SUFFIXES = (".pth", ".pt", ".model", ".safetensors")

_WRAPPERS = "model_state_dict", "state_dict", "params_ema", "params-ema", "params", "model", "net"
_PREFIXES = ("module.", "netG.")
_MAX_WRAPPERS = 4


def import_foreign(path: Path, *, per_image: bool = True) -> LoadedGenerator:
    """Read a generator of another project; its architecture is told by keys and shapes.

    Knows the layouts of `models.layouts`, bare or wrapped. The header is named after the file, and
    its card says what was recognised.

    Args:
        path: a .pth, .pt, .model or .safetensors file.
        per_image: give a U-Net or ResNet with BatchNorm each picture's own statistics, as pix2pix
            is run, instead of the running ones.

    Raises:
        InvalidCheckpoint: the file is damaged, or holds anything but tensors and plain values.
        UnknownLayout: names exactly the keys that are not understood.
    """
    imported = import_state(read_foreign(path), per_image=per_image)
    kind = family(imported.family)
    config = kind.generator_config.model_validate(imported.config)
    header = Header(
        family=kind.id,
        generator=config.model_dump(mode="json"),
        name=_name(path),
        card={"imported_from": path.name, "layout": imported.layout},
    )
    module = skeleton(kind, config)
    return assemble(kind, config, module, imported.state, header, file_sha256(path))


def read_foreign(path: Path) -> dict[str, Tensor]:
    """Return a file's state dict, without the wrappers and prefixes that projects put around it.

    Raises:
        InvalidCheckpoint: the file is damaged, or holds anything but tensors and plain values.
        UnknownLayout: there is no state dict in it.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidCheckpoint(f"{path.name} is none of {', '.join(SUFFIXES)}")
    try:
        content = load_file(path) if path.suffix.lower() == ".safetensors" else _unpickle(path)
    except (SafetensorError, OSError) as error:
        raise InvalidCheckpoint(f"{path.name} cannot be read: {error}") from error
    state = {key: value.detach() for key, value in _unwrap(content).items()}
    if any(v.layout != torch.strided or v.device.type != "cpu" for v in state.values()):
        raise InvalidCheckpoint(f"{path.name} holds tensors without plain values")
    # A view may claim any size over a few bytes; the weights of a file cannot outnumber its bytes.
    if sum(value.numel() for value in state.values()) > path.stat().st_size:
        raise InvalidCheckpoint(f"{path.name} claims more weights than it has bytes")
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _unpickle(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):
            _refuse_compressed(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except InvalidCheckpoint:
        raise
    except Exception as error:  # parsers of hostile bytes raise whatever they stumble over
        reason = str(error).partition("\n")[0]
        raise InvalidCheckpoint(
            f"{path.name} does not load as plain tensors, and nothing else is run: {reason}"
        ) from error


def _refuse_compressed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(record.file_size for record in archive.infolist())
    if unpacked > path.stat().st_size:  # torch stores its records uncompressed
        raise InvalidCheckpoint(f"{path.name} is compressed, which torch.save never does")


def _unwrap(content: Any) -> Mapping[str, Tensor]:
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(content, Mapping) or not content:
            break
        if all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
            return content
        names = [name for name in _WRAPPERS if isinstance(content.get(name), Mapping)]
        if not names and len(content) > 1:
            break
        content = content[names[0]] if names else next(iter(content.values()))
    found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    raise UnknownLayout(f"no state dict in the file; not understood: {found}")


def _name(path: Path) -> str:
    """Make a model name of a file name."""
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower())[:64].strip("._-")
    return name or "imported"
