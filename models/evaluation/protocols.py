"""How each kind of model is measured, and what it is compared with.

Every figure comes with its protocol and beside what can be had without the model, on pictures the
model never saw.

Pictures are uint8 (H, W, 3); answers are rounded to 8 bits before anything is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from models import images
from models.evaluation import metrics
from models.faces import obscuring
from models.families.style.gatys import Start, objective, optimise
from models.families.style.objective import PerceptualTerms
from models.features import VGG16
from models.images import Pixels

Answer = Callable[[Pixels], Pixels]
Answers = Mapping[str, Answer]
"""By the name of the row; the first is the model in question."""
Pair = tuple[Pixels, Pixels]

_PSNR = (
    "dB on Y of BT.601 (16..235) from 8-bit RGB, peak 255, 4 px of border cut, at most 60, mean "
    "over pictures"
)
_SSIM = "the same planes; Gaussian window 11 x 11, sigma 1.5, windows inside the picture only"
_PERCEPTUAL = (
    f"VGG16 {', '.join(metrics.PERCEPTUAL_LAYERS)}, channel vectors of unit length, squared "
    "difference, mean over positions and layers; RGB, nothing cut; lower is better"
)
_L1 = "mean absolute difference to the real picture, 8-bit RGB in 0..1; lower is better"
_KID = (
    "unbiased squared MMD to the real pictures (Binkowski et al. 2018), kernel (x.y/512 + 1)^3 on "
    f"VGG16 {metrics.KID_LAYER} averaged over the picture and scaled to mean square 1, at "
    f"{metrics.KID_PX} px (Pillow bicubic, antialiased), all pictures, no subsets; lower is better"
)
_KID_ERROR = "standard error of the KID, delete-one jackknife"
_BORDER_PX = 4
_MOST_DB = 60.0  # a quarter of a level; infinite for a flat photo, it would hide all others
_BICUBIC, _INPUT, _PHOTO = "bicubic (Pillow)", "input unchanged", "photo unchanged"
_COLOUR_STEP = 85  # 4 levels a channel tell the colours of label maps apart, however noisy

FACE_UNCHANGED = "unchanged"
GREY = "grey"
WITHOUT_MODEL = (_BICUBIC, _INPUT, _PHOTO, FACE_UNCHANGED, GREY)
"""The rows that say what can be had without any model; each table has one of them."""
_ROWS_LIKE_NAMES = {FACE_UNCHANGED, GREY, *obscuring.WAYS}


@dataclass(frozen=True, slots=True)
class Table:
    """Figures of one test set.

    Attributes:
        title: the test set and the number of pictures.
        protocols: how each column is measured, by the column's name.
        rows: the figures in the order of the columns, by the row's name; None where a figure
            has no meaning. The model's own row is the first.
    """

    title: str
    protocols: dict[str, str]
    rows: Mapping[str, tuple[float | None, ...]]

    def __str__(self) -> str:
        name_width = max(map(len, self.rows))
        widths = [max(len(column), 9) for column in self.protocols]

        def line(name: str, cells: Iterable[str]) -> str:
            padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
            return "  ".join([name.ljust(name_width), *padded])

        return "\n".join(
            [
                self.title,
                line("", self.protocols),
                *(line(name, map(as_cell, figures)) for name, figures in self.rows.items()),
                *(f"{column}: {how}" for column, how in self.protocols.items()),
            ]
        )

    def as_card(self) -> dict[str, Any]:
        """Return plain values for a model card's "metrics"."""
        return {
            "title": self.title,
            "protocols": self.protocols,
            "rows": {
                name: dict(zip(self.protocols, figures, strict=True))
                for name, figures in self.rows.items()
            },
        }


def as_cell(figure: float | None) -> str:
    """Write a figure with four digits, one without meaning as a dash."""
    return "-" if figure is None else f"{figure:.4g}"


