"""What the benchmarks share: models, a picture, servers in processes of their own, the machine."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, get_args

import torch

from app.installation import open_registry
from app.settings import Settings
from models import images
from models.checkpoint import Header, save_generator
from models.errors import ModelNotFound
from models.families import family
from models.images import Picture
from models.registry import Registry

ROOT = Path(__file__).resolve().parents[1]

Device = Literal["auto", "cpu", "cuda"]

ENDPOINTS = {
    "facades": "/v1/translate?model=facades",
    "horse2zebra": "/v1/translate?model=horse2zebra",
    "srresnet-x4": "/v1/upscale?model=srresnet-x4&scale=4",
    "starry-night": "/v1/stylize?style=starry-night",
}
"""One shipped model of each family -> how the service is asked for it."""

_READY_TIMEOUT_S = 600


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all benchmarks have."""
    parser.add_argument("--device", choices=get_args(Device), default="auto")
    parser.add_argument(
        "--random", action="store_true", help="random weights in networks of the shipped sizes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured here")


def prepare(folder: Path, names: Sequence[str], device: Device, *, random: bool) -> Settings:
    """Return settings whose only models are those that ship or, if `random`, untrained `names`.

    Ends this program where a model is missing.
    """
    home = folder / "home"
    home.mkdir()
    if random:
        settings = Settings(home=home, shipped_weights=folder / "no weights", device=device)
        _publish_random(open_registry(settings), names, folder)
        return settings
    settings = Settings(home=home, device=device)
    for name in names:
        try:
            open_registry(settings).resolve(name)
        except ModelNotFound as error:
            sys.exit(f"{error}; --random needs no weights")
    return settings


def _publish_random(registry: Registry, names: Sequence[str], folder: Path) -> None:
    torch.manual_seed(0)
    for name in names:
        recipe = tomllib.loads((ROOT / "recipes" / f"{name}.toml").read_text())
        kind = family(recipe["family"])
        generator = kind.build_generator(kind.generator_config(**recipe["generator"])).eval()
        file = folder / f"{name}.safetensors"
        header = Header(family=kind.id, generator=recipe["generator"], name=name)
        save_generator(file, generator, header)
        registry.promote(name, registry.publish(file, name).version)


def photo(side_px: int) -> bytes:
    """Return a square JPEG with detail at every scale, as photographs have."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.zeros(1, 3, side_px, side_px)
    for cells in (2, 4, 8, 16, 32, 64, 128):
        noise = torch.rand(1, 3, cells, cells, generator=generator) - 0.5
        noise = torch.nn.functional.interpolate(noise, (side_px, side_px), mode="bicubic")
        picture += 2 * noise / cells**0.5
    return images.encode(Picture(images.to_rgb(picture[0]), None, "jpeg"), "jpeg")


class Process:
    """`python -m COMMAND --port PORT`, started at once; close it when done."""

    def __init__(
        self, command: Sequence[str], ready: str, log: Path, variables: Mapping[str, str]
    ) -> None:
        """Start with `variables` added to the environment; 200 from path `ready` means ready."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        words = [sys.executable, "-m", *command, "--port", str(port)]
        environment = os.environ | variables
        with log.open("wb") as output:
            self._running = subprocess.Popen(
                words, cwd=ROOT, env=environment, stdout=output, stderr=output
            )
        self._ready, self._log = ready, log
        self.connection = HTTPConnection("127.0.0.1", port, timeout=600)

    def wait(self) -> None:
        """Return once it is ready; end this program, with the log, if it never will be."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not self._answers():
            if self._running.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"a server did not become ready:\n{self._log.read_text()}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            self.connection.request("GET", self._ready)
            response = self.connection.getresponse()
            response.read()
        except (OSError, HTTPException):
            self.connection.close()
            return False
        return response.status == 200

    def close(self) -> None:
        """End it and wait for that."""
        self.connection.close()
        self._running.terminate()
        self._running.wait()


def serve(settings: Settings, folder: Path, *, worker: bool = False) -> Process:
    """Start `anamorph serve`, which is ready once every model is loaded."""
    variables = {
        "ANAMORPH_HOME": str(settings.home),
        "ANAMORPH_SHIPPED_WEIGHTS": str(settings.shipped_weights),
        "ANAMORPH_DEVICE": settings.device,
        "ANAMORPH_WORKER": str(worker),
    }
    return Process(["app.cli", "serve"], "/readyz", folder / "serve.log", variables)


def post(connection: HTTPConnection, path: str, body: bytes) -> tuple[HTTPResponse, bytes]:
    """Send a raw body over a connection that is kept; returns the answer and its content."""
    connection.request("POST", path, body, {"Content-Type": "image/jpeg"})
    response = connection.getresponse()
    return response, response.read()


def machine(device: str) -> dict[str, str | int | float]:
    """Return what a figure depends on beside the code measured, and which code that was."""
    facts: dict[str, str | int | float] = {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "load_average": round(os.getloadavg()[0], 2),
        "device": device,
        "python": platform.python_version(),
        "git": _git_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name()
    for package in ("torch", "openvino", "fastapi", "uvicorn", "pillow"):
        with contextlib.suppress(PackageNotFoundError):
            facts[package] = version(package)
    return facts


def announce(facts: Mapping[str, object]) -> None:
    """Print the line above a table: what was measured, and on what."""
    print(", ".join(f"{key} {value}" for key, value in facts.items()), end="\n\n", flush=True)


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_version() -> str:
    """Return the commit, marked where files differ from it."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    words = [git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
