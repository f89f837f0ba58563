"""The one weight format written: safetensors with a JSON header that says how to build the network.

The header lies in the safetensors metadata under "anamorph", so a file explains itself. Nothing in
a file is executed, and nothing larger than the file is allocated before it has been checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.card import check_card
from models.errors import InvalidCheckpoint
from models.families import family
from models.family import WEIGHTLESS, Config, Family
from models.faults import faults_of
from models.files import write_atomically

NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"

_METADATA_KEY = "anamorph"


class Header(BaseModel):
    """What a file says about its weights.

    Attributes:
        format: version of this format.
        family: id of the family that builds the generator.
        generator: the family's hyperparameters.
        name: what the model is called where it was made.
        card: facts for people and for the service (`models.card`): task_note, data, metrics, ...
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    family: str
    generator: dict[str, Any]
    name: str = Field(pattern=NAME_PATTERN)
    card: Annotated[dict[str, Any], AfterValidator(check_card)] = Field(default_factory=dict)

    @property
    def stage(self) -> str:
        """Whether an upscaler is to be right ("regression") or to look right ("adversarial")."""
        objective = self.card.get("recipe", {}).get("objective", {})
        return str(objective.get("stage", self.card.get("stage")) or "regression")


@dataclass(frozen=True, slots=True, eq=False)
class LoadedGenerator:
    """A generator in evaluation mode, float32, on the CPU, with what its file says about it.

    Attributes:
        sha256: of the file it was read from, in hexadecimal.
    """

    family: Family
    config: Config
    module: nn.Module
    header: Header
    sha256: str


def save_generator(
    path: Path, generator: nn.Module, header: Header, dtype: torch.dtype = torch.float32
) -> None:
    """Write a generator atomically, its floating-point tensors as `dtype`.

    Raises:
        InvalidCheckpoint: the weights do not fit the header, or are not finite as `dtype`.
    """
    state = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for key, value in generator.state_dict().items()
    }
    _check_finite(state)
    _, _, expected = _skeleton(header, _shapes(state))
    _check_shapes(_shapes(state), expected)
    metadata = {_METADATA_KEY: header.model_dump_json()}
    write_atomically(path, lambda target: save_file(state, target, metadata))


def load_generator(path: Path) -> LoadedGenerator:
    """Read what `save_generator` wrote.

    Raises:
        InvalidCheckpoint: the file is missing or damaged, or its tensors are not the ones its
            header's hyperparameters ask for.
    """
    header, state = _read(path)
    try:
        kind, config, module = _skeleton(header, _shapes(state))
        return assemble(kind, config, module, state, header, file_sha256(path))
    except InvalidCheckpoint as error:
        raise InvalidCheckpoint(f"{path.name}: {error}") from error


def read_header(path: Path) -> Header:
    """Read a file's header alone; raises InvalidCheckpoint as `load_generator` does."""
    return _read(path, tensors=False)[0]


def has_header(path: Path) -> bool:
    """Tell whether a file claims to be of this format; one that does not may be imported."""
    try:
        with safe_open(path, framework="pt") as file:
            return _METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return False


def amend_card(path: Path, facts: Mapping[str, Any], name: str | None = None) -> None:
    """Replace facts of a file's card, such as "metrics", and its name; its weights stay.

    The recipe in the card gets the new name too, which tells the directions of a CycleGAN apart.
    Raises InvalidCheckpoint as `load_generator` does, and for facts that no card may hold.
    """
    header, state = _read(path)
    card = header.card | dict(facts)
    if name and (recipe := card.get("recipe")):
        names = {header.name: name, name: header.name}  # swapped, so that each stays one model's
        models = {key: names.get(model, model) for key, model in recipe.get("models", {}).items()}
        card["recipe"] = recipe | {"models": models}
    changes = {"card": card, "name": name or header.name}
    try:
        amended = Header.model_validate(header.model_dump() | changes)
    except ValidationError as error:
        raise InvalidCheckpoint(f"{path.name}: {'; '.join(faults_of(error))}") from error
    metadata = {_METADATA_KEY: amended.model_dump_json()}
    write_atomically(path, lambda target: save_file(state, target, metadata))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def skeleton(kind: Family, config: Config) -> nn.Module:
    """Build a generator on the meta device: shapes without memory."""
    with torch.device("meta"):
        return kind.build_generator(config)


