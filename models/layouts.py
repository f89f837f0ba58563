"""Other projects' generators, told by their keys and renamed to ours.

Pure functions on state dicts. Each layout maps the prefixes of the foreign layers onto those of our
network and reads the hyperparameters off the shapes; what is left over is named in UnknownLayout.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models.blocks import Norm
from models.errors import UnknownLayout
from models.families import family

State = Mapping[str, Tensor]

_STATISTICS = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")
_MAX_NAMED_KEYS = 40


@dataclass(frozen=True, slots=True)
class Imported:
    """A foreign generator in our terms: what `layout` it had, and our `state` for `config`."""

    layout: str
    family: str
    config: dict[str, Any]
    state: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to rename: foreign layer -> our layer; `drop_statistics` of norms that keep none.

    `added` is what the foreign state lacks, by its names.
    """

    family: str
    config: dict[str, Any]
    layers: dict[str, str]
    drop_statistics: bool = False
    added: State = field(default_factory=dict)


def import_state(state: State, *, per_image: bool = True) -> Imported:
    """Recognise a generator's layout and rename its tensors.

    Args:
        state: the foreign state dict, without wrappers and prefixes.
        per_image: give a U-Net or ResNet with BatchNorm each picture's own statistics, as pix2pix
            is run, instead of the running ones.

    Raises:
        UnknownLayout: names exactly the keys that are not understood, or are missing.
    """
    for name, marker, plan_for in _LAYOUTS:
        if marker in state:
            plan = plan_for(state, per_image)
            whole = {**state, **plan.added}
            return Imported(name, plan.family, plan.config, _renamed(whole, plan, name))
    known = ", ".join(name for name, _, _ in _LAYOUTS)
    raise UnknownLayout(f"the layout is none of {known}; not understood: {_named(state)}")


def _resnet(state: State, per_image: bool) -> _Plan:
    blocks = len({key.split(".")[1] for key in state if re.match(r"model\.\d+\.conv_block\.", key)})
    # A Dropout layer inside the blocks shifts the second convolution from 5 to 6.
    second = 6 if "model.10.conv_block.6.weight" in state and _is_conv(state, 6) else 5
    up = 10 + blocks
    layers = {"model.1": "stem.0.1", "model.2": "stem.1", f"model.{up + 7}": "head.0.1"}
    for index, (down, rise) in enumerate(((4, up), (7, up + 3))):
        layers |= {f"model.{down}": f"down.{index}.0", f"model.{down + 1}": f"down.{index}.1"}
        layers |= {f"model.{rise}": f"up.{index}.0", f"model.{rise + 1}": f"up.{index}.1"}
    for index in range(blocks):
        theirs, ours = f"model.{10 + index}.conv_block", f"blocks.{index}.body"
        layers |= {f"{theirs}.1": f"{ours}.0.1", f"{theirs}.2": f"{ours}.1"}
        layers |= {f"{theirs}.{second}": f"{ours}.4.1", f"{theirs}.{second + 1}": f"{ours}.5"}
    norm = _norm(state, "model.1", "model.2")
    biases: State = {}
    if norm == "batch" and per_image:  # InstanceNorm is BatchNorm by the statistics of one picture
        norm = "instance_affine"
        biases = dict(_zero_biases(state, layers))
    config = {
        "channels_in": _side(state, "model.1.weight", 1),
        "channels_out": _side(state, f"model.{up + 7}.weight", 0),
        "base_channels": _side(state, "model.1.weight", 0),
        "blocks": blocks,
        "norm": norm,
        "upsampling": "transposed",
        "dropout": 0.5 if second == 6 else 0.0,
    }
    return _Plan("cyclegan", config, layers, norm.startswith("instance"), biases)


