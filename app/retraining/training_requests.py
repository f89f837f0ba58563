"""From what a client asks for to a recipe: defaults, the data's tables, the base model's."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from app.callers import Caller
from app.datasets.store import DatasetStore
from app.schemas.training import TrainingRequest
from app.visible import check_visible
from models.blocks import parameter_count
from models.checkpoint import skeleton
from models.errors import InvalidRecipe, ModelNotFound
from models.families import FAMILIES
from models.family import Config, differences, is_smaller, same_network
from models.recipe import Recipe, parse_recipe
from models.registry import ModelVersion, Registry

# By family, and for colours that pix2pix learns from photos.
# Sized for a machine without a GPU: a result worth a look within an hour on two cores.
_PATCH = {"patch_channels": 32}
DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "pix2pix": {
        "data": {"load_px": 286, "crop_px": 256},
        "generator": {
            "base_channels": 16,
            "norm": "instance_affine",
            "upsampling": "nearest",
            "dropout": 0.0,
            "view_px": 256,
        },
        "objective": _PATCH,
        "training": {"steps": 1500, "batch": 4, "learning_rate": 4e-4, "ema": 0.997},
    },
    "colours": {
        "data": {"load_px": 224, "crop_px": 192},
        "generator": {
            "channels_in": 1,
            "channels_out": 2,
            "base_channels": 32,
            "depth": 6,
            "norm": "instance_affine",
            "dropout": 0.0,
        },
        "objective": _PATCH | {"l1": 30.0},
        "training": {"steps": 1500, "batch": 4, "learning_rate": 4e-4, "ema": 0.997},
    },
    "cyclegan": {
        "data": {"load_px": 143, "crop_px": 128},
        "generator": {"base_channels": 32, "blocks": 6, "upsampling": "nearest", "view_px": 256},
        "objective": _PATCH,
        "training": {"steps": 2000, "batch": 2, "learning_rate": 4e-4, "ema": 0.995},
    },
    "srgan": {
        "data": {"crop_px": 96},
        "generator": {"architecture": "msrresnet", "batch_norm": False},
        "objective": {"pixel": "mae"},
        "training": {
            "steps": 2000,
            "batch": 16,
            "learning_rate": 4e-4,
            "betas": [0.9, 0.99],
            "schedule": "cosine",
            "ema": 0.998,
            "channels_last": True,
        },
    },
    "style": {
        "data": {"load_px": 240, "crop_px": 128, "style_px": 512},
        "generator": {"base_channels": 16},
        "objective": {},
        "training": {
            "steps": 3000,
            "batch": 1,
            "optimizer": "muon",
            "learning_rate": 1e-3,
            "betas": [0.9, 0.999],
            "schedule": "cosine",
        },
    },
}
# The kinds of datasets that hold a recipe's kinds of data, where they are called otherwise.
_HOLDING = {"colours": "highres", "content": "style"}
# pix2pix has one generator, whose direction is a matter of the data.
_KEYS = {"pix2pix": "AtoB", "srgan": "upscale", "style": "stylize"}
_DATA_KEYS = {"load_px", "max_load_px", "crop_px", "min_factor", "flip", "style_px"}
_MAX_WEIGHTS = 250_000_000  # the largest published network of these families has 54 million
_OF_BASE = "of the base: "  # said once, however many trainings went on from it
_STAGED_CARD = ("stage", "regression_model")
_FINE_TUNING = (
    0.1  # of the family's learning rate, so that a base model is not shaken off its place
)
_REPORTS = {"log_every": 10, "sample_every": 100, "checkpoint_every": 100}


def recipe_of(
    request: TrainingRequest,
    datasets: DatasetStore,
    registry: Registry,
    caller: Caller,
) -> Recipe:
    """Return the recipe that a request means, with provisional `steps` if it gives minutes.

    Raises:
        InvalidRecipe: naming each key that is wrong.
        DatasetNotFound, ModelNotFound: there is no such dataset or base model.
    """
    dataset = datasets.get(request.dataset, caller)
    learned = FAMILIES[request.family].load_objective().data_kinds
    kinds = [_HOLDING.get(kind, kind) for kind in learned]
    if dataset.kind not in kinds:
        raise InvalidRecipe(
            f"data.kind: {request.family} trains on {' or '.join(kinds)} datasets, "
            f"not on {dataset.kind} ones"
        )
    data, evaluation = dataset.recipe_tables(request.family, request.direction)
    if request.base:
        check_visible(registry, request.base.partition("@")[0], caller)
    base = registry.resolve(request.base) if request.base else None
    if base and base.header.family != request.family:
        raise InvalidRecipe(f"base: {request.base} is of the family {base.header.family}")
    asked = request.hyperparameters
    if wrong := sorted(set(asked.data) - _DATA_KEYS):  # above all no folders of the client's choice
        named = ", ".join(f"data.{key}" for key in wrong)
        known = ", ".join(sorted(_DATA_KEYS))
        raise InvalidRecipe(f"{named}: only {known} can be asked for; the dataset says the rest")
    if "steps" in asked.training:
        raise InvalidRecipe("training.steps: give steps or minutes beside the hyperparameters")
    if "workers" in asked.training:  # a limit of memory is that of one process
        raise InvalidRecipe("training.workers: the worker loads pictures itself")
    defaults = DEFAULTS["colours" if data["kind"] == "colours" else request.family]
    stage, staged_card = _stage(asked.objective, base, request.name)
    training = defaults["training"] | _REPORTS | asked.training
    if base and "learning_rate" not in asked.training:
        training["learning_rate"] *= _FINE_TUNING
    if request.steps is not None:
        training["steps"] = request.steps
    recipe = parse_recipe(
        {
            "family": request.family,
            "seed": request.seed,
            "models": _names(request),
            "initial": _initial(request, base, registry, caller) if base else {},
            "data": defaults["data"] | data | asked.data,
            "generator": (base.header.generator if base else defaults["generator"])
            | asked.generator,
            "objective": defaults["objective"] | stage | asked.objective,
            "training": training,
            "card": {"evaluation": evaluation} | staged_card | _origin(base),
        }
    )
    if recipe.objective.get("frozen") == model_key(request):
        raise InvalidRecipe("objective.frozen: this is the direction that is to be trained")
    weights = parameter_count(skeleton(FAMILIES[recipe.family], recipe.generator_config()))
    if weights > _MAX_WEIGHTS:
        raise InvalidRecipe(f"generator: {weights:,} weights; at most {_MAX_WEIGHTS:,}")
    if base and (differing := differences(recipe.generator_config(), _config_of(base))):
        keys = ", ".join(differing)
        raise InvalidRecipe(f"generator: {keys} must be as in the base model {request.base}")
    return recipe


def model_key(request: TrainingRequest) -> str:
    """Return the recipe's key of the generator that is to be published."""
    return _KEYS.get(request.family, request.direction)