def assemble(
    kind: Family,
    config: Config,
    module: nn.Module,
    state: Mapping[str, Tensor],
    header: Header,
    sha256: str,
) -> LoadedGenerator:
    """Put a checked `state` into the skeleton `module`, as float32 and in evaluation mode.

    Raises:
        InvalidCheckpoint: keys, shapes or kinds of numbers differ from the skeleton's, or a weight
            is not finite as float32.
    """
    _check_shapes(_shapes(state), module)
    _check_kinds(state, module)
    # Copied, as some kernels round by how memory is aligned, which in a file is arbitrary.
    weights = {
        k: v.to(torch.float32, copy=True) if v.is_floating_point() else v for k, v in state.items()
    }
    _check_finite(weights)  # as the network has them: what float64 holds may be too large
    module.load_state_dict(weights, assign=True)
    module.eval().requires_grad_(False)
    return LoadedGenerator(kind, config, module, header, sha256)


def _read(path: Path, *, tensors: bool = True) -> tuple[Header, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY)
            if text is None:
                raise InvalidCheckpoint(
                    f"{path.name} carries no Anamorph header; `anamorph models import` reads files "
                    "of other projects"
                )
            header = Header.model_validate_json(text)
            names = file.keys() if tensors else []
            return header, {name: file.get_tensor(name) for name in names}
    except ValidationError as error:
        wrong = "; ".join(faults_of(error))
        raise InvalidCheckpoint(f"{path.name} has an unknown header: {wrong}") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidCheckpoint(f"{path.name} is no readable safetensors: {error}") from error


def _skeleton(
    header: Header, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Family, Config, nn.Module]:
    kind = family(header.family)
    try:
        config = kind.generator_config.model_validate(header.generator, strict=True)
    except ValidationError as error:
        wrong = "; ".join(faults_of(error))
        raise InvalidCheckpoint(f"the hyperparameters are not {kind.id}'s: {wrong}") from error
    # A count of layers is at most the number of tensors, a width at most a tensor's largest side:
    # a few hostile bytes cannot ask for a network of any size to be built.
    largest = max((side for shape in shapes.values() for side in shape), default=0)
    for name in header.generator.keys() - WEIGHTLESS - config.unused():
        value = header.generator[name]
        if isinstance(value, int) and value > max(len(shapes), largest, 16):
            raise InvalidCheckpoint(f"{name} = {value} does not fit the tensors in the file")
    return kind, config, skeleton(kind, config)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def _check_shapes(found: Mapping[str, tuple[int, ...]], module: nn.Module) -> None:
    expected = _shapes(module.state_dict())
    problems = [f"{key} is missing" for key in expected.keys() - found.keys()]
    problems += [f"{key} is unknown" for key in found.keys() - expected.keys()]
    problems += [
        f"{key} is {list(found[key])} instead of {list(shape)}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    if problems:
        problems.sort()
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise InvalidCheckpoint(f"the weights do not fit: {'; '.join(problems[:5])}{more}")


def _check_kinds(state: Mapping[str, Tensor], module: nn.Module) -> None:
    for key, value in module.state_dict().items():
        found = state[key]
        if found.is_floating_point() != value.is_floating_point() or found.is_complex():
            raise InvalidCheckpoint(f"{key} holds {found.dtype} instead of {value.dtype}")


def _check_finite(state: Mapping[str, Tensor]) -> None:
    for key, value in state.items():
        if not value.isfinite().all():
            raise InvalidCheckpoint(f"{key} holds values that are not finite")
