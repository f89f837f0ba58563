"""Where a generator runs changes its speed, never its answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor, nn

from app import engines
from app.compiled_cache import CompiledCache
from app.engines import (
    CheckedEngine,
    Engine,
    Runner,
    TorchRunner,
    build_engine,
    interpolate,
)
from app.errors import InvalidParameter
from app.frozen import FrozenStatistics
from conftest import ROOT
from models.checkpoint import Header, LoadedGenerator
from models.families import family
from models.family import channels

CPU = torch.device("cpu")
_FACE = {"base_channels": 4, "blocks": 1, "code_length": 4, "finder_channels": 8}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("pix2pix", {"base_channels": 4, "depth": 5}),
    "unet, running": ("pix2pix", {"base_channels": 4, "depth": 5, "statistics": "running"}),
    "unet, nearest": (
        "pix2pix",
        {"base_channels": 4, "depth": 5, "upsampling": "nearest"},
    ),
    "unet, grey": ("pix2pix", {"base_channels": 4, "depth": 5, "channels_in": 1}),
    "resnet": ("cyclegan", {"base_channels": 8, "blocks": 1}),
    "resnet, clipped": ("cyclegan", {"base_channels": 8, "blocks": 1, "clip": 1.5}),
    "resnet, undertone": ("cyclegan", {"base_channels": 8, "blocks": 1, "undertone_px": 9}),
    "resnet, transposed": (
        "cyclegan",
        {"base_channels": 8, "blocks": 1, "upsampling": "transposed"},
    ),
    "msrresnet": ("srgan", {"channels": 8, "blocks": 2, "batch_norm": False}),
    "srresnet": ("srgan", {"channels": 8, "blocks": 1, "architecture": "srresnet", "scale": 2}),
    "rrdb": (
        "srgan",
        {"channels": 8, "blocks": 1, "architecture": "rrdb", "scale": 2, "unshuffle": 2},
    ),
    "compact": ("srgan", {"channels": 8, "blocks": 2, "architecture": "compact"}),
    "style": ("style", {"base_channels": 8, "blocks": 1}),
    "face, surroundings": ("anonymizer", _FACE | {"condition": "surroundings"}),
    "face, identity": ("anonymizer", _FACE),
}


def loaded(family_id: str, config: dict[str, Any]) -> LoadedGenerator:
    kind = family(family_id)
    parsed = kind.generator_config.model_validate(config)
    module = kind.build_generator(parsed).eval().requires_grad_(False)
    header = Header(family=family_id, generator=config, name="tiny")
    return LoadedGenerator(kind, parsed, module, header, "0" * 64)


def pictures(generator: LoadedGenerator, count: int, height: int, width: int) -> Tensor:
    size = generator.family.size_rule(generator.config).padded(height, width)
    given = torch.rand(count, channels(generator.config)[0], *size) * 2 - 1
    given[:, 3:] = given[:, 3:, :1, :1]  # what is asked for of a face, the same everywhere
    return given


def float32_engine(generator: LoadedGenerator) -> Engine:
    """The engine of a machine without bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "MIN_BFLOAT16_PSNR_DB", float("inf"))
        return build_engine(generator, CPU)


@pytest.mark.parametrize("name", CONFIGS)
def test_openvino_equals_torch(name: str) -> None:
    """OpenVINO in float32 gives torch's answer for every network, any size and any batch."""
    generator = loaded(*CONFIGS[name])
    engine = float32_engine(generator)
    assert (engine.device, engine.dtype, engine.backend) == ("cpu", "float32", "openvino")
    for batch in (
        pictures(generator, 1, 32, 32),
        pictures(generator, 3, 32, 64),
        pictures(generator, 1, 45, 33),
    ):
        answer = engine(batch)
        assert answer.dtype == torch.float32
        torch.testing.assert_close(answer, generator.module(batch), rtol=0, atol=2e-4)