def _names(request: TrainingRequest) -> dict[str, str]:
    """Both generators of a CycleGAN are trained, but only the one asked for is published."""
    names = {model_key(request): request.name}
    if request.family == "cyclegan":
        suffix = "-there" if request.name.endswith("-back") else "-back"  # never the name itself
        names[_opposite(request)] = request.name[:56] + suffix
    return names


def _initial(
    request: TrainingRequest, base: ModelVersion, registry: Registry, caller: Caller
) -> dict[str, str]:
    """The base model, and for the opposite direction the one that was trained with it.

    Where there is none that fits, that begins as the base too: what either direction must learn is
    small beside what both have to know, how a picture comes back.
    """
    itself = f"{base.name}@{base.version}"
    initial = {model_key(request): itself}
    if request.family == "cyclegan":
        initial[_opposite(request)] = itself
        together = base.header.card.get("recipe", {}).get("models", {})
        partner = next((name for name in together.values() if name != base.header.name), None)
        with contextlib.suppress(ModelNotFound):
            if partner:
                found = registry.resolve(partner)
                configs = _config_of(found), _config_of(base)
                fits = same_network(*configs) or is_smaller(*configs, "base_channels")
                if fits and caller.may_use(found.owner):
                    initial[_opposite(request)] = f"{found.name}@{found.version}"
    return initial


def _stage(
    asked: Mapping[str, Any], base: ModelVersion | None, name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an upscaler's training takes from its base to be of its stage: objective and card.

    An adversarial one stays adversarial, and the counterpart of what it came from, so that `detail`
    goes on leading from the one to the other.
    """
    if base is None:
        return {}, {}
    card, was = base.header.card, base.header.stage
    if asked.get("stage", was) != "adversarial":
        return {}, {}
    if was != "adversarial":
        if base.name == name:  # `detail` leads from the one to the other
            raise InvalidRecipe("name: an adversarial upscaler needs another one than its base has")
        return {}, {"stage": "adversarial", "regression_model": base.name}
    objective = {"stage": was} | card.get("recipe", {}).get("objective", {})
    return objective, {key: card[key] for key in _STAGED_CARD if key in card}


def _origin(base: ModelVersion | None) -> dict[str, str]:
    """What a card says of the weights that a training begins with, whose terms stay."""
    card = base.header.card if base else {}
    kept = [key for key in ("data", "licence") if card.get(key)]
    return {key: _OF_BASE + str(card[key]).removeprefix(_OF_BASE) for key in kept}


def _opposite(request: TrainingRequest) -> str:
    return "BtoA" if request.direction == "AtoB" else "AtoB"


def _config_of(version: ModelVersion) -> Config:
    return FAMILIES[version.header.family].generator_config(**version.header.generator)
