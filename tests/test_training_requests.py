"""What a training over HTTP takes from its base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.datasets.store import DatasetStore
from app.retraining.training_requests import recipe_of
from app.schemas_training import Hyperparameters, TrainingRequest
from conftest import ROOT
from models.recipe import Recipe
from models.registry import Registry
from tiny_training import write_data


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_data(home / "uploaded", count=8, px=400)
    return home


def recipe(home: Path, base: str | None, **objective: Any) -> Recipe:
    """The recipe of an upscaler from one that ships."""
    dataset, _ = DatasetStore(home).add(home / "uploaded" / "warm", "photos", "highres")
    request = TrainingRequest(
        family="srgan",
        dataset=dataset.id,
        name="mine",
        base=base,
        steps=1,
        hyperparameters=Hyperparameters(objective=objective),
    )
    return recipe_of(request, DatasetStore(home), Registry(home, ROOT / "models" / "weights"))


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
