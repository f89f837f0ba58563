"""Tiny networks with random weights, and pictures, for the tests of the service."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx
import numpy as np
import torch
from PIL import Image

from app.settings import Settings
from models.checkpoint import Header, save_generator
from models.families import family
from models.registry import Registry

MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "facades": ("pix2pix", {"base_channels": 4, "depth": 5, "norm": "instance"}, {}),
    "colorize": (
        "pix2pix",
        {"channels_in": 1, "channels_out": 2, "base_channels": 4, "depth": 5, "norm": "instance"},
        {},
    ),
    "horse2zebra": ("cyclegan", {"base_channels": 4, "blocks": 1}, {"licence": "CC0"}),
    "srresnet-x4": ("srgan", {"channels": 8, "blocks": 1, "batch_norm": False}, {}),
    "srgan-x4": (
        "srgan",
        {"channels": 8, "blocks": 1, "batch_norm": False},
        {"regression_model": "srresnet-x4"},
    ),
    "starry-night": ("style", {"base_channels": 4, "blocks": 1}, {"task_note": "a night sky"}),
}
REDUCED_MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "zebra2horse": ("cyclegan", {"base_channels": 4, "blocks": 1, "view_px": 64}, {}),
}
_FACE = {"base_channels": 4, "blocks": 1, "finder_channels": 8, "finder_blocks": 1}
FACE_MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "face-identity": ("anonymizer", _FACE, {}),
    "face-surroundings": ("anonymizer", _FACE | {"condition": "surroundings"}, {}),
}


def publish_models(home: Path, names: tuple[str, ...] = tuple(MODELS)) -> None:
    """Publish and promote `names` of the models above in the registry of `home`."""
    home.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    made: dict[str, torch.nn.Module] = {}
    for name in names:
        family_id, config, card = (MODELS | REDUCED_MODELS | FACE_MODELS)[name]
        kind = family(family_id)
        generator = kind.build_generator(kind.generator_config(**config)).eval()
        if base := made.get(card.get("regression_model", "")):  # as if trained from it
            ends = base.state_dict(), generator.state_dict()
            mixed = {key: ends[0][key].lerp(value, 0.5) for key, value in ends[1].items()}
            generator.load_state_dict(mixed)
        made[name] = generator
        path = home / f"{name}.safetensors"
        header = Header(family=family_id, generator=config, name=name, card=card)
        save_generator(path, generator, header)
        promote(home, path)
        path.unlink()


def promote(home: Path, file: Path) -> None:
    """Publish a generator, named as its file is, in the registry of `home`, and let it serve."""
    registry = Registry(home, shipped=home / "no weights")
    registry.promote(file.stem, registry.publish(file, file.stem).version)


def tiny_settings(home: Path, **overrides: Any) -> Settings:
    """Return settings for a service on the CPU whose only models are those in `home`."""
    shipped = home / "no weights"
    return Settings(home=home, shipped_weights=shipped, device="cpu", threads=2, **overrides)


def until_ready(client: httpx.Client, timeout_s: float = 90) -> None:
    """Wait until every model is loaded."""
    until(lambda: client.get("/readyz").status_code == 200, timeout_s)


def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait for what another thread or process does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def photo(height: int = 24, width: int = 40, mode: str = "RGB") -> Image.Image:
    """Return a smooth, coloured picture."""
    y, x = np.mgrid[0 : 1 : 1j * height, 0 : 1 : 1j * width]
    channels = [x, y, (x + y) / 2, 0.3 + 0.7 * x * y][: len(mode)]
    levels = np.rint(np.stack(channels, -1) * 255).astype(np.uint8)
    return Image.fromarray(levels[..., 0] if mode == "L" else levels)


def encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    """Return the image as a file's bytes."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def zip_of_photos() -> bytes:
    """Return a dataset to upload."""
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for number in range(4):
            archive.writestr(f"{number}.png", encoded(photo(32 + number, 32)))
    return file.getvalue()


def assert_problem(answer: httpx.Response, status: int, code: str, *words: str) -> None:
    """Fail unless the answer is that problem, says the words, and gives nothing else away."""
    told = answer.json()
    assert (answer.status_code, told["status"], told["code"]) == (status, status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "Traceback" not in answer.text
    assert "/app/" not in answer.text
    assert all(word in told["detail"] for word in words), answer.text


def opened(response: httpx.Response) -> Image.Image:
    """Return the picture of a 200 answer."""
    assert response.status_code == 200, response.text
    return Image.open(BytesIO(response.content))


def pixels(image: Image.Image) -> np.ndarray:
    """A picture's colours as integers that can be subtracted."""
    return np.asarray(image.convert("RGB")).astype(int)
