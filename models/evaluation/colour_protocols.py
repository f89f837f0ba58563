"""How a colorizer is measured, and what it is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from models import images, lab
from models.evaluation import metrics
from models.evaluation.protocols import GREY, Answer, Answers, Table
from models.images import Pixels

_CHROMA = (
    "mean distance of (a*, b*) of CIELAB to the photo's, 8-bit sRGB, D65, mean over pixels and "
    "photos; lower is better"
)
_COLOURFULNESS = "Hasler and Suesstrunk 2003, M3, 8-bit sRGB, mean over photos"


def colour_table(
    answers: Answers, title: str, photos: Sequence[Pixels], mean_chroma: Tensor
) -> Table:
    """Compare each model's colours, made from the lightness of `photos`, with theirs.

    `mean_chroma` is what `mean_chroma_of` found in other photos.
    """

    def figures(colorize: Answer) -> tuple[float, ...]:
        made = [colorize(grey_of(photo)) for photo in photos]
        distances = list(map(metrics.chroma_distance, made, photos))
        return float(np.mean(distances)), _colourfulness(made)

    rows: dict[str, tuple[float | None, ...]] = {
        name: figures(answer) for name, answer in answers.items()
    }
    rows[GREY] = figures(lambda grey: grey)
    rows["mean chroma of the training photos"] = figures(lambda grey: painted(grey, mean_chroma))
    rows["the photos"] = 0.0, _colourfulness(photos)
    return Table(
        f"{title}: {len(photos)} photos",
        {"chroma": _CHROMA, "colourfulness": _COLOURFULNESS},
        rows,
    )


def _colourfulness(pictures: Iterable[Pixels]) -> float:
    return float(np.mean(list(map(metrics.colourfulness, pictures))))


def mean_chroma_of(photos: Iterable[Pixels]) -> Tensor:
    """Return the mean chroma, (2,) as `models.lab` scales it, of the photos' own means."""
    means = [lab.split(images.to_tensor(photo))[1].mean((1, 2)) for photo in photos]
    return torch.stack(means).mean(0)


def painted(photo: Pixels, chroma: Tensor) -> Pixels:
    """Give all pixels one chroma, (2,), and leave their lightness."""
    lightness, own = lab.split(images.to_tensor(photo))
    return images.to_rgb(lab.join(lightness, chroma[:, None, None].expand_as(own)))


def grey_of(photo: Pixels) -> Pixels:
    """Return what a colorizer is given: the photo's lightness alone."""
    return painted(photo, torch.zeros(2))
