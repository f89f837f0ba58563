"""Pictures too large for one forward pass: the same answer, tile by tile, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import ceil, isqrt

import numpy as np
import torch
from torch import Tensor

from app.engines import Engine
from models import images
from models.family import SizeRule
from models.images import Pixels

OnDevice = Callable[[Callable[[], Tensor], int], Tensor]
"""Runs a piece of work that takes the network over so many input pixels, on the device."""

_SAMPLE_PX = 128  # many small samples see more of a picture than a few large ones
_SAMPLED_PIXELS = 1_200_000


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one side of the picture, in input pixels.

    The network sees [start, stop); its answer is right in [first, last), of which the beginning up
    to `first + fade` is mixed with the end of the tile before.
    """

    start: int
    stop: int
    first: int
    last: int
    fade: int


def run_tiled(
    engine: Engine,
    picture: Tensor,
    rule: SizeRule,
    scale: int,
    tile_px: int,
    on_device: OnDevice = lambda work, _: work(),
) -> Pixels:
    """Run a picture of any size: (1, C, H, W) in [-1, 1] -> uint8 RGB (scale * H, scale * W, 3).

    Tiles overlap by the rule's halo, so an answer equals the untiled one to within rounding for a
    network without normalisation over space. One that normalises by whole-picture statistics gets
    the same for all tiles, so there are no seams; `_statistics` says how near they are. Only the
    answer and one row of tiles are held, as uint8.

    Args:
        engine: what runs the tiles.
        picture: float32 on the CPU; mirrored at its right and lower border to a size of the rule.
        rule: the network's size rule.
        scale: output side over input side.
        tile_px: side of a tile in input pixels, the overlap included; more where the halo would
            leave nothing of it.
        on_device: is handed each piece of work for the device, so that others get their turn, and
            how many input pixels it takes the network over; `work_pixels` is their sum.
    """
    height, width = picture.shape[-2:]
    padded = rule.padded(height, width)
    ys, xs = _mirrored(height, padded[0]), _mirrored(width, padded[1])

    def crop(y: slice, x: slice) -> Tensor:
        return picture[:, :, ys[y]][..., xs[x]]

    statistics = None
    if rule.whole_image_statistics:
        statistics = _statistics(engine, crop, padded, rule, tile_px, on_device)
    answer = images.canvas(scale * height, scale * width)
    for row in spans(padded[0], tile_px, rule):
        strip = np.empty((scale * (row.last - row.first), scale * width, 3), np.uint8)
        for column in spans(padded[1], tile_px, rule):
            tile = crop(slice(row.start, row.stop), slice(column.start, column.stop))
            result = on_device(partial(engine, tile, statistics), _area(tile))
            pixels = images.to_rgb(result[0].expand(3, -1, -1))
            part = pixels[_right(row, scale), _right(column, scale)]
            _join(strip.swapaxes(0, 1), part.swapaxes(0, 1), column, scale)
        _join(answer, strip, row, scale)
    return answer


def tile_count(height: int, width: int, tile_px: int, rule: SizeRule) -> int:
    """How many tiles `run_tiled` makes of a picture."""
    rows, columns = (len(spans(side, tile_px, rule)) for side in rule.padded(height, width))
    return rows * columns


def work_pixels(height: int, width: int, tile_px: int, rule: SizeRule) -> int:
    """Over how many input pixels `run_tiled` takes the network, overlaps and statistics included.

    A picture whose size is (height, width) after padding, or before.
    """
    padded = rule.padded(height, width)
    rows, columns = (
        sum(span.stop - span.start for span in spans(side, tile_px, rule)) for side in padded
    )
    if not rule.whole_image_statistics:
        return rows * columns
    sampled_rows, sampled_columns = (
        sum(s.stop - s.start for s in _samples(side, rule)) for side in padded
    )
    samples: int = sampled_rows * sampled_columns
    return rows * columns + padded[0] * padded[1] + 2 * samples


