"""The one training loop, for every family and stage: it learns, and nothing stops it for good."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from models import losses
from models.beginning import build_objective
from models.checkpoint import load_generator
from models.data import open_samples
from models.errors import DivergedTraining, InvalidCheckpoint, InvalidRecipe
from models.families import FAMILIES
from models.features import CONVENTION
from models.objective import Objective
from models.recipe import Recipe
from models.reports import Reports
from models.sampling import batches
from models.state import load_state
from models.training import STATE_FILE, Progress
from tiny_training import STAGES, room_for, rows, run, tiny_recipe

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]

by_stage = pytest.mark.parametrize("stage", STAGES)


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every leaf of a nested state by its path."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    leaves: dict[str, Any] = {}
    for key, item in items:
        path = f"{name}/{key}"
        leaves |= flat(item, path) if isinstance(item, dict | list) else {path: item}
    return leaves


def assert_same_state(one: Path, other: Path) -> None:
    """Two run folders hold the same networks, optimizers, averages, pools and generators' state."""
    states = [load_state(folder / STATE_FILE) for folder in (one, other)]
    assert all(state.pop("seconds") > 0 for state in states)  # they alone may differ
    first, second = map(flat, states)
    assert first.keys() == second.keys()
    different = [
        path
        for path, value in first.items()
        if not (
            torch.equal(value, second[path])
            if isinstance(value, torch.Tensor)
            else value == second[path]
        )
    ]
    assert not different


def same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two files' tensors are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def size_of(path: Path) -> tuple[int, int]:
    """A picture's width and height."""
    with Image.open(path) as picture:
        return picture.size


@torch.no_grad()
def learnable_loss(objective: Objective, recipe: Recipe, data_root: Path) -> float:
    """The generator's mean loss on the seed's samples and noise, of the terms that can be learned.

    Adversarial ones need not fall, and to the random embedding all faces are one person's. Two
    states of one objective differ in the rest by their weights alone, two steps by their draws too.
    """
    scale = FAMILIES[recipe.family].scale(recipe.generator_config())
    samples = open_samples(recipe.data, data_root, recipe.seed, scale)
    torch.manual_seed(recipe.seed)
    total = 0.0
    for batch in batches(samples, recipe.training.batch, 0, 6, workers=0, rank=0, ranks=1):
        terms, _ = objective.generator_step(batch)
        total += sum(
            objective.weights[name] * float(value)
            for name, value in terms.items()
            if not name.startswith(("adversarial", "meant", "changed", "apart"))
        )
    return total / 6


@by_stage
def test_learns(stage: str, data_root: Path, tmp_path: Path):
    """A short training lowers what the generator can learn, and publishes what it made."""
    recipe = tiny_recipe(stage, steps=24, learning_rate=5e-3, schedule="constant")
    torch.manual_seed(recipe.seed)
    objective = build_objective(recipe, data_root, data_root / "vgg16.safetensors")
    before = learnable_loss(objective, recipe, data_root)
    made = run(recipe, tmp_path, data_root)
    assert made.keys() == recipe.models.keys()
    for key, path in made.items():
        loaded = load_generator(path)
        objective.generators[key].load_state_dict(loaded.module.state_dict())
        assert loaded.header.name == recipe.models[key]
        card = loaded.header.card
        assert (card["steps"], card["device"].split()[0]) == (24, "CPU")
        assert card["hours"] >= 0
        assert loaded.config == recipe.generator_config()
    assert learnable_loss(objective, recipe, data_root) < 0.95 * before


@by_stage
def test_resumes_bit_for_bit(stage: str, data_root: Path, tmp_path: Path):
    """Stopped after 4 of 8 steps and resumed, a training ends where an uninterrupted one does."""
    recipe = tiny_recipe(stage, steps=8, sample_every=4)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    made = run(recipe, whole, data_root)
    assert run(recipe, halves, data_root, stop_after=4) == {}
    assert load_state(halves / STATE_FILE)["step"] == 4
    torch.manual_seed(1234)  # another process would have other numbers
    again = run(recipe, halves, data_root)
    assert_same_state(whole, halves)
    for key, path in made.items():
        assert same_tensors(load_file(path), load_file(again[key]))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("srgan-regression", {"channels_last": True, "schedule": "cosine", "warmup_steps": 3}),
        ("pix2pix", {"ema": 0, "workers": 2, "precision": "bfloat16"}),
        ("srgan-regression", {"channels_last": True, "optimizer": "muon"}),
    ],
)
def test_resumes_whatever_the_options(
    stage: str, options: dict[str, Any], data_root: Path, tmp_path: Path
):
    """Layout, precision, loading, averaging and optimizer leave a resume bit for bit."""
    recipe = tiny_recipe(stage, steps=6, **options)
    run(recipe, tmp_path / "whole", data_root)
    run(recipe, tmp_path / "halves", data_root, stop_after=3)
    run(recipe, tmp_path / "halves", data_root)
    assert_same_state(tmp_path / "whole", tmp_path / "halves")


