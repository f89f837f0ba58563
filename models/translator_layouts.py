"""What other projects call the layers of generators that keep a picture's size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import count

import torch
from torch import Tensor

from models.blocks import Norm
from models.layout_plan import Plan, State, side


def resnet(state: State, per_image: bool) -> Plan:
    """pytorch-CycleGAN-and-pix2pix's ResNet."""
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
        "channels_in": side(state, "model.1.weight", 1),
        "channels_out": side(state, f"model.{up + 7}.weight", 0),
        "base_channels": side(state, "model.1.weight", 0),
        "blocks": blocks,
        "norm": norm,
        "upsampling": "transposed",
        "dropout": 0.5 if second == 6 else 0.0,
    }
    return Plan("cyclegan", config, layers, norm.startswith("instance"), biases)


def _zero_biases(state: State, layers: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """Yield the biases that our convolutions have before an InstanceNorm, which takes them off."""
    for norm in layers:
        if (mean := state.get(f"{norm}.running_mean")) is not None:
            parent, _, index = norm.rpartition(".")
            yield f"{parent}.{int(index) - 1}.bias", torch.zeros_like(mean)


def _is_conv(state: State, index: int) -> bool:
    return state[f"model.10.conv_block.{index}.weight"].ndim == 4


def unet(state: State, per_image: bool) -> Plan:
    """pytorch-CycleGAN-and-pix2pix's U-Net."""

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
        "channels_in": side(state, "model.model.0.weight", 1),
        "channels_out": side(state, "model.model.3.weight", 1),
        "base_channels": side(state, "model.model.0.weight", 0),
        "depth": innermost + 1,
        "norm": norm,
        "statistics": "image" if own_statistics else "running",
    }
    return Plan("pix2pix", config, layers, own_statistics)


def fast_style(state: State, _per_image: bool) -> Plan:
    """pytorch/examples' fast_neural_style."""
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
        "base_channels": side(state, "conv1.conv2d.weight", 0),
        "blocks": blocks,
        "value_range": "byte",
    }
    return Plan("style", config, layers, drop_statistics=True)


def _norm(state: State, conv: str, norm: str) -> Norm:
    """Tell the norm by its scale, or by the convolution's bias, which InstanceNorm's alone has."""
    if f"{norm}.weight" in state:
        return "batch"
    return "instance" if f"{conv}.bias" in state else "none"
