"""The pictures that models are measured on: what a card's [evaluation] table says of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError
from torch import Tensor
from torchvision.transforms.functional import center_crop

from models import images
from models.checkpoint import LoadedGenerator
from models.data import PairedSamples, equally_named
from models.errors import InvalidDataset, InvalidRecipe
from models.evaluation.protocols import Pair
from models.families.style.gatys import Start
from models.family import Config
from models.faults import faults_of
from models.images import Pixels
from models.pictures import Pictures, evenly_spaced, reduced, rgb_of
from models.recipe import PairedData, Recipe, parse_recipe


class UpscaleTest(Config):
    """[card.evaluation] of an upscaler: folders of photos, or that hold HR and LRbicx2 or LRbicx4.

    Photos are cropped to a multiple of the scale and reduced as in training; with `middle_px`, only
    the middle of those is taken that are larger.
    """

    sets: tuple[str, ...] = ("sr_bench/Set5", "sr_bench/Set14")
    middle_px: int | None = Field(None, ge=32)


class PairedTest(Config):
    """[card.evaluation] of a paired translation: a folder laid out as the training's."""

    test: str
    targets: tuple[str, ...] = ()


class UnpairedTest(Config):
    """[card.evaluation.AtoB] or [card.evaluation.BtoA] of an unpaired translation.

    Attributes:
        source: pictures to be translated.
        target: real pictures of the other domain.
        reference: further real pictures of it, for the distance of real ones to real ones.
    """

    source: str
    target: str
    reference: str


class StylizeTest(Config):
    """[card.evaluation] of a style.

    Attributes:
        photos: a folder.
        limit: how many of them are painted.
        side_px: their short side is brought to this, for a yardstick that is quick enough;
            None leaves them as they are.
        starts: of the direct optimisation; the paper's is noise, the photo gets further in as many
            steps where the content weighs much.
    """

    photos: str
    limit: int = Field(20, ge=1)
    side_px: int | None = Field(None, ge=32)
    starts: tuple[Start, ...] = ("noise",)


class ColoursTest(Config):
    """[card.evaluation] of a colorizer: folders of photos."""

    sets: tuple[str, ...]


class FacesTest(Config):
    """[card.evaluation] of an anonymizer, beside the faces its training held out.

    Attributes:
        people: photos named PERSON_NUMBER, several of each person.
        portraits: photos of people of all skins; a recipe that trains on them holds every
            `portraits_every`-th out, which is judged.
    """

    people: str
    portraits: str | None = None
    portraits_every: int = Field(5, ge=1)


_Test = TypeVar("_Test", bound=Config)


def parse_test(kind: type[_Test], table: dict[str, Any]) -> _Test:
    """Check an [evaluation] table; raises InvalidRecipe saying what is wrong with it."""
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        wrong = "; ".join(faults_of(error))
        raise InvalidRecipe(f"the card's [evaluation] table: {wrong}") from error


_TESTS: dict[str, type[Config]] = {
    "highres": UpscaleTest,
    "paired": PairedTest,
    "unpaired": UnpairedTest,
    "content": StylizeTest,
    "colours": ColoursTest,
    "faces": FacesTest,
}


def check_evaluation(recipe: Recipe) -> None:
    """Raise InvalidRecipe for a [card.evaluation] table that nothing could be measured by."""
    table = recipe.card.get("evaluation")
    if not table:
        return
    kind = recipe.data.kind
    if isinstance(recipe.data, PairedData):
        _check_halves(recipe.data, parse_test(PairedTest, table))
    if unknown := sorted(table.keys() - recipe.models.keys()) if kind == "unpaired" else ():
        raise InvalidRecipe(f"[card.evaluation] {', '.join(unknown)}: there is no such generator")
    for part in table.values() if kind == "unpaired" else [table]:
        parse_test(_TESTS[kind], part)