def test_resumes_dropout(data_root: Path, tmp_path: Path):
    """Dropout goes on with the noise an uninterrupted training would have drawn."""
    recipe = tiny_recipe("pix2pix", steps=6)
    noisy = {"base_channels": 4, "depth": 6, "norm": "batch", "dropout": 0.5}
    data = recipe.data.model_copy(update={"load_px": 64, "crop_px": 64})
    recipe = recipe.model_copy(update={"generator": noisy, "data": data})
    run(recipe, tmp_path / "whole", data_root)
    run(recipe, tmp_path / "halves", data_root, stop_after=3)
    run(recipe, tmp_path / "halves", data_root)
    assert_same_state(tmp_path / "whole", tmp_path / "halves")


def train_in_a_process(folder: Path, data_root: Path, steps: int, *launcher: str) -> list[str]:
    """The command of a process, or of those that `launcher` starts, that trains the CycleGAN."""
    program = str(Path(__file__).with_name("train_tiny.py"))
    return [sys.executable, *launcher, program, str(folder), str(data_root), str(steps)]


@pytest.fixture
def environment(root: Path) -> dict[str, str]:
    """An environment in which another process finds the project, on one thread."""
    return os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def test_survives_a_kill(data_root: Path, tmp_path: Path, environment: dict[str, str]):
    """Killed at any moment and started anew in another process, a training ends the same.

    Of a state that it was killed in writing nothing stays on the disk.
    """
    command = train_in_a_process(tmp_path / "killed", data_root, 20)
    process = subprocess.Popen(command, env=environment)
    while not (tmp_path / "killed" / STATE_FILE).exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert load_state(tmp_path / "killed" / STATE_FILE)["step"] < 20
    half_written = tmp_path / "killed" / f".{STATE_FILE}.{process.pid}.1"
    half_written.touch()
    subprocess.run(command, env=environment, check=True)
    recipe = tiny_recipe("cyclegan", steps=20, batch=1, checkpoint_every=2, log_every=1)
    run(recipe, tmp_path / "whole", data_root)
    assert_same_state(tmp_path / "whole", tmp_path / "killed")
    assert not half_written.exists()
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")


def test_two_ranks(data_root: Path, tmp_path: Path, environment: dict[str, str]):
    """Two processes under torchrun end with the same weights, moved from where they began."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = train_in_a_process(tmp_path, data_root, 4, *launcher)
    subprocess.run(command, env=environment, check=True)
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    networks = flat(load_state(tmp_path / STATE_FILE)["networks"])
    assert any(torch.equal(first["0/0"], value) for value in networks.values())
    assert {path.stem for path in (tmp_path / "models").iterdir()} == {"warm2cold", "cold2warm"}
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]


def test_ranks_average_their_gradients(data_root: Path, tmp_path: Path):
    """Gradients averaged over processes are those of one process with all the samples."""
    # Losses are means over the batch, so one batch of two equals the mean of two of one.
    recipe = tiny_recipe("pix2pix", batch=2)
    objective = recipe.objective_type().build(
        recipe.generator_config(), recipe.objective_config(), None, None
    )
    samples = open_samples(recipe.data, data_root, seed=1)
    gradients = []
    for ks in ([0], [1], [0, 1]):
        batch = {name: torch.stack([samples[k][name] for k in ks]) for name in "ab"}
        terms, _ = objective.generator_step(batch)
        gradients.append(torch.autograd.grad(terms["l1"], [*objective.generators.parameters()]))
    for one, other, both in zip(*gradients, strict=True):
        torch.testing.assert_close((one + other) / 2, both)


def test_a_diverged_training_keeps_its_last_state(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A loss that is not finite stops the training; the last good state and the curves stay."""
    recipe = tiny_recipe("srgan-regression", steps=8, checkpoint_every=1, log_every=5)
    run(recipe, tmp_path, data_root, stop_after=3)
    kept = (tmp_path / STATE_FILE).read_bytes()
    monkeypatch.setattr(losses, "mean_absolute_error", lambda a, b: (a - b).mean() * torch.nan)
    with pytest.raises(DivergedTraining, match="step 4"):  # saved every step, logged every fifth
        run(recipe, tmp_path, data_root)
    logged_first = recipe.model_copy(
        update={"training": recipe.training.model_copy(update={"log_every": 1})}
    )
    with pytest.raises(DivergedTraining, match=r"generator/pixel.*step 4"):
        run(logged_first, tmp_path, data_root)
    assert (tmp_path / STATE_FILE).read_bytes() == kept
    assert (tmp_path / "losses.png").exists()