def test_bfloat16_within_the_gate() -> None:
    """Where bfloat16 is used, the answer stays above 40 dB of float32's."""
    generator = loaded(*CONFIGS["msrresnet"])
    engine = build_engine(generator, CPU)
    if engine.dtype != "bfloat16":
        pytest.skip("this CPU has no bfloat16")
    batch = pictures(generator, 2, 40, 40)
    assert engines._psnr_db(engine(batch), generator.module(batch)) > 40


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_in_bfloat16(name: str) -> None:
    """On torch, bfloat16 answers as autocast does, which casts the same weights in every call."""
    generator = loaded(*CONFIGS[name])
    twin = FrozenStatistics(generator.module)
    runner = TorchRunner(generator.module, CPU, torch.bfloat16)
    batch = pictures(generator, 2, 64, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert engines._psnr_db(runner.run(batch), generator.module(batch).float()) > 50
        if twin.norms:
            statistics = twin.measure(batch)
            wanted = twin(batch, statistics).float()
            assert engines._psnr_db(runner.run(batch, statistics), wanted) > 50
    assert all(weight.dtype == torch.float32 for weight in generator.module.parameters())


@pytest.mark.parametrize("name", ["unet", "resnet", "srresnet"])
def test_a_batch_of_n_equals_n_singles(name: str) -> None:
    """A picture's answer does not depend on its neighbours in the batch, but for rounding."""
    generator = loaded(*CONFIGS[name])
    batch = pictures(generator, 3, 32, 32)
    for engine, psnr_db in ((float32_engine(generator), 90), (build_engine(generator, CPU), 45)):
        singles = torch.cat([engine(one) for one in batch.split(1)])
        assert engines._psnr_db(engine(batch), singles) > psnr_db


def test_one_network_keeps_its_buffers() -> None:
    """Large pictures for one network after the other need the memory of one pass, not of each."""
    process = psutil.Process()
    wide = loaded("style", {"base_channels": 32, "blocks": 1})
    networks = [float32_engine(wide) for _ in range(3)]
    picture, used = torch.zeros(1, 3, 768, 768), [process.memory_info().rss]
    for engine in networks:
        engine(picture)
        used.append(process.memory_info().rss)
    assert used[-1] - used[1] < (used[1] - used[0]) / 2


@pytest.mark.usefixtures("without_openvino")
def test_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenVINO, or where it does not take a network, torch runs it."""
    generator = loaded(*CONFIGS["msrresnet"])
    batch = pictures(generator, 1, 20, 24)
    monkeypatch.setattr(engines, "MIN_BFLOAT16_PSNR_DB", float("inf"))
    engine = build_engine(generator, CPU)
    assert (engine.backend, engine.dtype) == ("torch", "float32")
    torch.testing.assert_close(engine(batch), generator.module(batch))

    monkeypatch.undo()
    monkeypatch.setattr(engines, "convert", lambda *_: 1 / 0)
    assert build_engine(generator, CPU).backend == "torch"


@pytest.mark.parametrize("name", ["unet", "resnet", "style"])
def test_given_statistics(name: str) -> None:
    """With a picture's own statistics given back to it, the answer is the same on every backend."""
    generator = loaded(*CONFIGS[name])
    engine = float32_engine(generator)
    batch = pictures(generator, 1, 64, 32)
    statistics = engine.statistics(batch)
    torch.testing.assert_close(
        engine(batch, statistics), generator.module(batch), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("name", ["unet", "resnet", "style"])
def test_drift(name: str) -> None:
    """The drift of their own picture leaves statistics alone, another's corrects them to its."""
    generator = loaded(*CONFIGS[name])
    engine, twin = float32_engine(generator), FrozenStatistics(generator.module)
    first, second = pictures(generator, 1, 64, 64), pictures(generator, 1, 64, 64) * 0.5 + 0.2
    statistics = engine.statistics(first)
    channels = [norm.channels for norm in twin.norms]
    own = engine.statistics(first, engine.drift(first, statistics))
    torch.testing.assert_close(own, statistics, rtol=1e-2, atol=1e-2)
    drift = engine.drift(second, statistics)
    torch.testing.assert_close(drift, twin.drift(second, statistics), rtol=1e-3, atol=1e-3)
    size = 2 * channels[0]  # in the first layer the correction is exact, nothing is before it
    corrected = engine.statistics(first, drift)[:size]
    torch.testing.assert_close(corrected, engine.statistics(second)[:size], rtol=1e-3, atol=1e-3)


def test_statistics_leave_the_generator_alone() -> None:
    """Measuring statistics shares the generator's weights and does not change its answers."""
    generator = loaded(*CONFIGS["style"])
    batch = pictures(generator, 1, 32, 32)
    before = generator.module(batch)
    twin = FrozenStatistics(generator.module)
    twin.measure(pictures(generator, 2, 32, 32))
    assert torch.equal(generator.module(batch), before)
    mine, theirs = ({p.data_ptr() for p in m.parameters()} for m in (generator.module, twin))
    assert mine == theirs


_CALL_THEN_SIGNAL = """
import faulthandler, gc, os, signal, torch
from app.engines import build_engine
from test_engines import CONFIGS, loaded, pictures
faulthandler.enable()
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append("signal"))
torch.set_num_threads(1)
for name in ("style", "msrresnet"):
    generator = loaded(*CONFIGS[name])
    engine = build_engine(generator, torch.device("cpu"))
    batch = pictures(generator, 1, 32, 32)
    engine(batch, engine.statistics(batch) if name == "style" else None)
    os.kill(os.getpid(), signal.SIGUSR1)
    del engine
    gc.collect()
    os.kill(os.getpid(), signal.SIGUSR1)
print(seen)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signals here")
def test_signals_reach_the_thread_that_calls_an_engine() -> None:
    """A signal to the main thread, during an engine's life or after it, is handled there."""
    child = subprocess.run(
        [sys.executable, "-c", _CALL_THEN_SIGNAL],
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.count("signal") == 4


class Scripted:
    """A runner that answers what it is told."""

    device, dtype, backend = "cpu", "bfloat16", "openvino"

    def __init__(self, answers: Tensor) -> None:
        self.answers = answers
        self.batches: list[Tensor] = []

    def run(self, batch: Tensor, statistics: Tensor | None = None) -> Tensor:
        assert statistics is None
        self.batches.append(batch)
        return self.answers.clone()


def checked(fast: Runner, exact: Runner) -> CheckedEngine:
    return CheckedEngine(fast, exact, FrozenStatistics(nn.Identity()))


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, 0.25])
def test_broken_answers_are_computed_again(broken: float) -> None:
    """An answer with NaN, infinity or one value only is computed again in float32, it alone."""
    good = torch.rand(3, 3, 4, 4)
    answers = good.clone()
    answers[1] = broken
    exact = Scripted(good[1:2])
    batch = torch.rand(3, 3, 4, 4)
    assert torch.equal(checked(Scripted(answers), exact)(batch), good)
    assert torch.equal(exact.batches[0], batch[1:2])


def test_a_network_that_keeps_failing_runs_in_float32() -> None:
    """After three broken answers in a row the fast way is given up, and the precision told."""
    broken = Scripted(torch.full((1, 3, 4, 4), torch.nan))
    exact = Scripted(torch.rand(1, 3, 4, 4))
    exact.dtype = "float32"
    engine = checked(broken, exact)
    for runs in (1, 2, 3, 3, 3):
        assert torch.equal(engine(torch.rand(1, 3, 4, 4)), exact.answers)
        assert len(broken.batches) == runs
    assert engine.dtype == "float32"


def test_a_flat_answer_is_nobodys_fault() -> None:
    """Where float32 answers with one value, too, the fast way goes on."""
    flat = Scripted(torch.zeros(1, 3, 4, 4))
    engine = checked(flat, Scripted(torch.zeros(1, 3, 4, 4)))
    for _ in range(5):
        engine(torch.rand(1, 3, 4, 4))
    assert len(flat.batches) == 5


def test_torch_answers_are_computed_again_too() -> None:
    """A flat answer of eager torch is computed again and, flat as it stays, given."""
    module = nn.Conv2d(3, 3, 1).eval().requires_grad_(False)
    module.weight.zero_()
    runner = TorchRunner(module, torch.device("cpu"), torch.float32)
    answer = checked(runner, runner)(torch.rand(2, 3, 4, 4))
    assert torch.equal(answer, module.bias.view(1, 3, 1, 1).expand(2, 3, 4, 4))


def test_a_constant_picture_may_have_a_constant_answer() -> None:
    """A constant answer to a constant picture is not computed again."""
    exact = Scripted(torch.zeros(0))
    answer = checked(Scripted(torch.zeros(1, 3, 4, 4)), exact)(torch.ones(1, 3, 4, 4))
    assert not answer.any()
    assert not exact.batches


def test_an_answer_that_stays_broken_is_an_error() -> None:
    """A network that is not finite in float32 either raises, rather than answering black."""
    nan = Scripted(torch.full((1, 3, 4, 4), torch.nan))
    with pytest.raises(FloatingPointError):
        checked(nan, nan)(torch.rand(1, 3, 4, 4))


def test_interpolation() -> None:
    """`detail` moves the weights in a line from the regression network to the adversarial one."""
    regression, other = (loaded(*CONFIGS["msrresnet"]) for _ in range(2))
    adversarial = loaded(*CONFIGS["msrresnet"])
    for weight, start, end in zip(
        *(g.module.state_dict().values() for g in (adversarial, regression, other)), strict=True
    ):
        weight.copy_(start.lerp(end, 0.2))
    for detail, nearer in ((0.0, regression), (1.0, adversarial)):
        mixed = interpolate(regression, adversarial, detail).module.state_dict()
        for key, value in nearer.module.state_dict().items():
            torch.testing.assert_close(mixed[key], value)
    mixed = interpolate(regression, adversarial, 0.25).module.state_dict()
    first, second = (g.module.state_dict()["tail.weight"] for g in (regression, adversarial))
    torch.testing.assert_close(mixed["tail.weight"], 0.75 * first + 0.25 * second)


def test_interpolation_of_strangers() -> None:
    """Networks of different configurations are not interpolated, nor those trained apart."""
    wider = loaded("srgan", CONFIGS["msrresnet"][1] | {"channels": 16})
    with pytest.raises(InvalidParameter, match="interpolated"):
        interpolate(loaded(*CONFIGS["msrresnet"]), wider, 0.5)
    with pytest.raises(InvalidParameter, match="trained apart"):
        interpolate(*(loaded(*CONFIGS["msrresnet"]) for _ in range(2)), 0.5)


def test_a_model_that_bfloat16_spoils_runs_in_float32() -> None:
    """A network whose bfloat16 answer is below 40 dB is served in float32."""
    generator = loaded(*CONFIGS["msrresnet"])
    identity = nn.Conv2d(3, 3, 1, bias=False)
    nn.init.dirac_(identity.weight)
    fragile = nn.Sequential(_Shift(300), identity, _Shift(-300))  # bfloat16 steps by 2 there
    engine = build_engine(replace(generator, module=fragile.requires_grad_(False)), CPU)
    assert engine.dtype == "float32"


def test_hidden_faces_are_exact(tmp_path: Path) -> None:
    """The network that hides faces is in float32 everywhere, or another machine finds them less."""
    generator = loaded(*CONFIGS["face, identity"])
    cache = CompiledCache(tmp_path)
    for engine in (build_engine(generator, CPU, cache), build_engine(generator, CPU, cache)):
        assert (engine.dtype, engine.backend) == ("float32", "openvino")


class _Shift(nn.Module):
    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount

    def forward(self, x: Tensor) -> Tensor:
        return x + self.amount
