"""Recipes: those that come with the project, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.checkpoint import read_header
from models.errors import InvalidRecipe
from models.evaluation.data import check_evaluation
from models.recipe import load_recipe, parse_recipe
from tiny_training import STAGES, tiny_recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))
WEIGHTS = ROOT / "models" / "weights"
SHIPPED = sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_project(path: Path):
    """Every recipe in recipes/ is valid, names its model after its file and states its licence."""
    recipe = load_recipe(path)
    check_evaluation(recipe)
    assert path.stem in recipe.models.values()
    assert recipe.card["licence"]


@pytest.mark.parametrize("name", SHIPPED)
def test_models_that_ship_were_made_by_their_recipes(name: str):
    """A shipped model's card has the recipe that the file in recipes/ is, but for the card."""
    card = read_header(WEIGHTS / f"{name}.safetensors").card
    ran = parse_recipe(card["recipe"] | {"card": {}})
    known = [load_recipe(path).model_copy(update={"card": {}}) for path in RECIPES]
    assert ran in known


@pytest.mark.parametrize(("trained", "tested"), [(("b",), ()), ((), ("tb",))])
def test_a_test_of_pairs_is_laid_out_as_the_training(trained: tuple, tested: tuple):
    """Targets in a folder of their own in only one of the two are refused, not cut in halves."""
    recipe = tiny_recipe("pix2pix")
    data = recipe.data.model_copy(update={"targets": trained})
    card = {"evaluation": {"test": "t", "targets": tested}}
    with pytest.raises(InvalidRecipe, match="targets"):
        check_evaluation(recipe.model_copy(update={"data": data, "card": card}))


def table(stage: str = "pix2pix") -> dict[str, Any]:
    """A valid recipe as a table."""
    return tiny_recipe(stage).model_dump(exclude_defaults=True)


@pytest.mark.parametrize("stage", STAGES)
def test_a_recipe_survives_writing(stage: str):
    """A recipe written out and read again is the same."""
    recipe = tiny_recipe(stage)
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"family": "vae"}, "vae.*cyclegan.*pix2pix"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**40}, "seed"),
    ({"training": {"steps": 0}}, r"training\.steps"),
    ({"training": {"steps": 1, "lerning_rate": 1}}, r"training\.lerning_rate"),
    ({"training": {}}, r"training\.steps"),
    ({"training": 3}, "training"),
    ({"generator": {"depth": 99}}, r"^generator\.depth: [^\n]*$"),
    ({"generator": {"depht": 5}}, r"^generator\.depht: [^\n]*$"),
    ({"objective": {"l1": -1}, "generator": {"wings": 2}}, r"generator\.wings.*objective\.l1"),
    ({"data": {"kind": "content", "train": ["a"], "style": "b"}}, "paired or colours data, not on"),
    ({"data": {"kind": "video"}}, "data"),
    ({"data": {"kind": "paired", "train": ["a"], "crop_px": 40}}, r"data\.crop_px.*multiple of 32"),
    ({"data": {"kind": "paired", "train": ["a"], "max_load_px": 280}}, r"data\b.*max_load_px.*286"),
    ({"models": {"AtoB": "../escape"}}, r"models\.AtoB"),
    ({"card": {"licence": ["CC0"]}}, r"^card: licence: [^\n]*$"),
    ({"colour": 1}, "colour"),
]


def test_what_is_frozen_has_a_beginning():
    """A generator that is not trained must come from somewhere."""
    frozen = {"objective": {"frozen": "BtoA"}}
    with pytest.raises(InvalidRecipe, match=r"objective\.frozen.*BtoA"):
        parse_recipe(table("cyclegan") | frozen)
    parse_recipe(table("cyclegan") | frozen | {"initial": {"BtoA": "cold2warm"}})