def test_damaged_state(data_root: Path, tmp_path: Path):
    """A state file that is cut short, empty or something else is InvalidCheckpoint."""
    recipe = tiny_recipe("srgan-regression", steps=4)
    run(recipe, tmp_path, data_root, stop_after=1)
    state = tmp_path / STATE_FILE
    whole = state.read_bytes()
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    for content in (whole[:-7], whole[:100], b"", (tmp_path / "other").read_bytes()):
        state.write_bytes(content)
        with pytest.raises(InvalidCheckpoint, match=STATE_FILE):
            run(recipe, tmp_path, data_root)
    state.write_bytes(whole)
    run(recipe, tmp_path, data_root)


def test_another_recipe_in_the_folder(data_root: Path, tmp_path: Path):
    """A folder that holds a training with another network is refused, and says what differs."""
    run(tiny_recipe("srgan-regression"), tmp_path, data_root, stop_after=1)
    other = tiny_recipe("srgan-regression")
    other = other.model_copy(update={"generator": other.generator | {"blocks": 2}})
    with pytest.raises(InvalidRecipe, match="generator"):
        run(other, tmp_path, data_root)


def test_another_painting_in_the_folder(data_root: Path, tmp_path: Path):
    """A style's ended training is not published again as another painting's."""
    recipe = tiny_recipe("style", steps=2)
    assert run(recipe, tmp_path, data_root)
    another = min((data_root / "warm").iterdir()).relative_to(data_root)
    other = recipe.data.model_copy(update={"style": str(another)})
    with pytest.raises(InvalidRecipe, match=r"data\.style.* name another"):
        run(recipe.model_copy(update={"data": other}), tmp_path, data_root)


def test_an_average_asked_for_at_the_end(data_root: Path, tmp_path: Path):
    """An ended training that is to be averaged after all has its weights to average, no others."""
    recipe = tiny_recipe("srgan-regression", steps=2, ema=0)
    (last,) = run(recipe, tmp_path, data_root).values()
    weights = load_generator(last).module.state_dict()
    training = recipe.training.model_copy(update={"ema": 0.9})
    (averaged,) = run(
        recipe.model_copy(update={"training": training}), tmp_path, data_root
    ).values()
    for key, value in load_generator(averaged).module.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_goes_on_with_other_crops(data_root: Path, tmp_path: Path):
    """Resumed with crops of another size, a CycleGAN fills its pools of pictures anew."""
    recipe = tiny_recipe("cyclegan", steps=5)
    run(recipe, tmp_path, data_root, stop_after=4)
    data = recipe.data.model_copy(update={"crop_px": 36})
    assert run(recipe.model_copy(update={"data": data}), tmp_path, data_root)
    memory = load_state(tmp_path / STATE_FILE)["networks"]["memory"]
    assert memory["a.pictures"].shape == (3, 3, 36, 36)
    assert int(memory["a.filled"]) == 2


@pytest.mark.parametrize("options", [{"optimizer": "muon"}, {"betas": (0.8, 0.99)}])
def test_another_optimizer_in_the_folder(options: dict[str, Any], data_root: Path, tmp_path: Path):
    """Moments of another optimizer are refused, not misread."""
    run(tiny_recipe("srgan-regression"), tmp_path, data_root, stop_after=1)
    with pytest.raises(InvalidRecipe, match=next(iter(options))):
        run(tiny_recipe("srgan-regression", **options), tmp_path, data_root)


