"""The frozen face embedding behind identity terms: MobileFaceNet (Chen et al. 2018)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.errors import MissingFeatures
from models.openvino_core import new_core

# expansion, channels, repetitions, stride of the first: table 1 of the paper.
_STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
EMBEDDED_PX, EMBEDDED = 112, 128  # side of what it sees, values of what it says


class _Bottleneck(nn.Module):
    """Inverted residual: widen, filter each channel, narrow; plus x where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.keeps = stride == 1 and channels_in == channels_out
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, wide, 1),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, padding=1, groups=wide),
            nn.ReLU6(),
            nn.Conv2d(wide, channels_out, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.keeps else y


class MobileFaceNet(nn.Module):
    """(B, 3, 112, 112) RGB in [-1, 1], aligned by five points -> (B, 128) of unit length.

    BatchNorm is folded into the convolutions. The weights are frozen; gradients flow to the face.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, 64, 3, 2, padding=1),
            nn.ReLU6(),
            nn.Conv2d(64, 64, 3, padding=1, groups=64),
            nn.ReLU(),
            nn.Conv2d(64, 64, 1),
            nn.ReLU(),
        ]
        channels_in = 64
        for expansion, channels, repetitions, stride in _STAGES:
            for index in range(repetitions):
                layers.append(
                    _Bottleneck(channels_in, channels, expansion, stride if index == 0 else 1)
                )
                channels_in = channels
        layers += [
            nn.Conv2d(128, 512, 1),
            nn.ReLU6(),
            nn.Conv2d(512, 512, 7, groups=512),
            nn.Conv2d(512, EMBEDDED, 1),
        ]
        self.layers = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def forward(self, faces: Tensor) -> Tensor:
        x = ((faces + 1) / 2 - self.mean) / self.deviation
        return nn.functional.normalize(self.layers(x).flatten(1).float())


def load_embedding(path: Path | None) -> MobileFaceNet:
    """Return a frozen `MobileFaceNet` with the weights of an ONNX file, or of its own safetensors.

    Raises MissingFeatures where there is none, or it is another network.
    """
    if path is None:
        raise MissingFeatures(
            "the identity terms need MobileFaceNet's weights as an ONNX file: name it in the "
            "recipe (features = ...) or by --features"
        )
    network = MobileFaceNet()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    try:
        if path.suffix == ".safetensors":
            network.load_state_dict(load_file(path))
            return network
        weights = _read(path)
        for layer, (weight, bias) in zip(convolutions, weights, strict=True):
            layer.weight.data.copy_(weight.view_as(layer.weight))
            if layer.bias is not None:
                layer.bias.data.copy_(bias.view_as(layer.bias))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise MissingFeatures(f"{path} holds no MobileFaceNet: {reason}") from error
    return network


def _read(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Return (weight, bias) of an ONNX file's convolutions, in the order they are computed."""
    found = []
    for node in new_core().read_model(path).get_ordered_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            users = [target.get_node() for target in node.output(0).get_target_inputs()]
            (plus,) = (user for user in users if user.get_type_name() == "Add")
            found.append((_constant(node.input_value(1)), _constant(plus.input_value(1))))
    return found


def _constant(output: Any) -> Tensor:
    """Return the constant behind an input, looking through reshapes."""
    node = output.get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return torch.from_numpy(node.data.copy())
