"""`evaluate`: a model's figures on the test data that its card names.

Answers are computed in float32, one whole picture at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from models import images, metrics
from models.checkpoint import LoadedGenerator
from models.data import PairedSamples, style_image
from models.errors import InvalidRecipe
from models.face_evaluation import face_tables
from models.families.style.gatys import Start
from models.families.style.objective import PerceptualTerms, StyleConfig
from models.family import Config, Task
from models.features import load_vgg16
from models.images import Pixels
from models.pictures import Pictures, reduced, rgb_of
from models.protocols import (
    Answer,
    Pair,
    Table,
    mean_colours,
    paired_table,
    stylize_table,
    unpaired_table,
    upscale_table,
)
from models.recipe import ContentData, FacesData, PairedData, Recipe, UnpairedData, parse_recipe


class UpscaleTest(Config):
    """[card.evaluation] of an upscaler: folders of photos, or that hold HR and LRbicx2 or LRbicx4.

    Photos are cropped to a multiple of the scale and reduced as in training.
    """

    sets: tuple[str, ...] = ("sr_bench/Set5", "sr_bench/Set14")


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


class FacesTest(Config):
    """[card.evaluation] of an anonymizer, beside the faces its training held out.

    Attributes:
        people: photos named PERSON_NUMBER, several of each person.
    """

    people: str


def evaluate(
    loaded: LoadedGenerator,
    data_root: Path,
    *,
    features: Path | None = None,
    limit: int | None = None,
    steps: int = 50,
    device: torch.device | None = None,
    rivals: Mapping[str, LoadedGenerator] | None = None,
    brief: bool = False,
) -> list[Table]:
    """Measure a model on the test data that the [evaluation] table of its card names.

    Args:
        loaded: the model; moved to `device`, as are `rivals`.
        data_root: what the card's paths are relative to.
        features: VGG16 weights; None takes torchvision's, except that upscalers then go without
            the perceptual figure.
        limit: use at most this many pictures of a folder, evenly spaced in the order of names.
        steps: steps of direct optimisation that a style is compared with.
        device: where to run; None is the CPU.
        rivals: other models for the same task, measured on the same pictures, by the name of
            their row.
        brief: only the figures that decide in `models.gate`: of pairs no kernel distance, of
            styles no direct optimisation.

    Raises:
        InvalidRecipe: the card does not say how to evaluate.
        InvalidDataset: a folder is missing or holds too little.
        MissingFeatures: no VGG16 weights are at hand.
    """
    device = device or torch.device("cpu")
    name = loaded.header.name
    table = loaded.header.card.get("evaluation", {})
    contenders = {name: loaded, **(rivals or {})}
    answers = {row: _answerer(contender, device) for row, contender in contenders.items()}
    if loaded.family.task is Task.UPSCALE:
        scale = loaded.family.scale(loaded.config)
        perceptual = (
            load_vgg16(metrics.PERCEPTUAL_LAYERS, features).to(device) if features else None
        )
        return [
            upscale_table(
                answers,
                folder,
                *upscale_test_pictures(data_root, folder, scale, limit),
                perceptual,
                _reduction(data_root, folder, scale),
            )
            for folder in _parse(UpscaleTest, table).sets
        ]
    recipe = _recipe(loaded)
    if recipe.features:
        features = data_root / recipe.features
    match recipe.data:
        case ContentData():
            content = _parse(StylizeTest, table)
            photos = _pictures(data_root, content.photos, limit or content.limit)
            title = content.photos
            if content.side_px:
                photos = [_resized(photo, content.side_px) for photo in photos]
                title += f", short side {content.side_px} px"
            style = style_image(recipe.data, data_root)
            config = cast(StyleConfig, recipe.objective_config())
            terms = PerceptualTerms.load(config, style, features).to(device)
            steps = 0 if brief else steps
            return [stylize_table(answers, title, photos, terms, steps, content.starts)]
        case PairedData():
            paired = _parse(PairedTest, table)
            folders = {"train": (paired.test,), "targets": paired.targets}
            pairs = _pairs(recipe.data.model_copy(update=folders), data_root, limit)
            colours = mean_colours(_pairs(recipe.data, data_root, None))
            network = None if brief else load_vgg16((metrics.KID_LAYER,), features).to(device)
            return [paired_table(answers, paired.test, list(pairs), colours, network)]
        case UnpairedData():
            direction = next((key for key, model in recipe.models.items() if model == name), "AtoB")
            unpaired = _parse(UnpairedTest, table.get(direction, {}))
            source = _pictures(data_root, unpaired.source, limit)
            target = _pictures(data_root, unpaired.target, limit)
            reference = _pictures(data_root, unpaired.reference, len(target))
            network = load_vgg16((metrics.KID_LAYER,), features).to(device)
            title = f"{unpaired.source} to {unpaired.target}"
            return [unpaired_table(answers, title, source, target, reference, network)]
        case FacesData():
            test = _parse(FacesTest, table)
            return face_tables(loaded, data_root, recipe.data, test.people, limit, device)
        case _:
            raise InvalidRecipe(f"{name} was trained on {recipe.data.kind} data, which has no test")


def _answerer(loaded: LoadedGenerator, device: torch.device) -> Answer:
    """Run the model on one picture of any size, mirrored at right and bottom to fit its rule."""
    module = loaded.module.to(device)
    rule = loaded.family.size_rule(loaded.config)
    scale = loaded.family.scale(loaded.config)

    @torch.no_grad()
    def answer(picture: Pixels) -> Pixels:
        height, width = picture.shape[:2]
        output = module(images.to_tensor(rule.pad(picture))[None].to(device))[0]
        return images.to_rgb(output[:, : height * scale, : width * scale])

    return answer


def upscale_test_pictures(
    root: Path, folder: str, scale: int, limit: int | None = None
) -> tuple[list[Pixels], list[Pixels]]:
    """Return the reduced pictures of a super-resolution test set and the originals.

    A folder that has no folder HR holds photos, which are cropped to a multiple of `scale` and
    reduced here.
    """
    if _has_reduced(root, folder):
        low = _pictures(root, f"{folder}/LRbicx{scale}", limit)
        return low, _pictures(root, f"{folder}/HR", limit)
    low, high = [], []
    for picture in _tensors(root, folder, limit):
        height, width = (side // scale * scale for side in picture.shape[1:])
        cropped = picture[:, :height, :width]
        high.append(rgb_of(cropped))
        low.append(rgb_of(reduced(cropped, scale)))
    return low, high


def _has_reduced(root: Path, folder: str) -> bool:
    return (root / folder / "HR").is_dir()


def _reduction(root: Path, folder: str, scale: int) -> str:
    """Say where the small pictures of an upscaler's test come from."""
    if _has_reduced(root, folder):
        return ""
    return (
        f"photos cropped at right and bottom to a multiple of {scale} and reduced to 8 bits as in "
        "training (torchvision bicubic, antialiased)"
    )