def test_run_folder(data_root: Path, tmp_path: Path):
    """A run leaves its losses as rows, as a picture and for TensorBoard, and grids of samples."""
    recipe = tiny_recipe("cyclegan", steps=4, log_every=2, sample_every=2)
    progress: list[Progress] = []
    run(recipe, tmp_path, data_root, on_progress=progress.append)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 4]
    assert [p.step for p in progress] == [1, 2, 4]
    assert all(p.steps == 4 and p.steps_per_s > 0 for p in progress)
    named = {f"{kind}_{domain}" for kind in ("adversarial", "cycle", "identity") for domain in "ab"}
    expected = {f"generator/{name}" for name in named} | {"discriminator/a", "discriminator/b"}
    assert progress[-1].figures.keys() == expected | {"diversity_a", "diversity_b"}
    grids = sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in grids] == ["000002.png", "000004.png"]
    assert size_of(grids[0]) == (6 * 34 + 2, 2 * 34 + 2)  # six columns, two rows
    assert min(size_of(tmp_path / "losses.png")) > 100
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_the_first_and_the_last_step_are_reported(data_root: Path, tmp_path: Path):
    """Whoever follows a training sees it arrive, also where `log_every` does not divide it."""
    told: list[int] = []
    recipe = tiny_recipe("srgan-regression", steps=5, log_every=3)
    run(recipe, tmp_path, data_root, on_progress=lambda progress: told.append(progress.step))
    assert told == [1, 3, 5] == [row["step"] for row in rows(tmp_path)]


def test_rows_after_the_last_state_are_dropped(data_root: Path, tmp_path: Path):
    """A resumed training's table has each step once, also when a kill cut its last line."""
    recipe = tiny_recipe("srgan-regression", steps=4, log_every=1)
    run(recipe, tmp_path, data_root, stop_after=2)
    with (tmp_path / "losses.jsonl").open("a") as file:
        file.write('{"step": 3, "generator/pixel": 1.0}\n{"step": 4, "gener')
    run(recipe, tmp_path, data_root)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]
    assert rows(tmp_path)[2]["generator/pixel"] != 1.0


def test_a_full_disk_spoils_no_report(data_root: Path, tmp_path: Path):
    """Where there is no room to write them anew, rows stay as they were, and no grid is cut off."""
    recipe = tiny_recipe("srgan-regression", steps=4, log_every=1)
    run(recipe, tmp_path, data_root, stop_after=3)
    written = rows(tmp_path)
    with room_for(50), pytest.raises(OSError, match="too large"):
        Reports(tmp_path, 3)
    assert rows(tmp_path) == written
    with Reports(tmp_path, 3) as reports:
        # There is room for the head of TensorBoard's file, which its thread writes at any time.
        with room_for(1000), pytest.raises(OSError, match="too large"):
            reports.sample(4, [torch.rand(1, 3, 32, 32)])
        assert [path.name for path in (tmp_path / "samples").iterdir()] == ["000003.png"]


def test_stops_when_asked(data_root: Path, tmp_path: Path):
    """Asked to stop, a training ends its step, saves its state and can be resumed from there."""
    recipe = tiny_recipe("cyclegan", steps=6)
    answers = iter([False, False, True])
    assert run(recipe, tmp_path / "asked", data_root, should_stop=lambda: next(answers)) == {}
    assert load_state(tmp_path / "asked" / STATE_FILE)["step"] == 3
    run(recipe, tmp_path / "asked", data_root)
    run(recipe, tmp_path / "whole", data_root)
    assert_same_state(tmp_path / "whole", tmp_path / "asked")


def test_conventions_are_published(data_root: Path, tmp_path: Path):
    """A model trained by perceptual terms records the network, its input scale and the layers."""
    made = run(tiny_recipe("style", steps=1), tmp_path, data_root)["stylize"]
    conventions = load_generator(made).header.card["conventions"]["features"]
    assert conventions == CONVENTION | {
        "content_layer": "relu1_2", "style_layers": ["relu1_1", "relu1_2"],
    }  # fmt: skip


def test_models_are_named_before_training(data_root: Path, tmp_path: Path):
    """A recipe that leaves a generator without a name is refused before the first step."""
    recipe = tiny_recipe("cyclegan").model_copy(update={"models": {"AtoB": "one"}})
    with pytest.raises(InvalidRecipe, match="AtoB, BtoA"):
        run(recipe, tmp_path, data_root)
