"""`evaluate`: a model's figures on the test data that its card names.

Answers are computed in float32, one whole picture at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch

from models.checkpoint import LoadedGenerator
from models.data import style_image
from models.errors import InvalidRecipe
from models.evaluation import metrics
from models.evaluation.colour_protocols import colour_table, mean_chroma_of
from models.evaluation.data import (
    ColoursTest,
    FacesTest,
    PairedTest,
    StylizeTest,
    UnpairedTest,
    UpscaleTest,
    direction_of,
    held_out_pairs,
    pairs_of,
    parse_test,
    pictures_of,
    recipe_of,
    reduction,
    upscale_test_pictures,
    with_short_side,
)
from models.evaluation.faces import face_tables
from models.evaluation.protocols import (
    Answer,
    Table,
    mean_colours,
    paired_table,
    row_of,
    stylize_table,
    unpaired_table,
    upscale_table,
)
from models.families.style.objective import PerceptualTerms, StyleConfig
from models.family import Task, without_margins
from models.features import load_vgg16
from models.images import Pixels
from models.recipe import ColoursData, ContentData, FacesData, PairedData, UnpairedData
from models.views import view_of


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
    before_each: Callable[[], None] = lambda: None,
) -> list[Table]:
    """Measure a model on the test data that the [evaluation] table of its card names.

    Args:
        loaded: the model; moved to `device`, as are `rivals`.
        data_root: what the card's paths are relative to.
        features: VGG16 weights for a model whose recipe names none; None takes torchvision's,
            except that upscalers then go without the perceptual figure, unless it decides.
        limit: use at most this many pictures of a folder, evenly spaced in the order of names.
        steps: steps of direct optimisation that a style is compared with.
        device: where to run; None is the CPU.
        rivals: other models for the same task, measured on the same pictures, by the name of
            their row.
        brief: only the figures that decide in `models.evaluation.gate`: of pairs no kernel
            distance, of styles no direct optimisation.
        before_each: called before every answer; may raise to stop.

    Raises:
        InvalidRecipe: the card does not say how to evaluate.
        InvalidDataset: a folder is missing or holds too little.
        MissingFeatures: no VGG16 weights are at hand.
    """
    device = device or torch.device("cpu")
    if named := (loaded.header.card.get("recipe") or {}).get("features"):
        features = data_root / named
    name = row_of(loaded.header.name)
    table = loaded.header.card.get("evaluation", {})
    contenders = {name: loaded, **(rivals or {})}
    answers = {
        row: _after(before_each, answerer(contender, device))
        for row, contender in contenders.items()
    }
    if loaded.family.task is Task.UPSCALE:
        upscale = parse_test(UpscaleTest, table)
        scale = loaded.family.scale(loaded.config)
        decides = brief and loaded.header.stage == "adversarial"
        perceptual = (
            load_vgg16(metrics.PERCEPTUAL_LAYERS, features).to(device)
            if features or decides
            else None
        )
        return [
            upscale_table(
                answers,
                folder,
                *upscale_test_pictures(data_root, folder, scale, limit, upscale.middle_px),
                perceptual,
                reduction(data_root, folder, scale, upscale.middle_px),
            )
            for folder in upscale.sets
        ]
    recipe = recipe_of(loaded)
    match recipe.data:
        case ContentData():
            content = parse_test(StylizeTest, table)
            count = min(limit or content.limit, content.limit)
            photos = pictures_of(data_root, content.photos, count)
            title = content.photos
            if content.side_px:
                photos = [with_short_side(photo, content.side_px) for photo in photos]
                title += f", short side {content.side_px} px"
            style = style_image(recipe.data, data_root)
            config = cast(StyleConfig, recipe.objective_config())
            terms = PerceptualTerms.load(config, style, features).to(device)
            steps = 0 if brief else steps
            return [stylize_table(answers, title, photos, terms, steps, content.starts)]
        case PairedData():
            paired = parse_test(PairedTest, table)
            pairs = held_out_pairs(recipe.data, paired, data_root, limit)
            colours = mean_colours(pairs_of(recipe.data, data_root, None))
            network = None if brief else load_vgg16((metrics.KID_LAYER,), features).to(device)
            return [paired_table(answers, paired.test, list(pairs), colours, network)]
        case UnpairedData():
            unpaired = parse_test(UnpairedTest, table.get(direction_of(loaded, recipe), {}))
            source = pictures_of(data_root, unpaired.source, limit)
            target = pictures_of(data_root, unpaired.target, limit)
            reference = pictures_of(data_root, unpaired.reference, len(target))
            network = load_vgg16((metrics.KID_LAYER,), features).to(device)
            title = f"{unpaired.source} to {unpaired.target}"
            return [unpaired_table(answers, title, source, target, reference, network)]
        case ColoursData():
            colours_test = parse_test(ColoursTest, table)
            seen = (
                photo
                for folder in recipe.data.train
                for photo in pictures_of(data_root, folder, None)
            )
            mean_chroma = mean_chroma_of(seen)
            return [
                colour_table(answers, folder, pictures_of(data_root, folder, limit), mean_chroma)
                for folder in colours_test.sets
            ]
        case FacesData():
            test = parse_test(FacesTest, table)
            return face_tables(loaded, data_root, recipe.data, test, limit, device)
        case _:
            raise InvalidRecipe(f"{name} was trained on {recipe.data.kind} data, which has no test")


def _after(before_each: Callable[[], None], answer: Answer) -> Answer:
    def answer_after(picture: Pixels) -> Pixels:
        before_each()
        return answer(picture)

    return answer_after


def answerer(loaded: LoadedGenerator, device: torch.device) -> Answer:
    """Run the model on one picture of any size, mirrored at right and bottom to fit its rule."""
    module = loaded.module.to(device)
    rule = loaded.family.size_rule(loaded.config)
    scale = loaded.family.scale(loaded.config)
    view = view_of(loaded.config)

    @torch.no_grad()
    def answer(picture: Pixels) -> Pixels:
        seen = view.look(picture)
        output = module(view.to_tensor(rule.pad(seen))[None].to(device))[0].cpu()
        return view.to_rgb(without_margins(output, seen, scale), seen, picture)

    return answer
