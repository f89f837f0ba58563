"""What a training begins with: an objective, others' weights, or a state of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models.checkpoint import load_generator
from models.data import style_image
from models.errors import InvalidRecipe
from models.family import differences
from models.objective import Objective
from models.recipe import ContentData, Recipe

_FIXED = ("family", "generator", "objective", "seed", "initial")
_FIXED_TRAINING = ("optimizer", "betas")


def build_objective(recipe: Recipe, data_root: Path, features: Path | None) -> Objective:
    """Return a recipe's objective as it is before the first step; the arguments are `train`'s.

    Raises InvalidRecipe, InvalidDataset, MissingFeatures.
    """
    named = data_root / recipe.features if recipe.features else features
    style = style_image(recipe.data, data_root) if isinstance(recipe.data, ContentData) else None
    objective: Objective = recipe.objective_type().build(
        recipe.generator_config(), recipe.objective_config(), named, style
    )
    if set(recipe.models) != set(objective.generators):
        raise InvalidRecipe(f"[models] must name {', '.join(objective.generators)}")
    if not any(objective.weights.values()):
        raise InvalidRecipe(f"[objective] all of {', '.join(objective.weights)} weigh nothing")
    return objective


def start_from(recipe: Recipe, objective: Objective, find_model: Callable[[str], Path]) -> None:
    """Give an objective's generators the weights that a recipe's [initial] table names.

    Raises InvalidRecipe for those of another network, unless the objective can adopt them, and
    what `find_model` and `load_generator` raise.
    """
    for key, source in recipe.initial.items():
        if key not in objective.generators:
            raise InvalidRecipe(f"[initial] names {key}, which is none of the generators")
        loaded = load_generator(find_model(source))
        weights = loaded.module.state_dict()
        differing = differences(loaded.config, recipe.generator_config())
        if not differing:
            objective.generators[key].load_state_dict(weights)
        elif not objective.adopt(key, loaded.config, weights):
            raise InvalidRecipe(
                f"[initial] {source} does not fit: it has another {', '.join(differing)}"
            )


def check_same_training(recipe: Recipe, kept: Mapping[str, Any]) -> None:
    """Raise InvalidRecipe where a state's recipe is not this one, but for what may change."""
    mine = recipe.model_dump(mode="json")
    changed = [key for key in _FIXED if kept[key] != mine[key]]
    changed += [
        key for key in _FIXED_TRAINING if kept["training"].get(key) != mine["training"][key]
    ]
    changed += [  # crops may be others, but not what they are of
        f"data.{key}"
        for key, value in mine["data"].items()
        if isinstance(value, str | list) and kept["data"].get(key, value) != value
    ]
    if changed:
        another = ", ".join(changed)
        raise InvalidRecipe(f"a training with another {another} is in the folder: name another")
