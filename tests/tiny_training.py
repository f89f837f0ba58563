"""Datasets, recipes and perceptual weights so small that a training takes a second."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from models.checkpoint import Header, save_generator
from models.faces.embedding import MobileFaceNet
from models.families.anonymizer.networks import build_generator
from models.families.anonymizer.painter import FaceConfig
from models.features import VGG16
from models.recipe import Recipe, parse_recipe
from models.training import train
from pictures import save

STAGES = (
    "pix2pix",
    "pix2pix-colours",
    "pix2pix-projected",
    "cyclegan",
    "cyclegan-projected",
    "srgan-regression",
    "srgan-adversarial",
    "style",
    "anonymizer-identity",
    "anonymizer-surroundings",
    "anonymizer-tone",
)

_DATA: dict[str, dict[str, Any]] = {
    "paired": {"train": ["pairs"], "load_px": 36, "crop_px": 32},
    "unpaired": {"a": ["warm"], "b": ["cold"], "load_px": 36, "crop_px": 32},
    "highres": {"train": ["warm"], "crop_px": 32},
    "colours": {"train": ["warm"], "load_px": 36, "crop_px": 32},
    "content": {
        "train": ["warm"], "style": "style.png", "style_px": 32, "load_px": 36, "crop_px": 32,
    },
    "faces": {"train": ["warm"], "held_out": 0, "landmarks": True},
}  # fmt: skip
_PATCH = {"patch_layers": 1, "patch_channels": 8}
_PROJECTED = {"projected": 1.0, "projected_layers": ["relu1_2"], "projected_channels": 4}
_TO_CHROMA = {
    "channels_in": 1,
    "channels_out": 2,
    "base_channels": 4,
    "depth": 5,
    "norm": "instance",
}
_FACE = {
    "base_channels": 4,
    "blocks": 1,
    "code_length": 4,
    "finder_channels": 8,
    "finder_blocks": 1,
}
_SRRESNET = {"architecture": "srresnet", "channels": 8, "blocks": 1, "scale": 2}
_STAGES: dict[str, dict[str, Any]] = {
    "pix2pix": {
        "models": {"AtoB": "pairs"},
        "data": "paired",
        "generator": {"base_channels": 4, "depth": 5, "norm": "instance_affine"},
        "objective": _PATCH,
    },
    "pix2pix-colours": {
        "models": {"AtoB": "colours"},
        "data": "colours",
        "generator": _TO_CHROMA,
        "objective": _PATCH,
    },
    "pix2pix-projected": {
        "models": {"AtoB": "colours"},
        "data": "colours",
        "generator": _TO_CHROMA,
        "objective": _PATCH | _PROJECTED,
    },
    "cyclegan": {
        "models": {"AtoB": "warm2cold", "BtoA": "cold2warm"},
        "data": "unpaired",
        "generator": {"base_channels": 4, "blocks": 1},
        "objective": _PATCH | {"pool": 3},
    },
    "cyclegan-projected": {
        "models": {"AtoB": "warm2cold", "BtoA": "cold2warm"},
        "data": "unpaired",
        "generator": {"base_channels": 4, "blocks": 1},
        "objective": _PATCH | _PROJECTED,
    },
    "srgan-regression": {
        "models": {"upscale": "regression"},
        "data": "highres",
        "generator": _SRRESNET | {"batch_norm": False},
    },
    "srgan-adversarial": {
        "models": {"upscale": "adversarial"},
        "data": "highres",
        "generator": _SRRESNET,
        "objective": {
            "stage": "adversarial",
            "perceptual_layer": "relu1_2",
            "discriminator_channels": 4,
            "discriminator_dense": 8,
        },
    },
    "style": {
        "models": {"stylize": "painted"},
        "data": "content",
        "generator": {"base_channels": 4, "blocks": 1},
        "objective": {"content_layer": "relu1_2", "style_layers": ["relu1_1", "relu1_2"]},
    },
    "anonymizer-identity": {
        "models": {"identity": "somebody"},
        "initial": {"identity": "painter.safetensors"},
        "features": "embedding.safetensors",
        "data": "faces",
        "generator": _FACE,
        "objective": _PATCH,
    },
    "anonymizer-surroundings": {
        "models": {"surroundings": "anybody"},
        "features": "embedding.safetensors",
        "data": "faces",
        "generator": _FACE | {"condition": "surroundings"},
        "objective": _PATCH,
    },
    "anonymizer-tone": {
        "models": {"surroundings": "anybody"},
        "initial": {"surroundings": "painter.safetensors"},
        "data": "faces",
        "generator": _FACE | {"condition": "surroundings", "tone_channels": 4},
    },
}


def tiny_recipe(stage: str, *, objective: dict[str, Any] | None = None, **training: Any) -> Recipe:
    """Return a recipe of one of STAGES for the folders of `write_data`."""
    parts = _STAGES[stage]
    return parse_recipe(
        parts
        | {
            "family": stage.partition("-")[0],
            "seed": 1,
            "data": {"kind": parts["data"]} | _DATA[parts["data"]],
            "objective": parts.get("objective", {}) | (objective or {}),
            "training": {"steps": 8, "batch": 2, "learning_rate": 2e-3, "ema": 0.5} | training,
        }
    )


def write_data(root: Path, count: int = 5, px: int = 40) -> None:
    """Write warm/, cold/, pairs/ (warm beside its cold twin), style.png and a painter of faces."""
    random = np.random.default_rng(0)
    for folder in ("warm", "cold", "pairs"):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        coarse = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        warm = np.asarray(Image.fromarray(coarse).resize((px, px), Image.Resampling.BICUBIC))
        cold = 255 - warm
        both = np.concatenate((warm, cold), axis=1)
        for folder, pixels in (("warm", warm), ("cold", cold), ("pairs", both)):
            (root / folder / f"{index}.png").write_bytes(save(Image.fromarray(pixels), "png"))
    (root / "style.png").write_bytes(save(Image.fromarray(warm), "png"))
    painter = _FACE | {"condition": "surroundings"}
    torch.manual_seed(0)
    save_generator(
        root / "painter.safetensors",
        build_generator(FaceConfig(**painter)),
        Header(family="anonymizer", generator=painter, name="painter"),
    )


def write_embedding(path: Path) -> Path:
    """Write random weights of the face embedding, and return `path`."""
    torch.manual_seed(0)
    save_file(MobileFaceNet().state_dict(), path)
    return path


def write_vgg16(path: Path, deepest: str = "relu1_2") -> Path:
    """Write random VGG16 weights up to the layer `deepest`, and return `path`."""
    torch.manual_seed(0)
    save_file(VGG16((deepest,)).state_dict(), path)
    return path


def run(recipe: Recipe, folder: Path, data_root: Path, **options: Any) -> dict[str, Path]:
    """Train on the CPU with the random VGG16; initial models are files below `data_root`."""
    return train(
        recipe,
        folder,
        data_root=data_root,
        device=torch.device("cpu"),
        **{"features": data_root / "vgg16.safetensors", "find_model": data_root.joinpath} | options,
    )


def rows(folder: Path) -> list[dict[str, float]]:
    """The logged figures of a run."""
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


@contextlib.contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """A disk on which no file may be longer."""
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
