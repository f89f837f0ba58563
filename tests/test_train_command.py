"""`anamorph train`, as typed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from app.cli import app
from models.checkpoint import load_generator
from models.registry import Registry
from models.state import load_state
from tiny_training import write_data

RECIPE = """
family = "srgan"
models = { upscale = "sharp" }
data = { kind = "highres", train = ["warm"], crop_px = 32 }
generator = { channels = 8, blocks = 1, scale = 2 }
training = { steps = 4, log_every = 1, checkpoint_every = 100 }
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe file beside its data."""
    write_data(tmp_path / "data")
    path = tmp_path / "sharp.toml"
    path.write_text(RECIPE)
    return path


def command(recipe: Path, *options: str, device: str = "cpu") -> Result:
    """Run `anamorph train`."""
    data = str(recipe.parent / "data")
    words = ["train", str(recipe), "--data", data, "--device", device, *options]
    return CliRunner().invoke(app, words)


def test_trains_publishes_and_starts_from_a_name(recipe: Path, tmp_path: Path):
    """A run lies under the home by its recipe's name, and the command it prints publishes it."""
    done = command(recipe, "--set", "training.steps=3", "--set", "card.licence=CC0")
    assert done.exit_code == 0, done.output
    made = tmp_path / "home" / "runs" / "sharp" / "models" / "sharp.safetensors"
    assert load_generator(made).header.card["licence"] == "CC0"
    assert f"anamorph models import {made} --name sharp" in done.output
    published = CliRunner().invoke(app, ["models", "import", str(made), "--name", "sharp"])
    assert published.exit_code == 0, published.output
    sources = ("sharp", "sharp@1", str(made), "sharp@7")
    codes = [
        command(
            recipe, "--out", str(tmp_path / str(index)), "--stop-after", "1",
            "--set", f"initial.upscale={source}",
        ).exit_code
        for index, source in enumerate(sources)
    ]  # fmt: skip
    assert codes == [0, 0, 0, 1]
    assert Registry(tmp_path / "home").resolve("sharp").version == 1


def test_starts_from_what_ships(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """[initial] finds shipped models where ANAMORPH_SHIPPED_WEIGHTS says that they lie."""
    shipped = tmp_path / "shipped"
    assert command(recipe, "--set", "training.steps=1").exit_code == 0
    made = tmp_path / "home" / "runs" / "sharp" / "models" / "sharp.safetensors"
    shipped.mkdir()
    made.rename(shipped / "other.safetensors")
    monkeypatch.setenv("ANAMORPH_SHIPPED_WEIGHTS", str(shipped))
    out = ("--out", str(tmp_path / "run"), "--stop-after", "1")
    done = command(recipe, *out, "--set", "initial.upscale=other")
    assert done.exit_code == 0, done.output


def test_pauses_and_goes_on(recipe: Path, tmp_path: Path):
    """A run paused by --stop-after says how to go on, and the same command does."""
    out = ("--out", str(tmp_path / "run"))
    paused = command(recipe, *out, "--stop-after", "2")
    assert paused.exit_code == 0
    assert "the same command goes on" in paused.output
    assert not (tmp_path / "run" / "models").exists()
    assert command(recipe, *out).exit_code == 0
    assert load_state(tmp_path / "run" / "state.safetensors")["step"] == 4
    assert (tmp_path / "run" / "models" / "sharp.safetensors").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(recipe: Path, tmp_path: Path, number: signal.Signals):
    """SIGINT and SIGTERM end the step, save the state and leave with status 130."""
    losses = tmp_path / "run" / "losses.jsonl"

    def send() -> None:
        while not losses.exists() or not losses.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    done = command(recipe, "--out", str(tmp_path / "run"), "--set", "training.steps=100000")
    thread.join()
    assert done.exit_code == 130
    assert 1 <= load_state(tmp_path / "run" / "state.safetensors")["step"] < 100_000


def test_a_signal_to_the_whole_group(recipe: Path, tmp_path: Path):
    """SIGTERM to all processes, as torchrun sends it, saves the state too, and leaves no loader."""
    words = ["train", recipe, "--data", tmp_path / "data", "--out", tmp_path / "run"]
    words += ["--set", "training.steps=100000", "--set", "training.workers=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *words, "--device", "cpu"], start_new_session=True
    )
    losses = tmp_path / "run" / "losses.jsonl"
    while not losses.exists() or not losses.read_text():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 130
    assert load_state(tmp_path / "run" / "state.safetensors")["step"] >= 1
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_errors_are_sentences(recipe: Path, tmp_path: Path):
    """What is wrong with a recipe, its data or a change is said in a line, without a traceback."""
    (tmp_path / "data" / "empty").mkdir()
    for change, named in (
        ("training.stepz=1", "training.stepz"),
        ('data.train=["warm", "empty"]', "no usable image in empty"),
        ("nonsense", "nonsense"),
        ("data.crop_px=64", "a side is shorter than 64 pixels"),
        ('card.evaluation.set=["warm"]', "[evaluation] table: set: "),
    ):
        failed = command(recipe, "--set", change)
        assert failed.exit_code == 1
        assert named in failed.output
        assert "Traceback" not in failed.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told(recipe: Path):
    """`--device cuda` without a GPU is refused in a line, without a traceback."""
    refused = command(recipe, device="cuda")
    assert (refused.exit_code, "no GPU" in refused.output) == (1, True)
