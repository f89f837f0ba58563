"""What a training over HTTP takes from its base model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.callers import OPERATOR
from app.datasets.store import DatasetStore
from app.retraining.training_requests import recipe_of
from app.schemas.training import Hyperparameters, Trainable, TrainingRequest
from conftest import ROOT
from models.checkpoint import amend_card
from models.errors import InvalidRecipe
from models.recipe import Recipe
from models.registry import Registry
from tiny_training import write_data


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    uploaded = home / "uploaded"
    write_data(uploaded, count=8, px=400)
    for domain, folder in (("A", "cold"), ("B", "warm")):
        shutil.copytree(uploaded / folder, uploaded / "domains" / domain)
    return home


def recipe(home: Path, base: str | None, family: Trainable = "srgan", **objective: Any) -> Recipe:
    """The recipe of a model from one that ships."""
    folder, kind = {"srgan": ("warm", "highres"), "cyclegan": ("domains", "unpaired")}[family]
    dataset, _ = DatasetStore(home).add(home / "uploaded" / folder, "photos", kind)
    request = TrainingRequest(
        family=family,
        dataset=dataset.id,
        name="mine",
        base=base,
        steps=1,
        hyperparameters=Hyperparameters(objective=objective),
    )
    return recipe_of(
        request, DatasetStore(home), Registry(home, ROOT / "models" / "weights"), OPERATOR
    )


@pytest.mark.parametrize(
    ("base", "objective", "stage", "regression_model"),
    [
        (None, {}, "regression", None),
        ("srresnet-x4", {}, "regression", None),
        ("srgan-x4", {}, "adversarial", "srresnet-x4"),
        ("srgan-x4", {"stage": "regression"}, "regression", None),
        ("srresnet-x4", {"stage": "adversarial"}, "adversarial", "srresnet-x4"),
    ],
)
def test_an_upscaler_stays_what_its_base_is(
    home: Path,
    base: str | None,
    objective: dict[str, Any],
    stage: str,
    regression_model: str | None,
) -> None:
    """An adversarial upscaler is retrained as one, and `detail` still has both its ends."""
    made = recipe(home, base, **objective)
    assert made.objective_config().model_dump()["stage"] == stage
    assert made.card.get("regression_model") == regression_model


def test_terms_are_the_bases_unless_given(home: Path) -> None:
    """The weights of an adversarial upscaler's terms are its base's, but for what is asked for."""
    made = recipe(home, "srgan-x4", adversarial=1e-2).objective_config().model_dump()
    assert (made["adversarial"], made["perceptual"]) == (1e-2, 2e-4)


def test_terms_of_use_stay_with_the_weights(home: Path) -> None:
    """What is trained further says in its card under which licence its base was trained."""
    shipped = Registry(home, ROOT / "models" / "weights").resolve("srresnet-x4").header.card
    assert recipe(home, "srresnet-x4").card["licence"] == f"of the base: {shipped['licence']}"
    assert "licence" not in recipe(home, None).card


@pytest.mark.parametrize(
    ("family", "kinds"),
    [("pix2pix", "paired or highres"), ("srgan", "highres"), ("style", "style")],
)
def test_a_dataset_of_another_kind_is_refused_by_its_kind(
    home: Path, family: Trainable, kinds: str
) -> None:
    """Who trains a family on another kind of dataset is told both kinds, as datasets name them."""
    dataset, _ = DatasetStore(home).add(home / "uploaded" / "domains", "photos", "unpaired")
    request = TrainingRequest(family=family, dataset=dataset.id, name="mine")
    with pytest.raises(
        InvalidRecipe, match=f"{family} trains on {kinds} datasets, not on unpaired"
    ):
        recipe_of(request, DatasetStore(home), Registry(home, home / "none"), OPERATOR)


def test_networks_far_beyond_published_ones_are_refused(home: Path) -> None:
    """A generator that a machine cannot hold is refused by its number of weights."""
    dataset, _ = DatasetStore(home).add(home / "uploaded" / "domains", "photos", "unpaired")
    wide = Hyperparameters(generator={"base_channels": 512})
    request = TrainingRequest(
        family="cyclegan", dataset=dataset.id, name="mine", steps=1, hyperparameters=wide
    )
    registry = Registry(home, ROOT / "models" / "weights")
    with pytest.raises(InvalidRecipe, match=r"generator: [0-9,]+ weights; at most"):
        recipe_of(request, DatasetStore(home), registry, OPERATOR)


@pytest.mark.parametrize("name", ["mine", "a" * 64, "mine-back", "a" * 56 + "-back"])
def test_the_way_back_has_a_name_of_its_own(home: Path, name: str) -> None:
    """However a CycleGAN's model is called, the other direction is called something else."""
    dataset, _ = DatasetStore(home).add(home / "uploaded" / "domains", "photos", "unpaired")
    request = TrainingRequest(family="cyclegan", dataset=dataset.id, name=name, steps=1)
    registry = Registry(home, home / "none")
    models = recipe_of(request, DatasetStore(home), registry, OPERATOR).models
    assert models["AtoB"] == name != models["BtoA"]


def test_both_directions_begin_as_something_that_was_trained(home: Path) -> None:
    """The way back begins as the model trained with the base, or else as the base itself."""
    assert recipe(home, "horse2zebra", "cyclegan").initial == {
        "AtoB": "horse2zebra@1",
        "BtoA": "zebra2horse@1",
    }
    registry = Registry(home, ROOT / "models" / "weights")
    alone = registry.publish(registry.resolve("horse2zebra").path, "alone")
    amend_card(alone.path, {"recipe": {}})
    assert set(recipe(home, "alone@1", "cyclegan").initial.values()) == {"alone@1"}
    assert recipe(home, None, "cyclegan").initial == {}