def upscale_test_pictures(
    root: Path, folder: str, scale: int, limit: int | None = None, middle_px: int | None = None
) -> tuple[list[Pixels], list[Pixels]]:
    """Return the reduced pictures of a super-resolution test set and the originals.

    Those of one name belong together, whether or not the reduced one's ends in x4 for a scale of 4.
    A folder that has no folder HR holds photos, which are cropped to a multiple of `scale`, or to
    their middle, and reduced here. Raises InvalidDataset for two that do not belong together.
    """
    low, high = [], []
    if _has_reduced(root, folder):
        lows, highs = (Pictures(root, [f"{folder}/{name}"]) for name in (f"LRbicx{scale}", "HR"))
        pairs = equally_named(highs.paths, lows.paths, ending=f"x{scale}")
        for i, j in (pairs[index] for index in evenly_spaced(len(pairs), limit)):
            low.append(rgb_of(lows[j]))
            high.append(_enlarged_part(rgb_of(highs[i]), low[-1], scale, highs.paths[i].name))
        return low, high
    for picture in _tensors(root, folder, limit):
        sides = [min(side, middle_px or side) for side in picture.shape[1:]]
        height, width = (side // scale * scale for side in sides)
        cropped = center_crop(picture, sides)[:, :height, :width]
        high.append(rgb_of(cropped))
        low.append(rgb_of(reduced(cropped, scale)))
    return low, high


def _enlarged_part(high: Pixels, low: Pixels, scale: int, name: str) -> Pixels:
    """Cut off what of an original has no whole pixel in the reduced picture."""
    height, width = (scale * side for side in low.shape[:2])
    if not (0 <= high.shape[0] - height < scale and 0 <= high.shape[1] - width < scale):
        raise InvalidDataset(f"{name} and its reduced picture are not {scale} to 1 in size")
    return high[:height, :width]


def _has_reduced(root: Path, folder: str) -> bool:
    return (root / folder / "HR").is_dir()


def reduction(root: Path, folder: str, scale: int, middle_px: int | None = None) -> str:
    """Say where the small pictures of an upscaler's test come from."""
    if _has_reduced(root, folder):
        return ""
    middle = f"the middle {middle_px} px of " if middle_px else ""
    return (
        f"{middle}photos cropped at right and bottom to a multiple of {scale} and reduced to 8 "
        "bits as in training (torchvision bicubic, antialiased)"
    )


def pictures_of(root: Path, folder: str, limit: int | None) -> list[Pixels]:
    """Return at most `limit` pictures of a folder, evenly spaced in the order of their names."""
    return [rgb_of(picture) for picture in _tensors(root, folder, limit)]


def _tensors(root: Path, folder: str, limit: int | None) -> Iterator[Tensor]:
    pictures = Pictures(root, [folder], limit=limit)
    return (pictures[index] for index in range(len(pictures)))


def with_short_side(photo: Pixels, side_px: int) -> Pixels:
    """Bring the short side of a picture to `side_px`."""
    height, width = photo.shape[:2]
    factor = side_px / min(height, width)
    return images.resize(photo, round(height * factor), round(width * factor))


def pairs_of(data: PairedData, root: Path, limit: int | None) -> Iterator[Pair]:
    """Yield at most `limit` conditions and their targets, evenly spaced in the order of names."""
    samples = PairedSamples(data, root, seed=0)
    for index in evenly_spaced(samples.pair_count, limit):
        condition, target = samples.pair(index)
        yield rgb_of(condition), rgb_of(target)


def held_out_pairs(
    data: PairedData, test: PairedTest, root: Path, limit: int | None
) -> Iterator[Pair]:
    """Return the pairs of a test, read as the training's `data` is."""
    _check_halves(data, test)
    folders = {"train": (test.test,), "targets": test.targets}
    return pairs_of(data.model_copy(update=folders), root, limit)


def _check_halves(data: PairedData, test: PairedTest) -> None:
    """Raise InvalidRecipe where only one of the two has its targets in a folder of their own."""
    if bool(data.targets) != bool(test.targets):
        raise InvalidRecipe(
            "[card.evaluation] targets: the test's pairs are laid out as the training's"
        )


def recipe_of(loaded: LoadedGenerator) -> Recipe:
    """Return the recipe in a model's card; raises InvalidRecipe if there is none."""
    recipe = loaded.header.card.get("recipe")
    if recipe is None:
        raise InvalidRecipe(f"the card of {loaded.header.name} names no recipe, so no test data")
    return parse_recipe(recipe)


def direction_of(loaded: LoadedGenerator, recipe: Recipe) -> str:
    """Return which of an unpaired recipe's two generators a model is, "AtoB" or "BtoA".

    Raises InvalidRecipe if it is neither, as a file that was only given another name.
    """
    name = loaded.header.name
    for key, model in recipe.models.items():
        if model == name:
            return key
    raise InvalidRecipe(
        f"the recipe in the card of {name} makes {', '.join(recipe.models.values())}"
    )
