"""A recipe: everything that determines one training, read from a TOML file."""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from models.card import check_card
from models.checkpoint import NAME_PATTERN
from models.errors import InvalidRecipe
from models.families import FAMILIES
from models.family import Config, channels
from models.faults import faults_of

_Decay = Annotated[float, Field(ge=0, lt=1)]


class CroppedData(Config):
    """Base of the kinds whose samples are crops of resized pictures.

    Attributes:
        load_px: the short side after resizing.
        max_load_px: the short side is drawn from `load_px` to this, so that things come in more
            sizes than the pictures have.
    """

    load_px: int = Field(286, ge=8, le=4096)
    max_load_px: int | None = Field(None, ge=8, le=4096)
    crop_px: int = Field(256, ge=8, le=4096)
    flip: bool = True

    @model_validator(mode="after")
    def _check_range(self) -> CroppedData:
        least_px = max(self.load_px, self.crop_px)
        if self.max_load_px is not None and self.max_load_px < least_px:
            raise ValueError(f"max_load_px must be at least load_px and crop_px, here {least_px}")
        return self


class PairedData(CroppedData):
    """Aligned pairs: side by side in one picture, A left, or of equal names in two folders."""

    kind: Literal["paired"]
    train: tuple[str, ...]
    targets: tuple[str, ...] = ()
    direction: Literal["AtoB", "BtoA"] = "AtoB"


class UnpairedData(CroppedData):
    """Two folders without correspondence."""

    kind: Literal["unpaired"]
    a: tuple[str, ...]
    b: tuple[str, ...]


class HighResolutionData(Config):
    """Photos; the low resolution is made from crops by antialiased bicubic reduction.

    Attributes:
        min_factor: photos are first reduced by a random factor between this and 1, which makes them
            sharper and more of them (Lai et al. 2017, section 3.3).
    """

    kind: Literal["highres"]
    train: tuple[str, ...]
    crop_px: int = Field(96, ge=8, le=4096)
    min_factor: float = Field(1.0, gt=0, le=1)
    flip: bool = True


class ContentData(CroppedData):
    """Photos to be painted, and the one image that says how."""

    kind: Literal["content"]
    train: tuple[str, ...]
    style: str
    style_px: int = Field(512, ge=32, le=4096)


class ColoursData(CroppedData):
    """Photos: their lightness, "a", and the chroma it lacks, "b"."""

    kind: Literal["colours"]
    train: tuple[str, ...]
    load_px: int = Field(224, ge=8, le=4096)
    crop_px: int = Field(192, ge=8, le=4096)


class FacesData(Config):
    """Aligned faces, one a picture, with the eyes where `models.faces.alignment` puts them.

    Attributes:
        held_out: every n-th picture, by name, is left for the evaluation; 0 trains on all.
        landmarks: whether samples bring the five landmarks, as MTCNN finds them.
        grey: share of the samples without colour.
        coarse: share of the samples with the detail of a picture up to four times as small.
        retoned: share of the samples with skin of another tone, in another light.
        bordered: share of the samples seen as at the borders of a picture that ends near the face.
        portraits: photos of people, whose faces are found and cut out; `held_out` counts here, too.
        portrait_share: share of the samples that come from them.
    """

    kind: Literal["faces"]
    train: tuple[str, ...]
    portraits: tuple[str, ...] = ()
    portrait_share: float = Field(0.3, gt=0, le=1)
    held_out: int = Field(20, ge=0)
    landmarks: bool = False
    grey: float = Field(0.0, ge=0, le=1)
    coarse: float = Field(0.0, ge=0, le=1)
    retoned: float = Field(0.0, ge=0, le=1)
    bordered: float = Field(0.0, ge=0, le=1)
    crop_px: Literal[128] = 128
    flip: bool = True


Data = Annotated[
    PairedData | UnpairedData | HighResolutionData | ContentData | ColoursData | FacesData,
    Field(discriminator="kind"),
]


class TrainingConfig(Config):
    """The loop's own settings.

    Attributes:
        optimizer: of the generators; "muon" learns from fewer steps where nothing
            is adversarial. Discriminators always have Adam.
        precision: "auto" is bf16 where the device multiplies it natively (CUDA, AMX).
        schedule: "constant", "linear" (constant for half the steps, then linearly to zero) or
            "cosine" (to zero).
        ema: decay of the moving average of the generators' weights, which is what is published;
            0 publishes the last weights.
        channels_last: faster for networks without normalisation, slower with InstanceNorm on CPUs.
        compile: run the networks through torch.compile; not in bf16 on CPUs (see docs/recipes.md).
        workers: processes that load data; 0 loads in the training process.
    """

    steps: int = Field(ge=1)
    batch: int = Field(1, ge=1, le=65_536)
    optimizer: Literal["adam", "muon"] = "adam"
    learning_rate: float = Field(2e-4, gt=0, lt=1)
    discriminator_learning_rate: float | None = Field(None, gt=0, lt=1)
    betas: tuple[_Decay, _Decay] = (0.5, 0.999)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup_steps: int = Field(0, ge=0)
    ema: float = Field(0.999, ge=0, lt=1)
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    channels_last: bool = False
    compile: bool = False
    workers: int = Field(0, ge=0, le=64)
    log_every: int = Field(20, ge=1)
    sample_every: int = Field(500, ge=1)
    checkpoint_every: int = Field(500, ge=1)


