"""Test pictures and what a model makes of them, to judge by eye what figures do not tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models import images
from models.checkpoint import LoadedGenerator
from models.errors import InvalidRecipe
from models.evaluation.colour_protocols import grey_of
from models.evaluation.data import (
    ColoursTest,
    PairedTest,
    StylizeTest,
    UnpairedTest,
    UpscaleTest,
    direction_of,
    held_out_pairs,
    parse_test,
    pictures_of,
    recipe_of,
    upscale_test_pictures,
)
from models.evaluation.faces import FaceRunner
from models.evaluation.figures import answerer
from models.faces.samples import held_out
from models.families.anonymizer.conditions import Asked
from models.family import Task
from models.images import Pixels
from models.pictures import Pictures, rgb_of
from models.recipe import ColoursData, ContentData, FacesData, PairedData, UnpairedData

_CELL_PX = 160


def sheet(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """Lay rows of equally many pictures out in squares, their middles filling them."""
    lines = [np.concatenate([_square(picture) for picture in row], axis=1) for row in rows]
    return np.concatenate(lines)


def samples(
    loaded: LoadedGenerator, data_root: Path, count: int, device: torch.device
) -> list[list[Pixels]]:
    """Return rows of `count` pictures: from the model's test data, and what it makes of them.

    Of faces, drawn from those that training held out, with passcodes a third row has them restored.
    Raises InvalidRecipe where the card names no test data, InvalidDataset for a missing folder.
    """
    before = _test_pictures(loaded, data_root, count)
    if loaded.family.task is Task.ANONYMIZE:
        return [before, *_faces(FaceRunner(loaded, device), before)]
    answer = answerer(loaded, device)
    return [before, [answer(picture) for picture in before]]


def _test_pictures(loaded: LoadedGenerator, root: Path, count: int) -> list[Pixels]:
    table = loaded.header.card.get("evaluation", {})
    if loaded.family.task is Task.UPSCALE:
        folder = parse_test(UpscaleTest, table).sets[0]
        return upscale_test_pictures(root, folder, loaded.family.scale(loaded.config), count)[0]
    recipe = recipe_of(loaded)
    match recipe.data:
        case ContentData():
            return pictures_of(root, parse_test(StylizeTest, table).photos, count)
        case PairedData():
            paired = parse_test(PairedTest, table)
            pairs = held_out_pairs(recipe.data, paired, root, count)
            return [condition for condition, _ in pairs]
        case UnpairedData():
            test = parse_test(UnpairedTest, table.get(direction_of(loaded, recipe), {}))
            return pictures_of(root, test.source, count)
        case ColoursData():
            photos = pictures_of(root, parse_test(ColoursTest, table).sets[0], count)
            return [grey_of(photo) for photo in photos]
        case FacesData():
            faces = Pictures(root, recipe.data.train)
            kept = held_out(len(faces), recipe.data.held_out)[:count]
            return [rgb_of(faces[index]) for index in kept]
        case _:
            raise InvalidRecipe(f"{recipe.data.kind} data has no test")


def _faces(run: FaceRunner, faces: list[Pixels]) -> list[list[Pixels]]:
    random = np.random.default_rng(0)
    length = run.config.code_length
    if run.config.condition == "surroundings":
        return [[run.paint(face, random.random(length) < 0.5) for face in faces]]
    bits = random.random(length) < 0.5
    new = [run.change(face, bits) for face in faces]
    return [new, [run.change(face, bits, Asked.OLD) for face in new]]


def _square(picture: Pixels) -> Pixels:
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images.resize(picture[top : top + side, left : left + side], _CELL_PX, _CELL_PX)