def spans(length: int, tile_px: int, rule: SizeRule) -> list[Span]:
    """Cut one side of a picture of an allowed size into overlapping tiles of allowed sizes."""
    multiple = rule.multiple_of
    fade = rule.halo // 4  # hides what rounding or an inexact halo leaves
    overlap = _up(2 * rule.halo + fade, multiple)
    least = overlap + _up(max(rule.halo, 1), multiple)  # or hardly anything of a tile is new
    side = max(tile_px // multiple * multiple, rule.minimum, least)
    if length <= side:
        return [Span(0, length, 0, length, 0)]
    starts = [*range(0, length - side, side - overlap), length - side]
    return [
        Span(
            start,
            start + side,
            start + rule.halo if start else 0,
            start + side - rule.halo if start + side < length else length,
            fade if start else 0,
        )
        for start in starts
    ]


def _statistics(
    engine: Engine,
    crop: Callable[[slice, slice], Tensor],
    padded: tuple[int, int],
    rule: SizeRule,
    tile_px: int,
    on_device: OnDevice,
) -> Tensor:
    """Measure what a network's norms would see of the whole picture, in about one run over it.

    Layer after layer over the whole picture would take a run for each norm, and samples alone miss
    it by their choice and their borders. So samples give the statistics, one run over the picture
    with these shows in every layer how far they are off, and a second pass over the samples, with
    the corrections applied from the first layer on, what each changes in the layers after it. The
    error that is left is of second order.
    """
    columns = _samples(padded[1], rule)
    patches = torch.cat([crop(y, x) for y in _samples(padded[0], rule) for x in columns])
    sampled_pixels = len(patches) * _area(patches)
    statistics = on_device(lambda: engine.statistics(patches), sampled_pixels)
    if patches.shape[-2:] == padded:  # the only sample is all there is
        return statistics
    drift = torch.zeros_like(statistics)
    for y in _cells(padded[0], tile_px, rule):
        for x in _cells(padded[1], tile_px, rule):
            cell = crop(y, x)
            share = _area(cell) / (padded[0] * padded[1])
            drift += share * on_device(partial(engine.drift, cell, statistics), _area(cell))
    return on_device(lambda: engine.statistics(patches, drift), sampled_pixels)


def _cells(length: int, tile_px: int, rule: SizeRule) -> list[slice]:
    """Cut one side into about equal parts of allowed sizes, without overlap."""
    count = ceil(length / max(tile_px, 2 * rule.minimum))
    step = rule.multiple_of
    edges = [round(k * length / count / step) * step for k in range(count)] + [length]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _area(picture: Tensor) -> int:
    height, width = picture.shape[-2:]
    return int(height * width)


def _up(length: int, multiple: int) -> int:
    return ceil(length / multiple) * multiple


def _right(span: Span, scale: int) -> slice:
    """The part of a tile's answer that had its whole context."""
    return slice(scale * (span.first - span.start), scale * (span.last - span.start))


def _join(target: Pixels, part: Pixels, span: Span, scale: int) -> None:
    """Write `part` into `target` along axis 0, fading over from what is there already."""
    top = scale * span.first
    part = part[: max(0, len(target) - top)]  # the picture ends before its padding does
    fade = min(scale * span.fade, len(part))
    weight = ((np.arange(fade, dtype=np.float32) + 0.5) / max(fade, 1))[:, None, None]
    before = target[top : top + fade]
    target[top : top + fade] = np.rint(before * (1 - weight) + part[:fade] * weight)
    target[top + fade : top + len(part)] = part[fade:]


def _mirrored(side: int, padded_side: int) -> Tensor:
    """Indices that extend 0..side-1 to `padded_side` by reflection, like numpy's "reflect"."""
    period = max(1, 2 * (side - 1))
    index = torch.arange(padded_side) % period
    return torch.minimum(index, period - index) if side > 1 else index


def _samples(side: int, rule: SizeRule) -> list[slice]:
    """Patches of an allowed size along one side, spread evenly; all of it, if that is not much."""
    allowed_px = rule.padded(_SAMPLE_PX, _SAMPLE_PX)[0]
    patch_px = min(side, allowed_px)
    count = min(isqrt(_SAMPLED_PIXELS // allowed_px**2), ceil(side / patch_px))
    starts = [round(k * (side - patch_px) / max(count - 1, 1)) for k in range(max(count, 1))]
    return [slice(start, start + patch_px) for start in starts]