def upscale_table(
    answers: Answers,
    title: str,
    low: Sequence[Pixels],
    high: Sequence[Pixels],
    features: VGG16 | None = None,
    reduction: str = "",
) -> Table:
    """Compare each model's answers to `low` with the originals `high`.

    `features` adds the perceptual distance; `reduction` says how `low` was made, if the test set
    does not.
    """
    scale = high[0].shape[0] // low[0].shape[0]
    protocols = {"PSNR": _PSNR, "SSIM": _SSIM}
    if features:
        protocols["perceptual"] = _PERCEPTUAL
    if reduction:
        protocols = {column: f"{how}; {reduction}" for column, how in protocols.items()}

    def figures(upscale: Answer) -> tuple[float, ...]:
        measured = [
            _fidelity(upscale(small), original, features)
            for small, original in zip(low, high, strict=True)
        ]
        return tuple(np.mean(measured, axis=0).tolist())

    def bicubic(small: Pixels) -> Pixels:
        return images.resize(small, small.shape[0] * scale, small.shape[1] * scale)

    return Table(
        f"{title}, x{scale}: {len(high)} pictures",
        protocols,
        {name: figures(answer) for name, answer in answers.items()} | {_BICUBIC: figures(bicubic)},
    )


def _fidelity(answer: Pixels, original: Pixels, features: VGG16 | None) -> list[float]:
    inside = slice(_BORDER_PX, -_BORDER_PX)
    planes = [metrics.luma(picture)[inside, inside] for picture in (answer, original)]
    figures = [min(metrics.psnr(*planes), _MOST_DB), metrics.ssim(*planes)]
    if features:
        figures.append(metrics.perceptual_distance(answer, original, features))
    return figures


def paired_table(
    answers: Answers,
    title: str,
    pairs: Sequence[Pair],
    colours: NDArray[np.uint8],
    features: VGG16 | None,
) -> Table:
    """Compare each model's answers to the conditions of `pairs` with their real targets.

    `colours` is what `mean_colours` learned from other pairs: the best answer that looks at one
    pixel at a time. Without `features`, or with too few pairs, there is no kernel distance.
    """
    if len(pairs) < 2 * metrics.KID_MIN_PICTURES:
        features = None
    real = [target for _, target in pairs]
    real_seen = metrics.embed(real, features) if features else None

    def figures(translate: Answer) -> tuple[float, ...]:
        made = [translate(condition) for condition, _ in pairs]
        l1 = [np.abs(a / 255 - b / 255).mean() for a, b in zip(made, real, strict=True)]
        if features is None or real_seen is None:
            return (float(np.mean(l1)),)
        distance = metrics.kernel_distance(metrics.embed(made, features), real_seen)
        return (float(np.mean(l1)), *distance)

    protocols = {"L1": _L1}
    rows: dict[str, tuple[float | None, ...]] = {
        name: figures(answer) for name, answer in answers.items()
    }
    rows[_INPUT] = figures(lambda condition: condition)
    rows["mean of the input colour in training"] = figures(
        lambda condition: colours[_colour_codes(condition)]
    )
    if real_seen is not None:
        protocols |= {"KID": _KID, "+-": _KID_ERROR}
        halves = metrics.kernel_distance(real_seen[::2], real_seen[1::2])
        rows["real against real, two halves"] = (None, *halves)
    return Table(f"{title}: {len(pairs)} pairs", protocols, rows)


def mean_colours(pairs: Iterable[Pair]) -> NDArray[np.uint8]:
    """Return the mean target colour of the pixels of each input colour, uint8 (64, 3).

    Input colours are rounded to 4 levels a channel. One that never occurs gets the overall mean.
    """
    sums, counts = np.zeros((64, 3)), np.zeros((64, 1))
    for condition, target in pairs:
        codes = _colour_codes(condition).ravel()
        counts[:, 0] += np.bincount(codes, minlength=64)
        for channel in range(3):
            values = target[..., channel].ravel()
            sums[:, channel] += np.bincount(codes, weights=values, minlength=64)
    means: NDArray[np.float64] = np.where(
        counts > 0, sums / counts.clip(1), sums.sum(0) / counts.sum()
    )
    return means.round().astype(np.uint8)


