"""Tiles of a large picture join into the picture that one run would have given."""

from __future__ import annotations

import resource
from dataclasses import replace
from itertools import pairwise
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from app import tiling
from app.frozen import FrozenStatistics
from app.tiling import run_tiled, spans, tile_count, work_pixels
from models import images
from models.families import family
from models.family import SizeRule

pytestmark = pytest.mark.usefixtures("one_thread")


class TorchEngine:
    """Float32 torch, which counts what it is asked."""

    device, dtype, backend = "cpu", "float32", "torch"

    def __init__(self, module: nn.Module) -> None:
        self.module, self.twin = module, FrozenStatistics(module)
        self.sizes: list[tuple[int, ...]] = []

    @torch.inference_mode()
    def __call__(self, batch: Tensor, statistics: Tensor | None = None) -> Tensor:
        self.sizes.append(tuple(batch.shape[-2:]))
        answer: Tensor = self.module(batch) if statistics is None else self.twin(batch, statistics)
        return answer

    @torch.inference_mode()
    def statistics(self, patches: Tensor, drift: Tensor | None = None) -> Tensor:
        return self.twin.measure(patches, drift)

    @torch.inference_mode()
    def drift(self, tile: Tensor, statistics: Tensor) -> Tensor:
        return self.twin.drift(tile, statistics)


def build(family_id: str, **config: Any) -> tuple[TorchEngine, SizeRule, int]:
    kind = family(family_id)
    parsed = kind.generator_config(**config)
    module = kind.build_generator(parsed).eval()
    return TorchEngine(module), kind.size_rule(parsed), kind.scale(parsed)


def picture(height: int, width: int, channels: int = 3) -> Tensor:
    """Smooth colours with noise on top, different in every corner."""
    coarse = torch.rand(1, channels, 4, 4)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (smooth * 2 - 1 + 0.2 * torch.randn(1, channels, height, width)).clamp(-1, 1)


def untiled(engine: TorchEngine, x: Tensor, rule: SizeRule, scale: int) -> np.ndarray[Any, Any]:
    """The whole picture in one run, padded as tiles are."""
    height, width = x.shape[-2:]
    to_height, to_width = rule.padded(height, width)
    padded = np.pad(
        x.numpy(), ((0, 0), (0, 0), (0, to_height - height), (0, to_width - width)), "reflect"
    )
    answer = engine(torch.from_numpy(padded))[0, :, : scale * height, : scale * width]
    return images.to_rgb(answer.expand(3, -1, -1))


