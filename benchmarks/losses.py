"""What each loss term does, in docs/losses.md: `python -m benchmarks.losses RUNS DATA VGG16`.

Trains each recipe of recipes/losses that RUNS lacks (about an hour on one CPU core), then measures
all of them on DATA (the folder of docs/data.md) and writes the tables and pictures of the page; its
words stay as they are.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from models import images
from models.checkpoint import LoadedGenerator, load_generator
from models.evaluation.data import PairedTest, held_out_pairs, pictures_of, upscale_test_pictures
from models.evaluation.figures import answerer, evaluate
from models.evaluation.protocols import Answer, Table
from models.families.cyclegan.objective import diversity
from models.images import Pixels
from models.recipe import PairedData, load_recipe

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "losses.md"
_RECIPES = ROOT / "recipes" / "losses"
_UPSCALED = ("sr-mae", "sr-mse", "sr-gan")
_PAIRED = ("pairs-l1", "pairs-gan", "pairs-both")
_CYCLES = ("cycle-with", "cycle-without")
_CPU = torch.device("cpu")
_CELL_PX = 192
_DETAILS = (("Set14", 9, 0.36, 0.30), ("Set5", 1, 0.25, 0.3))  # set, picture, left, top
_DETAIL_PX = 96
_SHOWN_PAIRS, _SHOWN_HORSES = 4, 4
_DIVERSITY_PX = 64


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("runs", "data", "features"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    runs, data, features = options.runs, options.data, options.features
    for name in (*_UPSCALED, *_PAIRED, *_CYCLES):
        _train(name, runs, data, features)

    upscalers = {name: _load(runs, name) for name in _UPSCALED}
    _write("sr", "\n\n".join(map(_markdown, _compared(upscalers, data, features))))
    _picture("sr", _details(upscalers, data))

    translators = {name: _load(runs, name) for name in _PAIRED}
    _write("pairs", "\n\n".join(map(_markdown, _compared(translators, data, features))))
    _picture("pairs", _facades(translators, data))

    there = {name: _load(runs, name) for name in _CYCLES}
    back = {name: _load(runs, name, f"{name}-back") for name in _CYCLES}
    (kid,) = _compared(there, data, features)
    horses = pictures_of(data, "horse_zebra/testA", None)
    zebras = pictures_of(data, "horse_zebra/testB", None)
    _write("cycle", f"{_markdown(kid)}\n\n{_markdown(_kept(there, back, horses, zebras))}")
    _picture("cycle", _round_trips(there, back, horses))


def _train(name: str, runs: Path, data: Path, features: Path) -> None:
    words = ["train", _RECIPES / f"{name}.toml", "--data", data, "--features", features]
    words += ["--out", runs / name, "--device", "cpu"]
    if name == "sr-gan":
        start = runs / "sr-mae" / "models" / "sr-mae.safetensors"
        words += ["--set", f"initial.upscale={start.resolve()}"]
    if not (runs / name / "models").is_dir():
        subprocess.run([sys.executable, "-m", "app.cli", *map(str, words)], check=True)


def _load(runs: Path, run: str, model: str | None = None) -> LoadedGenerator:
    return load_generator(runs / run / "models" / f"{model or run}.safetensors")


def _compared(models: Mapping[str, LoadedGenerator], data: Path, features: Path) -> Sequence[Table]:
    first, *others = models
    rivals = {name: models[name] for name in others}
    return evaluate(models[first], data, features=features, rivals=rivals)


def _details(upscalers: Mapping[str, LoadedGenerator], data: Path) -> list[list[Pixels]]:
    """Rows of one detail each: bicubic, the upscalers, the original."""
    rows = []
    for folder, index, left, top in _DETAILS:
        low, high = upscale_test_pictures(data, f"sr_bench/{folder}", 4)
        small, original = low[index], high[index]
        height, width = original.shape[:2]
        made = [images.resize(small, height, width)]
        made += [answerer(model, _CPU)(small) for model in upscalers.values()]
        y, x = round(top * height), round(left * width)
        rows.append([p[y : y + _DETAIL_PX, x : x + _DETAIL_PX] for p in (*made, original)])
    return rows


def _facades(translators: Mapping[str, LoadedGenerator], data: Path) -> list[list[Pixels]]:
    """Rows of a label map, what each makes of it, and the photo."""
    recipe = load_recipe(_RECIPES / f"{_PAIRED[0]}.toml")
    assert isinstance(recipe.data, PairedData)
    test = PairedTest(test="facades/test")
    pairs = held_out_pairs(recipe.data, test, data, _SHOWN_PAIRS)
    answers = [answerer(model, _CPU) for model in translators.values()]
    return [[labels, *(answer(labels) for answer in answers), photo] for labels, photo in pairs]


def _round_trips(
    there: Mapping[str, LoadedGenerator],
    back: Mapping[str, LoadedGenerator],
    horses: Sequence[Pixels],
) -> list[list[Pixels]]:
    """Rows of a horse and, with the cycle and without, the zebra and the horse made of that."""
    shown = horses[:: len(horses) // _SHOWN_HORSES][:_SHOWN_HORSES]
    rows = [[horse] for horse in shown]
    for name in there:
        to_zebra, to_horse = answerer(there[name], _CPU), answerer(back[name], _CPU)
        for row in rows:
            zebra = to_zebra(row[0])
            row += [zebra, to_horse(zebra)]
    return rows


def _kept(
    there: Mapping[str, LoadedGenerator],
    back: Mapping[str, LoadedGenerator],
    horses: Sequence[Pixels],
    zebras: Sequence[Pixels],
) -> Table:
    """Whether the input can be told from the answer, and the answers from one another."""

    def figures(to_zebra: Answer, to_horse: Answer) -> tuple[float, ...]:
        made = [to_zebra(horse) for horse in horses]
        returned = [to_horse(zebra) for zebra in made]
        differences = [
            np.abs(horse / 255 - again / 255).mean()
            for horse, again in zip(horses, returned, strict=True)
        ]
        return float(np.mean(differences)), _diversity(made) / _diversity(zebras)

    return Table(
        f"horse_zebra/testA: {len(horses)} pictures",
        {
            "returned": "mean absolute difference of the horse and its translation there and back, "
            "8-bit RGB in 0..1; lower is better",
            "diversity": f"mean absolute difference of every two answers at {_DIVERSITY_PX} px, "
            "over that of real zebras; near 0 when a mode collapsed",
        },
        {name: figures(answerer(there[name], _CPU), answerer(back[name], _CPU)) for name in there},
    )


def _diversity(pictures: Sequence[Pixels]) -> float:
    small = [images.resize(picture, _DIVERSITY_PX, _DIVERSITY_PX) for picture in pictures]
    return diversity(torch.stack([images.to_tensor(picture) for picture in small]))


def _markdown(table: Table) -> str:
    card = table.as_card()
    lines = [f"| {table.title} | {' | '.join(table.protocols)} |"]
    lines.append("|" + "---|" * (1 + len(table.protocols)))
    for name, cells in card["rows"].items():
        shown = ("-" if cell is None else f"{cell:.4g}" for cell in cells.values())
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join([*lines, "", *(f"- {name}: {how}" for name, how in table.protocols.items())])


def _write(part: str, text: str) -> None:
    """Replace what stands between the page's two comments of this name."""
    page = PAGE.read_text("utf-8")
    between = rf"(<!-- {part} -->\n).*?(<!-- /{part} -->)"
    page, count = re.subn(between, lambda m: f"{m[1]}{text}\n{m[2]}", page, flags=re.DOTALL)
    assert count == 1, f"docs/losses.md has no place for {part}"
    PAGE.write_text(page, "utf-8")


def _picture(part: str, rows: Sequence[Sequence[Pixels]]) -> None:
    sheet = np.concatenate(
        [np.concatenate([images.resize(p, _CELL_PX, _CELL_PX) for p in row], 1) for row in rows]
    )
    file = PAGE.parent / "images" / f"losses-{part}.jpg"
    file.write_bytes(images.encode(images.Picture(sheet, None, "jpeg"), "jpeg", 88))


if __name__ == "__main__":
    main()