@pytest.mark.parametrize(("change", "named"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_keys_are_named(change: dict[str, Any], named: str):
    """A wrong key is named with its table and what is wrong about it, on one line."""
    with pytest.raises(InvalidRecipe, match=named) as error:
        parse_recipe(table() | change)
    assert "pydantic" not in str(error.value)


def test_projected_layers():
    """A layer that VGG16 lacks, one before its ReLU, or none is refused before training."""
    for layers in (["relu2_3"], ["conv2_2"], ["pool1"], []):
        recipe = table("cyclegan-projected")
        recipe["objective"]["projected_layers"] = layers
        with pytest.raises(InvalidRecipe, match=r"objective\.projected_layers"):
            parse_recipe(recipe)


def test_crop_and_scale():
    """A super-resolution crop that the scale does not divide is refused before training."""
    recipe = table("srgan-regression")
    recipe["data"]["crop_px"] = 33
    with pytest.raises(InvalidRecipe, match=r"data\.crop_px.*multiple of 2"):
        parse_recipe(recipe)


@pytest.mark.parametrize(
    ("family", "change", "named"),
    [
        ("style", {"objective": {"content_layer": "relu9_9"}}, "content_layer"),
        ("style", {"objective": {"style_layers": []}}, "style_layers"),
        ("srgan-adversarial", {"objective": {"perceptual_layer": "pool1"}}, "perceptual_layer"),
        ("cyclegan", {"training": {"betas": [1.5, 0.9]}}, "betas"),
        ("cyclegan", {"generator": {"channels_in": 1}}, "channels_in = 3"),
        ("cyclegan", {"objective": {"patch_layers": 5}}, r"crop_px.*at least 96"),
        (
            "srgan-adversarial",
            {"objective": {"perceptual_layer": "conv5_3"}, "data": {"crop_px": 8}},
            r"crop_px.*at least 17",
        ),
        ("srgan-adversarial", {"data": {"crop_px": 16}}, r"crop_px.*at least 17"),
        (
            "cyclegan-projected",
            {"objective": {"projected_layers": ["relu5_3"]}, "data": {"crop_px": 28}},
            r"crop_px.*at least 32",
        ),
        ("cyclegan", {"models": {"AtoB": "x", "BtoA": "x"}}, "models"),
        ("pix2pix", {"generator": {"base_channels": 100_000_000}}, "base_channels"),
        ("anonymizer-identity", {"generator": {"finder_blocks": 10**6}}, "finder_blocks"),
        ("anonymizer-surroundings", {"data": {"landmarks": False}}, "data.landmarks"),
        ("anonymizer-identity", {"initial": None}, "initial: names no model for identity"),
        ("anonymizer-tone", {"initial": None}, "initial: names no model for surroundings"),
    ],
)
def test_what_no_step_could_be_made_of(family: str, change: dict[str, Any], named: str):
    """What would end a training at its first step, or one of its models, is refused before."""
    recipe = table(family)
    for part, keys in change.items():
        recipe[part] = {} if keys is None else recipe[part] | keys
    with pytest.raises(InvalidRecipe, match=named):
        parse_recipe(recipe)


def test_keys_are_named_as_the_recipe_has_them():
    """A key of [data] that is unknown is named by its path in the file."""
    recipe = table("srgan-regression")
    recipe["data"]["load_px"] = 40
    with pytest.raises(InvalidRecipe, match=r"^data\.load_px: "):
        parse_recipe(recipe)


def test_unreadable_files(tmp_path: Path):
    """A recipe that is absent or no TOML is InvalidRecipe with its path."""
    broken = tmp_path / "broken.toml"
    broken.write_text("family =")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path in (broken, binary, tmp_path / "absent.toml"):
        with pytest.raises(InvalidRecipe, match=path.name):
            load_recipe(path)


def test_changes(root: Path):
    """Single keys can be replaced, strings with or without quotes."""
    changes = ["training.steps=7", "data.direction=AtoB", 'card.data="mine"', "generator.depth = 7"]
    recipe = load_recipe(root / "recipes" / "facades.toml", changes)
    unchanged = load_recipe(root / "recipes" / "facades.toml")
    assert (recipe.training.steps, recipe.training.batch) == (7, unchanged.training.batch)
    assert (recipe.data.direction, recipe.card["data"]) == ("AtoB", "mine")
    assert recipe.generator_config().depth == 7


def test_empties_a_table(root: Path):
    """A table replaced by an empty one is empty: a stage can begin without the one before."""
    assert load_recipe(root / "recipes" / "wave.toml").initial
    assert not load_recipe(root / "recipes" / "wave.toml", ["initial={}"]).initial
    mine = load_recipe(root / "recipes" / "wave.toml", ["initial={}", "initial.stylize=mine"])
    assert mine.initial == {"stylize": "mine"}


@pytest.mark.parametrize("change", ["training.steps", "=3", "a b=3", "training.steps.x=1"])
def test_changes_that_are_none(root: Path, change: str):
    """A change that is not table.key=value, or of no known key, is InvalidRecipe."""
    with pytest.raises(InvalidRecipe):
        load_recipe(root / "recipes" / "facades.toml", [change])
