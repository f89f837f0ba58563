"""Other projects' generators, told by their keys and renamed to ours.

Pure functions on state dicts. Each layout maps the prefixes of the foreign layers onto those of our
network and reads the hyperparameters off the shapes; what is left over is named in UnknownLayout.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models import translator_layouts, upscaler_layouts
from models.checkpoint import skeleton
from models.errors import UnknownLayout
from models.families import family
from models.layout_plan import Plan, State, named

_STATISTICS = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")

# In this order: some have the markers of later ones, too.
_LAYOUTS: tuple[tuple[str, str, Callable[[State, bool], Plan]], ...] = (
    (
        "pytorch-CycleGAN-and-pix2pix ResNet",
        "model.10.conv_block.1.weight",
        translator_layouts.resnet,
    ),
    ("pytorch-CycleGAN-and-pix2pix U-Net", "model.model.0.weight", translator_layouts.unet),
    ("pytorch/examples fast_neural_style", "conv1.conv2d.weight", translator_layouts.fast_style),
    ("leftthomas/SRGAN", "block1.0.weight", upscaler_layouts.srgan),
    ("ESRGAN, old", "model.1.sub.0.RDB1.conv1.0.weight", upscaler_layouts.esrgan_old),
    ("ESRGAN, new", "RRDB_trunk.0.RDB1.conv1.weight", upscaler_layouts.esrgan_new),
    ("BasicSR RRDBNet", "body.0.rdb1.conv1.weight", upscaler_layouts.rrdbnet),
    ("BasicSR MSRResNet", "upconv1.weight", upscaler_layouts.msrresnet),
    ("Real-ESRGAN SRVGGNetCompact", "body.0.weight", upscaler_layouts.compact),
)


@dataclass(frozen=True, slots=True)
class Imported:
    """A foreign generator in our terms: what `layout` it had, and our `state` for `config`."""

    layout: str
    family: str
    config: dict[str, Any]
    state: dict[str, Tensor]


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
    raise UnknownLayout(f"the layout is none of {known}; not understood: {named(state)}")


def _renamed(state: State, plan: Plan, layout: str) -> dict[str, Tensor]:
    kind = family(plan.family)
    try:
        config = kind.generator_config.model_validate(plan.config)
    except ValidationError as error:
        problems = "; ".join(f"{e['loc'][0]}: {e['msg']} ({e['input']})" for e in error.errors())
        raise UnknownLayout(f"{layout}, but with a variant that is not known: {problems}") from None
    network = skeleton(kind, config)
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
        parts = [f"not understood: {named(unknown)}"] if unknown else []
        parts += [f"missing: {named(missing)}"] if missing else []
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