def _colour_codes(rgb: Pixels) -> NDArray[np.int64]:
    levels = (rgb.astype(np.int64) + _COLOUR_STEP // 2) // _COLOUR_STEP
    codes: NDArray[np.int64] = levels @ np.array([16, 4, 1])
    return codes


def row_of(model: str) -> str:
    """Return the row of a model by its name, which may be that of another row."""
    return f"the model {model}" if model in _ROWS_LIKE_NAMES else model


def unpaired_table(
    answers: Answers,
    title: str,
    source: Sequence[Pixels],
    target: Sequence[Pixels],
    reference: Sequence[Pixels],
    features: VGG16,
) -> Table:
    """Compare each model's answers to `source` with the real pictures `target`."""
    target_seen = metrics.embed(target, features)

    def distance(pictures: Iterable[Pixels]) -> tuple[float, ...]:
        return metrics.kernel_distance(metrics.embed(pictures, features), target_seen)

    return Table(
        f"{title}: {len(source)} and {len(target)} pictures",
        {"KID": _KID, "+-": _KID_ERROR},
        {name: distance(map(answer, source)) for name, answer in answers.items()}
        | {_INPUT: distance(source)}
        | (
            {f"real against real, {len(reference)} training pictures": distance(reference)}
            if len(reference) >= metrics.KID_MIN_PICTURES
            else {}
        ),
    )


def stylize_table(
    answers: Answers,
    title: str,
    photos: Sequence[Pixels],
    terms: PerceptualTerms,
    steps: int,
    starts: Sequence[Start] = ("noise",),
) -> Table:
    """Compare the objective of the answers with what direct optimisation of each photo reaches.

    Takes about 2 `steps` forward and backward passes of VGG16 for each photo and start; 0 goes
    without it.
    """
    words: dict[Start, str] = {"photo": "from the photo", "noise": "from noise"}
    yardsticks = {f"{steps} L-BFGS steps {words[start]}": start for start in starts if steps}
    measured = []
    for seed, photo in enumerate(tqdm(photos, unit="photo", leave=False, disable=None)):
        content = _tensor(photo, terms)
        target = terms.target(content)
        with torch.no_grad():
            painted = [_tensor(answer(photo), terms) for answer in answers.values()]
            ours = [float(objective(picture, target, terms)) for picture in painted]
            unchanged = float(objective(content, target, terms))
        best = [
            optimise(content, terms, steps, start, seed)[1][-1] for start in yardsticks.values()
        ]
        measured.append([*ours, *best, unchanged])
    means = dict(
        zip((*answers, *yardsticks, _PHOTO), np.mean(measured, axis=0).tolist(), strict=True)
    )
    factors = terms.weights
    weighted = " + ".join(f"{factor:g} {term}" for term, factor in factors.items())
    protocols = {
        "objective": f"{weighted} (Johnson et al. 2016, equation 5; content at "
        f"{terms.config.content_layer}, style at {', '.join(terms.config.style_layers)} of VGG16), "
        "mean over photos; lower is better",
    }
    for start in yardsticks.values():
        protocols[f"/ {start}"] = (
            f"over the objective of {steps} L-BFGS steps (Gatys et al. 2016) {words[start]}"
        )
    return Table(
        f"{title}: {len(photos)} photos",
        protocols,
        {
            row: (mean, *(mean / means[yardstick] for yardstick in yardsticks))
            for row, mean in means.items()
        },
    )


def _tensor(picture: Pixels, terms: PerceptualTerms) -> Tensor:
    return images.to_tensor(picture)[None].to(terms.features.mean.device)
