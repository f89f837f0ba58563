"""Trainings that begin with a model that is there: as it is, smaller, or beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint import load_generator
from models.errors import InvalidRecipe
from models.families import family
from models.families.cyclegan.objective import CycleGANConfig, CycleGANObjective
from models.recipe import Recipe
from models.state import load_state
from models.training import STATE_FILE
from tiny_training import rows, run, tiny_recipe

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]


def test_starts_from_another_model(data_root: Path, tmp_path: Path):
    """The generators start from the weights that [initial] names, which must fit the recipe."""
    recipe = tiny_recipe("srgan-regression", steps=2)
    made = run(recipe, tmp_path / "first", data_root)["upscale"]
    barely = recipe.training.model_copy(update={"steps": 1, "learning_rate": 1e-12})
    update = {"initial": {"upscale": "base@1"}, "training": barely}
    find = {"base@1": made}.__getitem__
    again = run(recipe.model_copy(update=update), tmp_path / "again", data_root, find_model=find)
    before, after = (load_generator(path).module.state_dict() for path in (made, again["upscale"]))
    assert all(torch.allclose(before[key], after[key], atol=1e-7) for key in before)
    wider = recipe.model_copy(update=update | {"generator": recipe.generator | {"channels": 9}})
    with pytest.raises(InvalidRecipe, match=r"base@1 does not fit: it has another channels$"):
        run(wider, tmp_path / "wider", data_root, find_model=find)


@pytest.mark.parametrize(
    ("family", "dimension"), [("cyclegan", "base_channels"), ("style", "blocks")]
)
def test_starts_from_a_smaller_model(data_root: Path, tmp_path: Path, family: str, dimension: str):
    """Translators can begin as narrower ones, styles as shallower ones; neither as larger ones."""
    recipe = tiny_recipe(family, steps=1)
    key = next(iter(recipe.models))
    made = run(recipe, tmp_path / "first", data_root)[key]
    barely = recipe.training.model_copy(update={"learning_rate": 1e-12})

    def of(size: int, initial: Path) -> tuple[Recipe, dict[str, Any]]:
        update = {
            "initial": {key: "start"},
            "training": barely,
            "generator": recipe.generator | {dimension: size},
        }
        return recipe.model_copy(update=update), {"find_model": {"start": initial}.__getitem__}

    size = recipe.generator[dimension]
    larger, options = of(size + 2, made)
    grown = run(larger, tmp_path / "larger", data_root, **options)[key]
    x = torch.rand(1, 3, 16, 16)
    before, after = (load_generator(path).module(x) for path in (made, grown))
    assert torch.allclose(before, after, atol=1e-2)  # both files are in half precision
    smaller, options = of(size, grown)
    with pytest.raises(InvalidRecipe, match=f"it has another {dimension}$"):
        run(smaller, tmp_path / "smaller", data_root, **options)


@pytest.mark.parametrize("changes", [{}, {"norm": "batch", "dropout": 0.5}], ids=str)
def test_a_frozen_generator_stays(data_root: Path, tmp_path: Path, changes: dict[str, Any]):
    """A frozen generator is shown to the other one, but neither trained nor published."""
    recipe = tiny_recipe("cyclegan-projected", steps=3, ema=0, sample_every=1)
    recipe = recipe.model_copy(update={"generator": recipe.generator | changes})
    made = run(recipe, tmp_path / "both", data_root)
    objective = recipe.objective | {"frozen": "BtoA"}
    update = {"initial": {"BtoA": "painter"}, "objective": objective}
    recipe = recipe.model_copy(update=update)
    find = {"painter": made["BtoA"]}.__getitem__
    run(recipe, tmp_path / "one", data_root, stop_after=1, find_model=find)
    alone = run(recipe, tmp_path / "one", data_root)
    kept = load_state(tmp_path / "one" / STATE_FILE)["networks"]["generators"]
    painter = load_generator(made["BtoA"]).module.state_dict()
    assert all(torch.equal(kept[f"BtoA.{key}"], value) for key, value in painter.items())
    assert alone.keys() == {"AtoB"}
    logged = rows(tmp_path / "one")[-1]
    assert "generator/cycle_a" in logged
    assert "generator/cycle_b" in logged
    assert {key for key in logged if key.startswith("discriminator")} == {
        "discriminator/b", "discriminator/b_projected",
    }  # fmt: skip


def test_a_frozen_generator_answers_as_it_is_served():
    """In training, too, what a frozen generator makes of a picture depends on nothing else."""
    noisy = {"base_channels": 4, "blocks": 1, "norm": "batch", "dropout": 0.5}
    config = family("cyclegan").generator_config(**noisy)
    objective = CycleGANObjective(config, CycleGANConfig(frozen="BtoA"), None).train()
    frozen, trained = objective.generators["BtoA"], objective.generators["AtoB"]
    pictures = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(frozen(pictures)[:1], frozen(pictures[:1]))
    assert not torch.equal(trained(pictures), trained(pictures))


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_identity_term_changes_no_fake(norm: str):
    """What a translator makes of a picture does not depend on what the identity term shows it."""
    config = family("cyclegan").generator_config(base_channels=4, blocks=1, norm=norm)
    torch.manual_seed(0)
    objective = CycleGANObjective(config, CycleGANConfig(identity=5.0), None).train()
    dark, bright = torch.rand(2, 3, 64, 64) - 1, torch.rand(2, 3, 64, 64)
    fakes = objective.generator_step({"a": dark, "b": bright}).fakes
    alone = objective.generators["AtoB"](dark)
    torch.testing.assert_close(fakes["b"], alone.detach())