def _pictures(root: Path, folder: str, limit: int | None) -> list[Pixels]:
    """Return at most `limit` pictures of a folder, evenly spaced in the order of their names."""
    return [rgb_of(picture) for picture in _tensors(root, folder, limit)]


def _tensors(root: Path, folder: str, limit: int | None) -> Iterator[Tensor]:
    pictures = Pictures(root, [folder])
    return (pictures[index] for index in _spread(len(pictures), limit))


def _resized(photo: Pixels, side_px: int) -> Pixels:
    """Bring the short side of a picture to `side_px`."""
    height, width = photo.shape[:2]
    factor = side_px / min(height, width)
    return images.resize(photo, round(height * factor), round(width * factor))


def _pairs(data: PairedData, root: Path, limit: int | None) -> Iterator[Pair]:
    samples = PairedSamples(data, root, seed=0)
    for index in _spread(samples.pair_count, limit):
        condition, target = samples.pair(index)
        yield rgb_of(condition), rgb_of(target)


def _spread(count: int, limit: int | None) -> list[int]:
    kept = min(count, limit or count)
    return [index * count // kept for index in range(kept)]


def _recipe(loaded: LoadedGenerator) -> Recipe:
    recipe = loaded.header.card.get("recipe")
    if recipe is None:
        raise InvalidRecipe(f"the card of {loaded.header.name} names no recipe, so no test data")
    return parse_recipe(recipe)


_Test = TypeVar("_Test", bound=Config)


def _parse(kind: type[_Test], table: dict[str, Any]) -> _Test:
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise InvalidRecipe(f"the card's [evaluation] table: {wrong}") from error