def levels_apart(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> int:
    return int(np.abs(first.astype(int) - second).max())


@hypothesis.given(
    length=st.integers(1, 3000),
    tile_px=st.integers(1, 600),
    multiple=st.sampled_from([1, 4, 32]),
    halo=st.integers(0, 90),
)
def test_spans_cover_every_pixel_with_context(
    length: int, tile_px: int, multiple: int, halo: int
) -> None:
    """Tiles have allowed sizes, cover a side completely and overlap by the halo and the fade."""
    rule = SizeRule(multiple_of=multiple, minimum=multiple, halo=halo)
    length = rule.padded(length, length)[0]
    cut = spans(length, tile_px, rule)
    assert (cut[0].start, cut[0].first) == (0, 0)
    assert (cut[-1].stop, cut[-1].last) == (length, length)
    for span in cut:
        assert (span.start % multiple, (span.stop - span.start) % multiple) == (0, 0)
        assert span.first - span.start == (halo if span.start else 0)
        assert span.stop - span.last == (halo if span.stop < length else 0)
    for before, after in pairwise(cut):
        assert before.last >= after.first + after.fade
        assert after.start > before.start


@pytest.mark.parametrize(
    ("family_id", "config"),
    [
        ("srgan", {"channels": 6, "blocks": 2, "scale": 4, "batch_norm": False}),
        ("srgan", {"channels": 6, "blocks": 2, "scale": 2, "architecture": "srresnet"}),
        ("srgan", {"channels": 6, "blocks": 1, "scale": 2, "architecture": "rrdb", "unshuffle": 2}),
        ("srgan", {"channels": 6, "blocks": 2, "architecture": "compact"}),
        ("cyclegan", {"base_channels": 4, "blocks": 1, "norm": "none"}),
    ],
)
@pytest.mark.parametrize("size", [(97, 61), (45, 130), (33, 20)])
def test_tiles_equal_the_whole(
    family_id: str, config: dict[str, Any], size: tuple[int, int]
) -> None:
    """Without normalisation over space, tiles give the untiled answer, within rounding."""
    engine, rule, scale = build(family_id, **config)
    x = picture(*size)
    whole = untiled(engine, x, rule, scale)
    engine.sizes.clear()
    tiled = run_tiled(engine, x, rule, scale, tile_px=32)
    assert tiled.shape == whole.shape == (scale * size[0], scale * size[1], 3)
    assert levels_apart(tiled, whole) <= 1
    assert len(engine.sizes) == tile_count(*size, 32, rule)


@pytest.mark.parametrize(
    ("family_id", "config"),
    [
        ("style", {"base_channels": 4, "blocks": 1}),
        ("cyclegan", {"base_channels": 4, "blocks": 1}),
        ("cyclegan", {"base_channels": 4, "blocks": 1, "clip": 1.5}),
        ("cyclegan", {"base_channels": 4, "blocks": 1, "undertone_px": 63}),
    ],
)
def test_instance_norm_with_the_whole_pictures_statistics(
    family_id: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An InstanceNorm network with statistics of the whole picture tiles exactly, so no seams."""
    engine, rule, scale = build(family_id, **config)
    x = picture(152, 96)
    monkeypatch.setattr(tiling, "_SAMPLE_PX", 152)  # one sample: all there is
    tiled = run_tiled(engine, x, rule, scale, tile_px=64)
    assert len(engine.sizes) > 2
    assert levels_apart(tiled, untiled(engine, x, rule, scale)) <= 1


@pytest.mark.parametrize("family_id", ["style", "cyclegan", "pix2pix"])
def test_no_seams(family_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With sampled statistics, steps at the tiles' joints are no larger than elsewhere."""
    config = {"depth": 5} if family_id == "pix2pix" else {"blocks": 1}
    engine, rule, scale = build(family_id, base_channels=4, **config)
    monkeypatch.setattr(tiling, "_SAMPLE_PX", 32)
    x = picture(96, 320)
    tiled = run_tiled(engine, x, rule, scale, tile_px=64).astype(int)
    assert len(set(engine.sizes)) == 1
    steps = np.abs(np.diff(tiled, axis=1)).mean(axis=(0, 2))
    joints = [c for s in spans(320, 64, rule)[1:] for c in range(s.first - 1, s.first + s.fade + 1)]
    elsewhere = np.delete(steps, joints)
    assert len(joints) > 0
    assert steps[joints].max() <= elsewhere.max() * 1.05


class Nearest:
    """Enlarges four times, without any memory to speak of."""

    device, dtype, backend = "cpu", "float32", "torch"

    def __call__(self, batch: Tensor, statistics: Tensor | None = None) -> Tensor:
        assert statistics is None
        return batch.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)

    def statistics(self, patches: Tensor, drift: Tensor | None = None) -> Tensor:
        raise AssertionError(patches.shape)

    def drift(self, tile: Tensor, statistics: Tensor) -> Tensor:
        raise AssertionError(tile.shape)


class Counting(Nearest):
    """Answers each tile by one level, the next one lighter."""

    def __init__(self) -> None:
        self.level = -1.0

    def __call__(self, batch: Tensor, statistics: Tensor | None = None) -> Tensor:
        self.level += 0.5
        return torch.full_like(batch, self.level)


@pytest.mark.parametrize("size", [(16, 120), (120, 16)])
def test_tiles_fade_into_each_other(size: tuple[int, int]) -> None:
    """From a tile to a lighter one the answer gets lighter step by step, over a quarter halo."""
    rule = SizeRule(halo=32)
    tiled = run_tiled(Counting(), picture(*size), rule, 1, 104)[..., 0]
    line = tiled.max(axis=size.index(16))
    first, second = spans(120, 104, rule)
    before, after = line[second.first - 1], line[second.first + second.fade]
    assert (before, after) == (line[0], line[-1])
    assert np.diff(line[second.first - 1 : second.first + second.fade + 1].astype(int)).min() > 0
    assert second.fade == 8
    assert first.last >= second.first + 8


def test_naive_tiles_would_show() -> None:
    """The same picture tiled with each tile's own statistics differs far more from the whole."""
    engine, rule, scale = build("style", base_channels=4, blocks=1)
    x = picture(96, 320)
    whole = untiled(engine, x, rule, scale).astype(int)
    shared = run_tiled(engine, x, rule, scale, tile_px=80)
    naive = run_tiled(engine, x, replace(rule, whole_image_statistics=False), scale, tile_px=80)
    assert np.abs(shared - whole).mean() < 0.3 * np.abs(naive - whole).mean()


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (3, 77)])
def test_thin_pictures(size: tuple[int, int]) -> None:
    """A picture thinner than a tile, down to one pixel, is mirrored and cut back."""
    for family_id, config in (("style", {"blocks": 1}), ("srgan", {"blocks": 1})):
        width = {"base_channels": 4} if family_id == "style" else {"channels": 4}
        engine, rule, scale = build(family_id, **config, **width)
        tiled = run_tiled(engine, picture(*size), rule, scale, tile_px=32)
        assert tiled.shape == (scale * size[0], scale * size[1], 3)