def _zero_biases(state: State, layers: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """Yield the biases that our convolutions have before an InstanceNorm, which takes them off."""
    for norm in layers:
        if (mean := state.get(f"{norm}.running_mean")) is not None:
            parent, _, index = norm.rpartition(".")
            yield f"{parent}.{int(index) - 1}.bias", torch.zeros_like(mean)


def _is_conv(state: State, index: int) -> bool:
    return state[f"model.10.conv_block.{index}.weight"].ndim == 4


def _unet(state: State, per_image: bool) -> _Plan:
    def level(index: int) -> str:
        return "model.model.1" + ".model.3" * (index - 1) + ".model"

    innermost = next(i for i in count(1) if f"{level(i)}.5.weight" not in state)
    layers = {"model.model.0": "down.0.0", "model.model.3": "up.0.1"}
    for index in range(1, innermost):
        theirs = level(index)
        layers |= {f"{theirs}.1": f"down.{index}.1", f"{theirs}.2": f"down.{index}.2"}
        layers |= {f"{theirs}.5": f"up.{index}.1", f"{theirs}.6": f"up.{index}.2"}
    theirs = level(innermost)
    layers |= {f"{theirs}.1": f"down.{innermost}.1"}
    layers |= {f"{theirs}.3": f"up.{innermost}.1", f"{theirs}.4": f"up.{innermost}.2"}
    norm = _norm(state, "model.model.0", f"{level(1)}.2")
    own_statistics = per_image or norm == "instance"
    config = {
        "channels_in": _side(state, "model.model.0.weight", 1),
        "channels_out": _side(state, "model.model.3.weight", 1),
        "base_channels": _side(state, "model.model.0.weight", 0),
        "depth": innermost + 1,
        "norm": norm,
        "statistics": "image" if own_statistics else "running",
    }
    return _Plan("pix2pix", config, layers, own_statistics)


def _fast_style(state: State, _per_image: bool) -> _Plan:
    blocks = len({key.split(".")[0] for key in state if re.match(r"res\d+\.", key)})
    layers = {"deconv3.conv2d": "decode.4.1"}
    for index in range(3):
        layers |= {f"conv{index + 1}.conv2d": f"encode.{index}.0.1"}
        layers |= {f"in{index + 1}": f"encode.{index}.1"}
    for index in range(2):
        layers |= {f"deconv{index + 1}.conv2d": f"decode.{2 * index + 1}.0.1"}
        layers |= {f"in{index + 4}": f"decode.{2 * index + 1}.1"}
    for index in range(blocks):
        theirs, ours = f"res{index + 1}", f"blocks.{index}.body"
        layers |= {f"{theirs}.conv1.conv2d": f"{ours}.0.1", f"{theirs}.in1": f"{ours}.1"}
        layers |= {f"{theirs}.conv2.conv2d": f"{ours}.4.1", f"{theirs}.in2": f"{ours}.5"}
    config = {
        "base_channels": _side(state, "conv1.conv2d.weight", 0),
        "blocks": blocks,
        "value_range": "byte",
    }
    return _Plan("style", config, layers, drop_statistics=True)


def _srgan(state: State, _per_image: bool) -> _Plan:
    blocks = sum(1 for key in state if re.fullmatch(r"block\d+\.conv1\.weight", key))
    fuse, end = f"block{blocks + 2}", f"block{blocks + 3}"
    rises = sum(1 for key in state if re.fullmatch(rf"{end}\.\d+\.conv\.weight", key))
    layers = {"block1.0": "head.0", "block1.1": "head.1", f"{end}.{rises}": "tail"}
    layers |= {f"{fuse}.0": "fuse.0", f"{fuse}.1": "fuse.1"}
    for index in range(blocks):
        for position, layer in enumerate(("conv1", "bn1", "prelu", "conv2", "bn2")):
            layers[f"block{index + 2}.{layer}"] = f"blocks.{index}.body.{position}"
    for index in range(rises):
        layers |= {f"{end}.{index}.conv": f"up.{index}.0", f"{end}.{index}.prelu": f"up.{index}.2"}
    config = {
        "architecture": "srresnet",
        "channels": _side(state, "block1.0.weight", 0),
        "blocks": blocks,
        "scale": 2**rises,
        "value_range": "unit",
        "output": "tanh",
    }
    return _Plan("srgan", config, layers)


def _msrresnet(state: State, _per_image: bool) -> _Plan:
    blocks = sum(1 for key in state if re.fullmatch(r"body\.\d+\.conv1\.weight", key))
    channels = _side(state, "conv_first.weight", 0)
    rises = 2 if "upconv2.weight" in state else 1
    layers = {"conv_first": "head", "conv_hr": "refine", "conv_last": "tail"}
    for index in range(blocks):
        for layer in ("conv1", "conv2"):
            layers[f"body.{index}.{layer}"] = f"blocks.{index}.{layer}"
    for index in range(rises):
        layers[f"upconv{index + 1}"] = f"up.{index}.0"
    factor = round((_side(state, "upconv1.weight", 0) / channels) ** 0.5)
    config = {
        "architecture": "msrresnet",
        "channels": channels,
        "blocks": blocks,
        "scale": factor**rises,
        "batch_norm": False,
        "value_range": "unit",
    }
    return _Plan("srgan", config, layers)


_LAYOUTS: tuple[tuple[str, str, Callable[[State, bool], _Plan]], ...] = (
    ("pytorch-CycleGAN-and-pix2pix ResNet", "model.10.conv_block.1.weight", _resnet),
    ("pytorch-CycleGAN-and-pix2pix U-Net", "model.model.0.weight", _unet),
    ("pytorch/examples fast_neural_style", "conv1.conv2d.weight", _fast_style),
    ("leftthomas/SRGAN", "block1.0.weight", _srgan),
    ("BasicSR MSRResNet", "upconv1.weight", _msrresnet),
)


def _norm(state: State, conv: str, norm: str) -> Norm:
    """Tell the norm by its scale, or by the convolution's bias, which InstanceNorm's alone has."""
    if f"{norm}.weight" in state:
        return "batch"
    return "instance" if f"{conv}.bias" in state else "none"


def _side(state: State, key: str, dimension: int) -> int:
    if key not in state or state[key].ndim <= dimension or not state[key].numel():
        raise UnknownLayout(f"{key} is missing or empty; not understood: {_named(state)}")
    return state[key].shape[dimension]


def _renamed(state: State, plan: _Plan, layout: str) -> dict[str, Tensor]:
    kind = family(plan.family)
    try:
        config = kind.generator_config.model_validate(plan.config)
    except ValidationError as error:
        problems = "; ".join(f"{e['loc'][0]}: {e['msg']} ({e['input']})" for e in error.errors())
        raise UnknownLayout(f"{layout}, but with a variant that is not known: {problems}") from None
    with torch.device("meta"):
        network = kind.build_generator(config)
    return _fit(state, plan.layers, network, drop_statistics=plan.drop_statistics, layout=layout)


def _fit(
    state: State,
    layers: Mapping[str, str],
    network: nn.Module,
    *,
    drop_statistics: bool,
    layout: str,
) -> dict[str, Tensor]:
    """Rename `state` to `network`'s keys; whatever does not fit is named as the file names it."""
    expected = network.state_dict()
    ours: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        if drop_statistics and layer in layers and _STATISTICS.search(key):
            continue
        name = f"{layers.get(layer)}.{kind}"
        if name in expected and expected[name].shape == value.shape:
            ours[name] = value.float() if value.is_floating_point() else value
        else:
            unknown.append(key)
    theirs = {our: their for their, our in layers.items()}
    missing = [_theirs(name, theirs) for name in _needed(expected) if name not in ours]
    missing = [key for key in missing if key not in unknown]  # there, but of another shape
    if unknown or missing:
        parts = [f"not understood: {_named(unknown)}"] if unknown else []
        parts += [f"missing: {_named(missing)}"] if missing else []
        raise UnknownLayout(f"{layout}, but {'; '.join(parts)}")
    for name, value in expected.items():  # BatchNorm before PyTorch 0.4.1 did not count
        if name not in ours:
            ours[name] = torch.zeros(value.shape, dtype=value.dtype)
    return ours


def _needed(expected: Mapping[str, Tensor]) -> Iterator[str]:
    return (name for name in expected if not name.endswith(".num_batches_tracked"))


def _theirs(name: str, layers: Mapping[str, str]) -> str:
    layer, _, kind = name.rpartition(".")
    return f"{layers.get(layer, layer)}.{kind}"


def _named(keys: State | list[str]) -> str:
    """List keys, by far enough for every architecture's error to be read."""
    names = sorted(keys)
    more = f", and {len(names) - _MAX_NAMED_KEYS} more" if len(names) > _MAX_NAMED_KEYS else ""
    return ", ".join(names[:_MAX_NAMED_KEYS]) + more
