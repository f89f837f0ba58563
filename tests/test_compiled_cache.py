"""What was compiled once opens again without being traced, and nothing else changes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from app import compiled_cache, engines, openvino_runner
from app.cli import app as commands
from app.compiled_cache import CompiledCache
from app.engines import build_engine
from app.frozen import FrozenStatistics
from app.opening import open_version
from models.checkpoint import LoadedGenerator
from models.registry import Registry
from test_engines import CONFIGS, CPU, loaded
from test_training_job import now, start
from tiny import publish_models
from tiny_jobs import add_pairs, tiny_request


def answers(generator: LoadedGenerator, cache: CompiledCache | None) -> list[Tensor]:
    """What every part of a newly opened network answers to the same pictures."""
    engine = build_engine(generator, CPU, cache)
    assert engine.backend == "openvino"
    batch = torch.linspace(-1, 1, 3 * 64 * 32).view(1, 3, 64, 32)
    statistics = torch.ones(FrozenStatistics(generator.module).size)
    parts = [engine(batch, statistics), engine.drift(batch, statistics)] if len(statistics) else []
    return [engine(batch), *parts]


def only_from_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "convert", lambda *_: pytest.fail("traced again"))
    monkeypatch.setattr(openvino_runner, "convert", lambda *_: pytest.fail("traced again"))


@pytest.mark.parametrize("name", ["unet", "resnet", "srresnet", "style"])
def test_what_was_opened_before(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network taken from the cache, in whatever process, answers bit for bit as a new one."""
    generator = loaded(*CONFIGS[name])
    fresh = answers(generator, None)
    for first, again in zip(fresh, answers(generator, CompiledCache(tmp_path)), strict=True):
        assert torch.equal(first, again)
    only_from_cache(monkeypatch)
    for first, again in zip(fresh, answers(generator, CompiledCache(tmp_path)), strict=True):
        assert torch.equal(first, again)


def test_weights_are_told_apart(tmp_path: Path) -> None:
    """Other weights are never answered for by what the cache has of a network like theirs."""
    first, second = (loaded(*CONFIGS["unet, running"]) for _ in range(2))
    cache = CompiledCache(tmp_path)
    build_engine(first, CPU, cache)
    assert torch.equal(
        answers(replace(second, sha256="1" * 64), cache)[0], answers(second, None)[0]
    )


@pytest.mark.parametrize("damage", [b"", b"half", b"one bit"])
def test_a_damaged_cache(damage: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a damaged file in the cache nothing is served: it is made anew."""
    generator = loaded(*CONFIGS["msrresnet"])
    fresh = answers(generator, CompiledCache(tmp_path))
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    file.write_bytes({b"": b"", b"half": content[:middle], b"one bit": flipped}[damage])
    assert torch.equal(answers(generator, CompiledCache(tmp_path))[0], fresh[0])
    only_from_cache(monkeypatch)
    assert torch.equal(answers(generator, CompiledCache(tmp_path))[0], fresh[0])


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """Where nothing can be kept, as on a full disk, a network opens all the same."""
    (tmp_path / "cache").write_text("no folder")
    generator = loaded(*CONFIGS["msrresnet"])
    (answer,) = answers(generator, CompiledCache(tmp_path / "cache"))
    assert torch.equal(answer, answers(generator, None)[0])
    assert (tmp_path / "cache").read_text() == "no folder"


def test_a_cache_forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache does not grow for ever: what has not been used for longest goes."""
    monkeypatch.setattr(compiled_cache, "_MAX_BYTES", 2 * 33)  # two of a byte and its digest
    cache = CompiledCache(tmp_path)
    for weights in "abc":
        cache.put(weights, "whole", "float32", weights.encode())
        for file in tmp_path.iterdir():  # as if an hour had passed
            os.utime(file, (file.stat().st_mtime - 3600,) * 2)
        assert cache.get("a", "whole", "float32") == b"a"
    assert cache.get("b", "whole", "float32") is None
    assert cache.get("c", "whole", "float32") == b"c"


def test_models_import_prepares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `anamorph models import` a service need not trace the network."""
    publish_models(tmp_path, ("starry-night",))
    monkeypatch.setenv("ANAMORPH_HOME", str(tmp_path))
    file = tmp_path / "models" / "starry-night" / "1.safetensors"
    result = CliRunner().invoke(commands, ["models", "import", str(file), "--name", "night"])
    assert result.exit_code == 0, result.output
    only_from_cache(monkeypatch)
    version = Registry(tmp_path).resolve("night")
    assert (
        open_version(version, CPU, CompiledCache(tmp_path / "cache")).engine.backend == "openvino"
    )


def test_a_training_prepares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """Of what a training has published a service need not trace the network."""
    done = start(tmp_path, tiny_request(add_pairs(tmp_path))).run(now)
    only_from_cache(monkeypatch)
    version = Registry(tmp_path).resolve(done["published"])
    assert (
        open_version(version, CPU, CompiledCache(tmp_path / "cache")).engine.backend == "openvino"
    )
