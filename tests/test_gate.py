"""The gate before a promotion, by each family's own figure."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import test_evaluation
from models import features, images
from models.checkpoint import LoadedGenerator, amend_card, load_generator
from models.errors import MissingFeatures
from models.evaluation import figures, metrics
from models.evaluation.gate import _decide, gate
from models.images import Pixels
from tiny_training import tiny_recipe

held_out = test_evaluation.data


@pytest.fixture(autouse=True)
def _answers(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Let each model's card say how it answers: how many levels every other pixel is off.

    With "share", that share of the pixels instead.
    """
    monkeypatch.setattr(metrics, "KID_PX", 32)

    def answerer(loaded: LoadedGenerator, device: torch.device) -> Callable[[Pixels], Pixels]:
        scale = loaded.family.scale(loaded.config)
        card = loaded.header.card

        def answer(picture: Pixels) -> Pixels:
            right = picture if loaded.family.id == "style" else 255 - picture
            if scale > 1:
                right = picture.repeat(scale, 0).repeat(scale, 1)
            wrong = np.indices(right.shape[:2]).sum(0) % 2 == 1
            if "share" in card:
                wrong = np.random.default_rng(0).random(right.shape[:2]) < card["share"]
            off = card["error"] * wrong[..., None]
            return (right + off).clip(0, 255).astype(np.uint8)

        return answer

    monkeypatch.setattr(figures, "answerer", answerer)


def version(folder: Path, stage: str, error: int, **card: Any) -> Path:
    """Write a model of which every other pixel is `error` levels off."""
    folder.mkdir(exist_ok=True)
    path = test_evaluation.model_file(folder, stage).rename(folder / f"{stage}{error}.safetensors")
    amend_card(path, {"error": error} | card)
    return path


@pytest.mark.parametrize(
    ("stage", "metric", "better"),
    [
        ("srgan-regression", "PSNR", "higher"),
        ("srgan-adversarial", "perceptual", "lower"),
        ("pix2pix", "L1", "lower"),
        ("cyclegan", "KID", "lower"),
        ("style", "objective", "lower"),
    ],
)
def test_the_better_version_passes(
    tmp_path: Path,
    held_out: Path,
    stage: str,
    metric: str,
    better: str,
) -> None:
    """By each family's own figure, a worse version is refused and a better one passes."""
    weights = None if metric in ("L1", "PSNR") else held_out / "vgg16.safetensors"
    good, bad = (version(tmp_path, stage, error) for error in (0, 120))
    up = gate(good, bad, held_out, features=weights)
    down = gate(bad, good, held_out, features=weights)
    assert (up.passed, up.metric, up.better) == (True, metric, better)
    assert (down.passed, down.metric) == (False, metric)
    assert (up.new, up.serving, up.baseline) == (down.serving, down.new, down.baseline)
    assert f"{down.new:.4g}" in down.reason
    assert f"{down.serving:.4g}" in down.reason
    assert json.loads(json.dumps(up.as_card()))["tables"][0]["rows"].keys() >= {"new", "serving"}


def test_an_equal_version_passes(tmp_path: Path, held_out: Path) -> None:
    """A version as good as the serving one passes; one level in twenty more is no noise."""
    same = version(tmp_path, "pix2pix", 20)
    assert gate(same, same, held_out, features=None).passed
    worse = version(tmp_path, "pix2pix", 21)
    assert not gate(worse, same, held_out, features=None).passed


def test_the_first_version_must_beat_no_model(tmp_path: Path, held_out: Path) -> None:
    """Where nothing serves, a version passes if it is better than the input or the enlargement."""
    first = gate(version(tmp_path, "pix2pix", 5), None, held_out, features=None)
    assert (first.passed, first.serving) == (True, None)
    assert first.new < first.baseline
    poor = gate(version(tmp_path, "srgan-regression", 0), None, held_out, features=None)
    assert not poor.passed  # repeated pixels against bicubic interpolation
    unchanged = version(tmp_path, "style", 0)
    assert not gate(unchanged, None, held_out, features=held_out / "vgg16.safetensors").passed


@pytest.mark.parametrize(
    ("stage", "share", "passes"),
    [
        ("srgan-regression", 0.507, True),
        ("srgan-regression", 0.512, False),
        ("pix2pix", 0.505, True),
        ("pix2pix", 0.51, False),
    ],
)
def test_noise_is_tolerated(
    tmp_path: Path, held_out: Path, stage: str, share: float, passes: bool
) -> None:
    """A version may be 0.05 dB of PSNR worse than the serving one, or a hundredth of a distance."""
    serving = version(tmp_path / "serving", stage, 20, share=0.5)
    new = version(tmp_path / "new", stage, 20, share=share)
    verdict = gate(new, serving, held_out, features=None)
    assert verdict.serving
    tolerated = 0.05 if verdict.metric == "PSNR" else verdict.serving / 100
    worse = abs(verdict.new - verdict.serving)
    assert tolerated / 2 < worse < 2 * tolerated
    assert (worse < tolerated) == passes == verdict.passed