class Recipe(Config):
    """One training.

    Attributes:
        models: the name each generator of the objective is published under, by its key there
            ("AtoB", "BtoA", "upscale", "stylize", "identity", "surroundings").
        initial: names of models whose weights the generators start from, by the same keys.
        features: VGG16 weights, for faces MobileFaceNet's, relative to the data root; None leaves
            it to the settings.
        card: facts for the model card: data, licence, regression_model, ...
    """

    family: str
    seed: int = Field(0, ge=0, lt=2**23)
    models: dict[str, Annotated[str, Field(pattern=NAME_PATTERN)]]
    initial: dict[str, str] = {}
    features: str | None = None
    data: Data
    generator: dict[str, Any] = {}
    objective: dict[str, Any] = {}
    training: TrainingConfig
    card: Annotated[dict[str, Any], AfterValidator(check_card)] = {}

    @model_validator(mode="after")
    def _check_family(self) -> Recipe:
        if self.family not in FAMILIES:
            raise ValueError(f"no family is called {self.family!r}; there are {sorted(FAMILIES)}")
        checks = {"generator": self.generator_config, "objective": self.objective_config}
        wrong = [fault for table, check in checks.items() for fault in _faults_in(check, table)]
        kinds = self.objective_type().data_kinds
        if self.data.kind not in kinds:
            wanted = " or ".join(kinds)
            wrong.append(
                f"data.kind: {self.family} trains on {wanted} data, not on {self.data.kind}"
            )
        if len(set(self.models.values())) < len(self.models):
            wrong.append("models: two generators would be published by one name")
        if wrong:
            raise ValueError("; ".join(wrong))
        self._check_channels()
        self._check_crop()
        self.objective_type().check(
            self.generator_config(), self.objective_config(), self.data, self.initial
        )
        return self

    def _check_channels(self) -> None:
        wanted = (1, 2) if isinstance(self.data, ColoursData) else (3, 3)
        if self.family in ("pix2pix", "cyclegan") and channels(self.generator_config()) != wanted:
            raise ValueError(
                f"generator: {self.data.kind} data take channels_in = {wanted[0]} and "
                f"channels_out = {wanted[1]}"
            )

    def _check_crop(self) -> None:
        family, config = FAMILIES[self.family], self.generator_config()
        rule, crop_px = family.size_rule(config), self.data.crop_px
        scale = family.scale(config) if isinstance(self.data, HighResolutionData) else 1
        side = crop_px // scale
        judged_px = getattr(self.objective_config(), "smallest_px", 1)
        if crop_px % scale or rule.padded(side, side) != (side, side) or crop_px < judged_px:
            raise ValueError(
                f"data.crop_px: must be a multiple of {rule.multiple_of * scale}, "
                f"at least {max(rule.minimum * scale, judged_px)}, for these networks"
            )

    def generator_config(self) -> Config:
        """The family's generator hyperparameters."""
        return FAMILIES[self.family].generator_config(**self.generator)

    def objective_type(self) -> Any:
        """The family's objective class."""
        return FAMILIES[self.family].load_objective()

    def objective_config(self) -> Config:
        """The family's objective hyperparameters."""
        config: Config = self.objective_type().config_type(**self.objective)
        return config


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe; each change replaces one key, as in "training.steps=100".

    Raises InvalidRecipe naming every key that is wrong.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"cannot read the recipe {path}: {error}") from error
    for change in changes:  # in turn: an empty table empties the one before it
        _merge(table, _parse_change(change))
    return parse_recipe(table)


def parse_changes(changes: Sequence[str]) -> dict[str, Any]:
    """Return the table that lines like "training.steps=100" mean; raises InvalidRecipe."""
    table: dict[str, Any] = {}
    for change in changes:
        _merge(table, _parse_change(change))
    return table


def _parse_change(change: str) -> dict[str, Any]:
    name, equals, value = change.partition("=")
    if not equals:
        raise InvalidRecipe(f"{change!r} is not of the form table.key=value")
    try:
        return tomllib.loads(change)
    except ValueError:  # a bare word: a string without its quotes
        with contextlib.suppress(ValueError):
            return tomllib.loads(f"{name}={json.dumps(value)}")
    raise InvalidRecipe(f"{change!r} is not of the form table.key=value")


def _merge(table: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if value and isinstance(value, dict) and isinstance(table.get(key), dict):
            _merge(table[key], value)
        else:
            table[key] = value


def parse_recipe(table: dict[str, Any]) -> Recipe:
    """Check a recipe given as a table; raises InvalidRecipe naming every key that is wrong."""
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        data = table.get("data")
        kind = data.get("kind") if isinstance(data, dict) else None
        # Of pydantic's path the kind is a part, of the recipe's it is none.
        faults = [fault.replace(f"data.{kind}.", "data.") for fault in faults_of(error)]
        raise InvalidRecipe("; ".join(faults), faults) from error


def _faults_in(check: Callable[[], Any], table: str) -> list[str]:
    try:
        check()
    except ValidationError as error:
        return faults_of(error, table)
    return []
