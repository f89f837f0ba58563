"""The frozen VGG16 behind every perceptual term (Simonyan and Zisserman 2015)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn

from models.errors import MissingFeatures

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_ORIGINAL_MEAN = (123 / 255, 117 / 255, 104 / 255)

CONVENTION = {
    "network": "vgg16",
    "release": "the original Caffe weights of Simonyan and Zisserman",
    "input": "RGB in 0..1, normalised by the ImageNet mean and deviation",
    "gram_normaliser": "C*H*W",
}
"""Stored with every model trained by these features: its weights mean nothing under another."""


LayerName = Annotated[str, Field(pattern=r"^(conv|relu)([12]_[12]|[345]_[123])$")]


def smallest_px(layers: Iterable[str]) -> int:
    """Return the smallest side of a picture that reaches all `layers`, each stage after halving."""
    return int(2 ** max(int(layer[4]) - 1 for layer in layers))


def _layers() -> tuple[list[nn.Module], list[str]]:
    """The convolution stack in torchvision's order, and the name of each layer."""
    modules: list[nn.Module] = []
    names: list[str] = []
    channels_in = 3
    for stage, widths in enumerate(_STAGES, 1):
        for index, width in enumerate(widths, 1):
            modules += [nn.Conv2d(channels_in, width, 3, padding=1), nn.ReLU()]
            names += [f"conv{stage}_{index}", f"relu{stage}_{index}"]
            channels_in = width
        modules.append(nn.MaxPool2d(2))
        names.append(f"pool{stage}")
    return modules, names


def width(layer: str) -> int:
    """Return the channels of a layer of a stage, "relu3_3" or "conv5_1"."""
    stage, index = (int(number) for number in layer[-3:].split("_"))
    return _STAGES[stage - 1][index - 1]


class VGG16(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> activations by layer name ("relu3_3", "conv5_3", ...).

    Layers past the deepest one asked for are not built. The weights are frozen; gradients flow to
    the picture.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, layers: Iterable[str]) -> None:
        super().__init__()
        modules, names = _layers()
        self.layers = tuple(layers)
        unknown = set(self.layers) - set(names)
        if unknown:
            raise ValueError(f"VGG16 has no layer {sorted(unknown)}; there are {names}")
        depth = max(names.index(layer) for layer in self.layers) + 1
        self.names = names[:depth]
        self.features = nn.Sequential(*modules[:depth])
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False
        )
        self.requires_grad_(False)
        self.eval()

    def forward(self, picture: Tensor, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the activations of `layers` (default: all asked for at construction)."""
        wanted = set(layers or self.layers)
        x = ((picture + 1) / 2 - self.mean) / self.deviation
        x = x.contiguous(memory_format=torch.channels_last)  # a third of the time in bf16 on CPUs
        activations = {}
        for name, layer in zip(self.names, self.features, strict=True):
            x = layer(x)
            if name in wanted:
                activations[name] = x
                if len(activations) == len(wanted):
                    break
        return activations


def load_vgg16(layers: Iterable[str], path: Path | None = None) -> VGG16:
    """Return a frozen `VGG16` with ImageNet weights.

    `path` is a safetensors file of the original release's weights under torchvision's keys
    (`features.N.weight`), for the input scale of `CONVENTION`; without one, torchvision downloads
    the same. Raises MissingFeatures when neither is to be had.
    """
    network = VGG16(layers)
    wanted = network.state_dict()
    state = _read(path) if path else _rescaled(_download())
    wrong = [k for k in wanted if k not in state or state[k].shape != wanted[k].shape]
    if wrong:
        raise MissingFeatures(f"the VGG16 file {path} lacks {', '.join(wrong[:4])}")
    network.load_state_dict({key: state[key].float() for key in wanted})
    return network.to(memory_format=torch.channels_last)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:
        raise MissingFeatures(f"cannot read VGG16 weights from {path}: {error}") from error


def _download() -> dict[str, Tensor]:
    from torchvision.models import VGG16_Weights  # slow to import, and rarely needed

    try:
        state: dict[str, Tensor] = VGG16_Weights.IMAGENET1K_FEATURES.get_state_dict(progress=False)
    except (OSError, RuntimeError) as error:  # no connection; a file that is not what it should be
        raise MissingFeatures(
            "the perceptual loss needs VGG16's ImageNet weights, and torchvision could not "
            f"download them ({error}). Name a safetensors file with torchvision's keys "
            "in the recipe (features = ...) or in ANAMORPH_VGG16."
        ) from error
    return state


def _rescaled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold the original input, 255 * (RGB - mean of 0..1), into the first convolution."""
    deviation, mean = torch.tensor(_DEVIATION), torch.tensor(_MEAN)
    weight = state["features.0.weight"]
    shift = 255 * (mean - torch.tensor(_ORIGINAL_MEAN))
    return state | {
        "features.0.weight": weight * (255 * deviation).view(1, 3, 1, 1),
        "features.0.bias": state["features.0.bias"] + (weight.sum((2, 3)) * shift).sum(1),
    }