@pytest.mark.parametrize("stage", ["cyclegan", "style", "srgan-adversarial"])
def test_missing_features(
    tmp_path: Path,
    held_out: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    """A figure that needs VGG16 is an error without its weights, never a silent pass."""

    def unreachable() -> None:
        raise MissingFeatures("ANAMORPH_VGG16")

    monkeypatch.setattr(features, "_download", unreachable)
    with pytest.raises(MissingFeatures, match="ANAMORPH_VGG16"):
        gate(version(tmp_path, stage, 0), None, held_out, features=None)


def test_what_cannot_be_compared_is_refused(tmp_path: Path, held_out: Path) -> None:
    """A version that does something else than the serving one is refused, with its own figures."""
    upscaler = version(tmp_path, "srgan-regression", 0)
    verdict = gate(version(tmp_path, "pix2pix", 0), upscaler, held_out, features=None)
    assert not verdict.passed
    assert "something else" in verdict.reason
    assert (verdict.new, verdict.serving) == (0, None)
    adversarial = version(tmp_path / "serving", "srgan-regression", 9)
    amend_card(adversarial, {"stage": "adversarial"})
    assert "something else" in gate(upscaler, adversarial, held_out, features=None).reason
    there = version(tmp_path, "pix2pix", 1)
    back = version(tmp_path / "serving", "pix2pix", 2)
    recipe = load_generator(back).header.card["recipe"]
    amend_card(back, {"recipe": recipe | {"data": recipe["data"] | {"direction": "BtoA"}}})
    assert "something else" in gate(there, back, held_out, features=None).reason
    generator = tiny_recipe("srgan-regression").generator | {"scale": 4}
    larger = test_evaluation.model_file(
        tmp_path / "serving", "srgan-regression", generator=generator
    )
    assert "something else" in gate(upscaler, larger, held_out, features=None).reason


def test_a_broken_figure_never_passes(
    tmp_path: Path,
    held_out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A figure that is not a number is refused."""
    monkeypatch.setattr(metrics, "psnr", lambda *_: float("nan"))
    path = version(tmp_path, "srgan-regression", 0)
    assert not gate(path, path, held_out, features=None).passed
    assert not gate(path, None, held_out, features=None).passed


def test_a_model_called_serving(tmp_path: Path, held_out: Path) -> None:
    """A model whose name is that of a row is compared with its serving version as any other is."""
    files = []
    for error in (0, 120):
        file = test_evaluation.model_file(tmp_path, "pix2pix", models={"AtoB": "serving"})
        files.append(file.rename(tmp_path / f"{error}.safetensors"))
        amend_card(files[-1], {"error": error})
    good, bad = files
    verdict = gate(bad, good, held_out, features=None)
    assert (verdict.passed, verdict.serving) == (False, 0)


@pytest.mark.parametrize(("new", "passed"), [(0.1, True), (0.9, False), (math.nan, False)])
def test_what_serves_without_a_figure_holds_up_no_other(new: float, passed: bool) -> None:
    """Where the serving version's figure is not finite, the new one must beat no model at all."""
    shown = {"new": new, "serving": math.nan, "baseline": 0.5}
    assert _decide("L1", "lower", shown, noise=0.0)[0] is passed


def test_a_colorizer_called_grey(tmp_path: Path, held_out: Path) -> None:
    """A model is not taken for the grey photo, whose row has the name that it was given."""
    file = test_evaluation.model_file(tmp_path, "pix2pix-colours", models={"AtoB": "grey"})
    amend_card(file, {"error": 0})
    verdict = gate(file, None, held_out, features=None)
    assert verdict.new != verdict.baseline
    assert {"new", "grey"} <= set(verdict.tables[0]["rows"])


def test_a_flat_photo_does_not_decide(tmp_path: Path, held_out: Path) -> None:
    """A photo that both versions get exactly right leaves the decision to the others."""
    for folder, px in (("HR", 40), ("LRbicx2", 20)):
        shutil.copytree(held_out / "bench" / folder, tmp_path / "bench" / folder)
        flat = images.Picture(np.full((px, px, 3), 255, np.uint8), None, "png")
        (tmp_path / "bench" / folder / "flat.png").write_bytes(images.encode(flat, "png"))
    good, bad = (version(tmp_path / "models", "srgan-regression", error) for error in (0, 120))
    verdict = gate(bad, good, tmp_path, features=None)
    assert not verdict.passed
    assert np.isfinite([verdict.new, verdict.serving, verdict.baseline]).all()