def test_grey_input() -> None:
    """A network with one input channel tiles too."""
    engine, rule, scale = build("pix2pix", base_channels=4, depth=5, channels_in=1)
    assert run_tiled(engine, picture(70, 40, 1), rule, scale, 32).shape == (70, 40, 3)


@pytest.mark.parametrize("family_id", ["style", "cyclegan"])
def test_statistics_come_near_the_whole_pictures(
    family_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run over the whole picture takes most of the error from what a few samples tell."""
    engine, rule, scale = build(family_id, base_channels=8, blocks=2)
    monkeypatch.setattr(tiling, "_SAMPLE_PX", 64)
    monkeypatch.setattr(tiling, "_SAMPLED_PIXELS", 9 * 64**2)
    x = picture(256, 384)
    whole = untiled(engine, x, rule, scale).astype(int)
    corrected = run_tiled(engine, x, rule, scale, 192)
    monkeypatch.setattr(engine, "drift", lambda tile, statistics: _no_drift(statistics, engine))
    sampled = run_tiled(engine, x, rule, scale, 192)
    squares = [np.square(answer - whole).mean() for answer in (corrected, sampled)]
    assert squares[0] < 0.5 * squares[1]


def _no_drift(statistics: Tensor, engine: TorchEngine) -> Tensor:
    sizes = [norm.channels for norm in engine.twin.norms]
    return torch.cat([torch.cat((torch.zeros(size), torch.ones(size))) for size in sizes])


@pytest.mark.parametrize("family_id", ["style", "srgan", "pix2pix"])
def test_others_get_their_turn(family_id: str) -> None:
    """All work for the device goes through `on_device`, with the pixels that were foreseen."""
    config = {"style": {"blocks": 1}, "pix2pix": {"depth": 5}, "srgan": {"blocks": 1}}[family_id]
    width = {"channels": 4} if family_id == "srgan" else {"base_channels": 4}
    engine, rule, scale = build(family_id, **config, **width)
    pieces: list[int] = []

    def on_device(work: Any, pixels: int) -> Tensor:
        pieces.append(pixels)
        answer: Tensor = work()
        return answer

    run_tiled(engine, picture(70, 300), rule, scale, 64, on_device)
    assert sum(pieces) == work_pixels(70, 300, 64, rule)
    assert len(pieces) >= tile_count(70, 300, 64, rule)


def test_memory_of_a_large_picture() -> None:
    """Tiling holds the answer as uint8 and a row of tiles, never the answer as floats."""
    x = torch.rand(1, 3, 1000, 1500)
    run_tiled(Nearest(), x[..., :200, :200], SizeRule(halo=36), 4, 160)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = run_tiled(Nearest(), x, SizeRule(halo=36), 4, 160)
    assert np.array_equal(answer[::4, ::4], images.to_rgb(x[0]))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 2 * answer.nbytes  # as floats it would be four times
