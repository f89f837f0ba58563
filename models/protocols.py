"""How each kind of model is measured, and what it is compared with.

Every figure comes with its protocol and beside what can be had without the model, on pictures the
model never saw.

Pictures are uint8 (H, W, 3); answers are rounded to 8 bits before anything is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from models import images, metrics
from models.families.style.gatys import objective, optimise
from models.families.style.objective import PerceptualTerms
from models.features import VGG16
from models.images import Pixels

Answer = Callable[[Pixels], Pixels]
Pair = tuple[Pixels, Pixels]

_PSNR = (
    "dB on Y of BT.601 (16..235) from 8-bit RGB, peak 255, 4 px of border cut, mean over pictures"
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
_COLOUR_STEP = 85  # 4 levels a channel tell the colours of label maps apart, however noisy


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
    rows: dict[str, tuple[float | None, ...]]

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
                *(line(name, map(_cell, figures)) for name, figures in self.rows.items()),
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


def _cell(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.4g}"


def upscale_table(
    name: str,
    answer: Answer,
    title: str,
    low: Sequence[Pixels],
    high: Sequence[Pixels],
    features: VGG16 | None = None,
) -> Table:
    """Compare the answers to `low` with the originals `high`.

    `features` adds the perceptual distance.
    """
    scale = high[0].shape[0] // low[0].shape[0]
    protocols = {"PSNR": _PSNR, "SSIM": _SSIM}
    if features:
        protocols["perceptual"] = _PERCEPTUAL

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
        {name: figures(answer), "bicubic (Pillow)": figures(bicubic)},
    )


def _fidelity(answer: Pixels, original: Pixels, features: VGG16 | None) -> list[float]:
    inside = slice(_BORDER_PX, -_BORDER_PX)
    planes = [metrics.luma(picture)[inside, inside] for picture in (answer, original)]
    figures = [metrics.psnr(*planes), metrics.ssim(*planes)]
    if features:
        figures.append(metrics.perceptual_distance(answer, original, features))
    return figures


def paired_table(
    name: str,
    answer: Answer,
    title: str,
    pairs: Sequence[Pair],
    colours: NDArray[np.uint8],
    features: VGG16,
) -> Table:
    """Compare the answers to the conditions of `pairs` with their real targets.

    `colours` is what `mean_colours` learned from other pairs: the best answer that looks at one
    pixel at a time.
    """
    real = [target for _, target in pairs]
    real_seen = metrics.embed(real, features)

    def figures(translate: Answer) -> tuple[float, ...]:
        made = [translate(condition) for condition, _ in pairs]
        l1 = [np.abs(a / 255 - b / 255).mean() for a, b in zip(made, real, strict=True)]
        distance = metrics.kernel_distance(metrics.embed(made, features), real_seen)
        return (float(np.mean(l1)), *distance)

    halves = metrics.kernel_distance(real_seen[::2], real_seen[1::2])
    return Table(
        f"{title}: {len(pairs)} pairs",
        {"L1": _L1, "KID": _KID, "+-": _KID_ERROR},
        {
            name: figures(answer),
            "input unchanged": figures(lambda condition: condition),
            "mean of the input colour in training": figures(
                lambda condition: colours[_colour_codes(condition)]
            ),
            "real against real, two halves": (None, *halves),
        },
    )


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


def unpaired_table(
    name: str,
    answer: Answer,
    title: str,
    source: Sequence[Pixels],
    target: Sequence[Pixels],
    reference: Sequence[Pixels],
    features: VGG16,
) -> Table:
    """Compare the answers to `source` with the real pictures `target`."""
    target_seen = metrics.embed(target, features)

    def distance(pictures: Iterable[Pixels]) -> tuple[float, ...]:
        return metrics.kernel_distance(metrics.embed(pictures, features), target_seen)

    return Table(
        f"{title}: {len(source)} and {len(target)} pictures",
        {"KID": _KID, "+-": _KID_ERROR},
        {
            name: distance(map(answer, source)),
            "input unchanged": distance(source),
            f"real against real, {len(reference)} training pictures": distance(reference),
        },
    )


def stylize_table(
    name: str,
    answer: Answer,
    title: str,
    photos: Sequence[Pixels],
    terms: PerceptualTerms,
    steps: int,
) -> Table:
    """Compare the objective of the answers with what direct optimisation of each photo reaches.

    Takes about 4 `steps` forward and backward passes of VGG16 a photo.
    """
    rows = [name, f"{steps} L-BFGS steps from the photo", f"{steps} L-BFGS steps from noise"]
    rows.append("photo unchanged")
    measured = []
    for seed, photo in enumerate(tqdm(photos, unit="photo", leave=False, disable=None)):
        content = _tensor(photo, terms)
        with torch.no_grad():
            painted = _tensor(answer(photo), terms)
            ours = float(objective(painted, content, terms))
        _, from_photo = optimise(content, terms, steps, "photo")
        _, from_noise = optimise(content, terms, steps, "noise", seed)
        measured.append([ours, from_photo[-1], from_noise[-1], from_photo[0]])
    means = np.mean(measured, axis=0)
    factors = terms.weights
    weighted = " + ".join(f"{factor:g} {term}" for term, factor in factors.items())
    protocols = {
        "objective": f"{weighted} (Johnson et al. 2016, equation 5; content at "
        f"{terms.config.content_layer}, style at {', '.join(terms.config.style_layers)} of VGG16), "
        "mean over photos; lower is better",
        "/ photo": f"over the objective of {steps} L-BFGS steps (Gatys et al. 2016) from the photo",
        "/ noise": "the same from uniform noise",
    }
    return Table(
        f"{title}: {len(photos)} photos",
        protocols,
        {
            row: (float(mean), float(mean / means[1]), float(mean / means[2]))
            for row, mean in zip(rows, means, strict=True)
        },
    )


def _tensor(picture: Pixels, terms: PerceptualTerms) -> Tensor:
    return images.to_tensor(picture)[None].to(terms.features.mean.device)
