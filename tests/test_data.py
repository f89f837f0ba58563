"""Training data: which pictures are used, how they are paired, cut and reduced."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.cbook import get_sample_data
from PIL import Image

from models.data import open_samples, style_image
from models.errors import InvalidDataset
from models.faces.geometry import LANDMARKS
from models.faces.samples import held_out
from models.families.anonymizer.conditions import face_mask
from models.images import resize, to_rgb
from models.pictures import Pictures
from models.recipe import (
    ContentData,
    Data,
    FacesData,
    HighResolutionData,
    PairedData,
    UnpairedData,
)
from models.sampling import Sample, Samples, batches
from pictures import gradient, save
from tiny_training import write_data

PAIRS = PairedData(kind="paired", train=("pairs",), load_px=36, crop_px=32)
UNPAIRED = UnpairedData(kind="unpaired", a=("warm",), b=("cold",), load_px=36, crop_px=32)
PHOTOS = HighResolutionData(kind="highres", train=("warm",), crop_px=32)
CONTENT = ContentData(
    kind="content", train=("warm",), style="style.png", style_px=48, load_px=36, crop_px=32
)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of `write_data`."""
    root = tmp_path_factory.mktemp("data")
    write_data(root)
    return root


def equal(one: Sample, other: Sample) -> bool:
    """Whether two samples are the same bits."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def write(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(Image.fromarray(pixels), "png"))


def test_corrupt_pictures_are_named_and_skipped(
    data_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """A file that does not decode is named in the log and left out; other files are no pictures."""
    whole = (data_root / "warm" / "0.png").read_bytes()
    files = {"good.png": whole, "cut.png": whole[:60], "text.jpg": b"no picture", "notes.txt": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    with caplog.at_level(logging.WARNING):
        pictures = Pictures(tmp_path, ["."])
    assert [path.name for path in pictures.paths] == ["good.png"]
    assert "cut.png" in caplog.text
    assert "text.jpg" in caplog.text
    assert "notes.txt" not in caplog.text
    assert "folder.png" not in caplog.text


def test_only_some_of_a_folder(data_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Where only some pictures of a folder are asked for, the files between are not decoded."""
    whole = (data_root / "warm" / "0.png").read_bytes()
    for name, content in {"0": whole, "1": b"", "2": whole, "3": b""}.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    some = Pictures(tmp_path, ["."], limit=2)
    assert [path.name for path in some.paths] == ["0.png", "2.png"]
    assert not caplog.records
    assert len(Pictures(tmp_path, ["."], limit=9)) == 2


def test_folder_without_pictures(tmp_path: Path):
    """A folder that is empty, absent or holds only broken files is InvalidDataset by its name."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"")
    for folder in ("empty", "broken", "absent"):
        with pytest.raises(InvalidDataset, match=folder):
            Pictures(tmp_path, [folder])


def test_too_small_for_the_crop(tmp_path: Path, data_root: Path):
    """Photos smaller than the crop are left out of super-resolution, never enlarged for it."""
    write(tmp_path / "warm" / "small.png", gradient(31, 64))
    with pytest.raises(InvalidDataset):
        open_samples(PHOTOS, tmp_path, seed=0, scale=2)
    assert len(Pictures(data_root, ["warm"], min_px=40)) == 5


def test_a_pair_of_one_pixel(tmp_path: Path):
    """A picture that is too narrow to hold two is left out of the pairs."""
    write(tmp_path / "pairs" / "thin.png", gradient(40, 1))
    with pytest.raises(InvalidDataset, match="pairs"):
        open_samples(PAIRS.model_copy(update={"train": ("pairs",)}), tmp_path, seed=0)


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_side_by_side_pairs(data_root: Path, direction: str):
    """The condition is the left half for AtoB and the right half for BtoA, cut and turned alike."""
    samples = open_samples(PAIRS.model_copy(update={"direction": direction}), data_root, seed=0)
    for k in range(6):
        sample = samples[k]
        assert sample["a"].shape == sample["b"].shape == (3, 32, 32)
        torch.testing.assert_close(sample["a"], -sample["b"], atol=0.05, rtol=0)
    left = Pictures(data_root, ["warm"])[0]
    assert torch.equal(samples.pair(0)[direction == "BtoA"], left)


def test_two_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Pairs go by name, whatever its case, so one that is missing or broken shifts no other."""
    for index, level in enumerate((50, 100, 150)):
        write(tmp_path / "drawn" / f"Img{index}.png", np.full((40, 40, 3), level, np.uint8))
        write(tmp_path / "real" / f"img{index}.png", np.full((40, 40, 3), level + 5, np.uint8))
    (tmp_path / "drawn" / "Img0.png").write_bytes(b"broken")
    data = PAIRS.model_copy(update={"train": ("drawn",), "targets": ("real",)})
    with caplog.at_level(logging.WARNING):
        samples = open_samples(data, tmp_path, seed=0)
    assert "same name: 1 pictures" in caplog.text
    for k in range(4):
        condition, target = ((samples[k][name].mean() + 1) * 127.5 for name in "ab")
        assert round(float(condition)) in (100, 150)
        assert target - condition == pytest.approx(5, abs=1e-3)


def test_two_pictures_of_one_name(tmp_path: Path):
    """Of two pictures called alike on one side, none is paired by chance."""
    for folder in ("drawn", "more", "real"):
        write(tmp_path / folder / "one.png", gradient(40, 40))
    data = PAIRS.model_copy(update={"train": ("drawn", "more"), "targets": ("real",)})
    with pytest.raises(InvalidDataset, match="2 pictures are called one"):
        open_samples(data, tmp_path, seed=0)


def test_two_folders_that_do_not_fit(tmp_path: Path):
    """Two folders without a common name, and a pair of two sizes, are InvalidDataset."""
    data = PAIRS.model_copy(update={"train": ("drawn",), "targets": ("real",)})
    write(tmp_path / "drawn" / "one.png", gradient(40, 40))
    write(tmp_path / "real" / "two.png", gradient(40, 48))
    with pytest.raises(InvalidDataset, match="same name"):
        open_samples(data, tmp_path, seed=0)
    write(tmp_path / "real" / "one.png", gradient(40, 48))
    with pytest.raises(InvalidDataset, match=r"one\.png"):
        open_samples(data, tmp_path, seed=0)


@pytest.mark.parametrize("scale", [2, 4])
def test_low_resolution_is_antialiased_bicubic(data_root: Path, scale: int):
    """The low resolution is the crop reduced as Pillow's antialiased bicubic does, to one level."""
    sample = open_samples(PHOTOS, data_root, seed=0, scale=scale)[0]
    side = 32 // scale
    assert sample["low"].shape == (3, side, side)
    expected = resize(to_rgb(sample["high"]), side, side)
    assert np.abs(to_rgb(sample["low"]).astype(int) - expected).max() <= 1


def test_crops_are_pixels_of_the_photo(data_root: Path):
    """A super-resolution target is cut from the photo, turned and mirrored but never resampled."""
    photos = Pictures(data_root, ["warm"])
    levels = {tuple(pixel) for i in range(5) for pixel in photos[i].flatten(1).T.tolist()}
    samples = open_samples(PHOTOS, data_root, seed=0, scale=2)
    for k in range(5):
        assert {
            tuple(pixel) for pixel in to_rgb(samples[k]["high"]).reshape(-1, 3).tolist()
        } <= levels


def test_crops_of_reduced_photos(tmp_path: Path):
    """With `min_factor` a crop shows up to 1 / `min_factor` as much of a photo that is so large."""
    ramp = np.tile(np.arange(0, 240, 3, np.uint8)[:, None], (80, 1, 3))
    write(tmp_path / "warm" / "ramp.png", ramp)
    samples = open_samples(PHOTOS.model_copy(update={"min_factor": 0.25}), tmp_path, seed=0)
    crops = [to_rgb(samples[k]["high"]).astype(int) for k in range(50)]
    assert {crop.shape for crop in crops} == {(32, 32, 3)}
    slopes = [max(np.ptp(crop[8:25, 8], 0)[0], np.ptp(crop[8, 8:25], 0)[0]) / 16 for crop in crops]
    assert 3 <= min(slopes) < 3.5
    assert 7 < max(slopes) <= 7.6  # 80 of 32 pixels; factor 0.25 would need 128


def test_crops_of_resized_photos(tmp_path: Path):
    """With `max_load_px` the things in a crop come in every size from `load_px` to that."""
    ramp = np.tile(np.arange(0, 240, 3, np.uint8)[:, None, None], (1, 80, 3))
    write(tmp_path / "warm" / "ramp.png", ramp)
    data = CONTENT.model_copy(update={"load_px": 40, "max_load_px": 80})
    samples = open_samples(data, tmp_path, seed=0)
    crops = [to_rgb(samples[k]["content"]).astype(int) for k in range(50)]
    assert {crop.shape for crop in crops} == {(32, 32, 3)}
    slopes = [np.ptp(crop[8:25, 8, 0]) / 16 for crop in crops]
    assert 2.9 < min(slopes) < 3.2
    assert 5.6 < max(slopes) < 6.1


def test_style_image(data_root: Path, tmp_path: Path):
    """The style image keeps its proportions, its long side as asked, and must be there."""
    write(tmp_path / "style.png", gradient(30, 60))
    style = style_image(CONTENT.model_copy(update={"style_px": 80}), tmp_path)
    assert style.shape == (1, 3, 40, 80)
    assert style.abs().max() <= 1
    with pytest.raises(InvalidDataset, match=r"none\.png"):
        style_image(CONTENT.model_copy(update={"style": "none.png"}), data_root)


@pytest.mark.parametrize("every", [0, 3])
def test_held_out_faces_are_never_trained_on(tmp_path: Path, every: int):
    """An epoch of training and what the evaluation holds out are all faces, each once."""
    for index in range(7):
        write(tmp_path / "faces" / f"{index}.png", np.full((128, 128, 3), 30 * index, np.uint8))
    data = FacesData(kind="faces", train=("faces",), held_out=every)
    left_out = list(held_out(7, every))
    assert left_out == {0: [], 3: [0, 3, 6]}[every]
    samples = open_samples(data, tmp_path, seed=0)
    epoch = range(7 - len(left_out))
    trained = [round((float(samples[k]["face"].mean()) + 1) * 127.5 / 30) for k in epoch]
    assert sorted(trained + left_out) == list(range(7))


@pytest.mark.parametrize("poorer", [{"grey": 1.0}, {"coarse": 1.0}], ids=str)
def test_faces_of_poorer_photographs(tmp_path: Path, poorer: dict[str, float]):
    """A recipe can have faces without colour, or without detail, and those stay in their places."""
    noise = np.random.default_rng(0).integers(0, 128, (128, 128, 1), dtype=np.uint8)
    for name in ("0", "1"):
        write(tmp_path / "faces" / f"{name}.png", noise + np.array([0, 60, 120], np.uint8))
    data = FacesData(kind="faces", train=("faces",), held_out=2, flip=False)
    before = open_samples(data, tmp_path, seed=0)[0]["face"]
    after = open_samples(data.model_copy(update=poorer), tmp_path, seed=0)[0]["face"]
    spread = after.diff(dim=2).abs().mean() / before.diff(dim=2).abs().mean()
    colour = (after.amax(0) - after.amin(0)).mean()
    assert bool(colour == 0) is ("grey" in poorer)
    assert bool(spread < 0.7) is ("coarse" in poorer)


def test_faces_of_another_tone(tmp_path: Path):
    """A recipe can have skin of all tones; what has another colour stays, but for the light."""
    face = np.full((128, 128, 3), (40, 70, 200), np.uint8)
    face[20:120, 24:104] = (200, 150, 120)
    write(tmp_path / "faces" / "0.png", face)
    data = FacesData(kind="faces", train=("faces",), held_out=0, retoned=1.0)
    samples = open_samples(data, tmp_path, seed=0)
    drawn = torch.stack([samples[k]["face"] for k in range(200)]) / 2 + 0.5
    skin, wall = drawn[:, 0, 64, 64], drawn[:, 2, 5, 5]
    assert skin.min() < 0.3
    assert skin.max() > 0.75
    assert wall.min() > 0.5


def test_faces_at_the_border_of_a_picture(tmp_path: Path):
    """A recipe can have faces as in tight portraits: all of the face, and less around it."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    write(tmp_path / "faces" / "0.png", noise)
    data = FacesData(kind="faces", train=("faces",), held_out=0, flip=False)
    whole = open_samples(data, tmp_path, seed=0)[0]["face"]
    samples = open_samples(data.model_copy(update={"bordered": 1.0}), tmp_path, seed=0)
    drawn = torch.stack([samples[k]["face"] for k in range(20)])
    other = ((drawn - whole).abs() > 1 / 255).any(dim=1)
    face = face_mask(drawn, 0.97)[0, 0] > 0
    assert not other[:, face].any()
    assert 0.2 < other[:, ~face].float().mean() < 0.8
    assert len({tuple(at.sum((0, 1)).tolist()) for at in drawn}) > 10


def test_faces_of_portraits(tmp_path: Path):
    """Faces are found in photos and cut out so that their landmarks lie as those of all faces."""
    write(tmp_path / "faces" / "0.png", np.zeros((128, 128, 3), np.uint8))
    (tmp_path / "photos").mkdir()
    with get_sample_data("grace_hopper.jpg") as file:
        (tmp_path / "photos" / "hopper.jpg").write_bytes(file.read())
    write(tmp_path / "photos" / "nobody.png", gradient(200, 200))
    data = FacesData(
        kind="faces",
        train=("faces",),
        portraits=("photos",),
        portrait_share=0.5,
        held_out=0,
        landmarks=True,
    )
    samples = open_samples(data, tmp_path, seed=0)
    drawn = [samples[k] for k in range(20)]
    of_portraits = [sample for sample in drawn if sample["face"].std() > 0]
    assert 4 <= len(of_portraits) <= 16
    for sample in of_portraits:
        assert (sample["landmarks"] - torch.tensor(LANDMARKS)).abs().max() < 5


def test_portraits_without_a_face(tmp_path: Path):
    """Portraits in which no face is found are named as the reason, not trained on."""
    write(tmp_path / "faces" / "0.png", np.zeros((128, 128, 3), np.uint8))
    write(tmp_path / "photos" / "nobody.png", gradient(200, 200))
    data = FacesData(kind="faces", train=("faces",), portraits=("photos",), held_out=0)
    with pytest.raises(InvalidDataset, match="portraits"):
        open_samples(data, tmp_path, seed=0)


def test_holding_out_every_face(tmp_path: Path):
    """A recipe whose evaluation takes every face says so instead of training on none."""
    write(tmp_path / "faces" / "0.png", np.zeros((128, 128, 3), np.uint8))
    data = FacesData(kind="faces", train=("faces",), held_out=1)
    with pytest.raises(InvalidDataset, match="held_out"):
        open_samples(data, tmp_path, seed=0)


@pytest.fixture(params=[PAIRS, UNPAIRED, PHOTOS, CONTENT], ids=lambda data: data.kind)
def samples(request: pytest.FixtureRequest, data_root: Path) -> Samples:
    """Samples of each kind."""
    data: Data = request.param
    return open_samples(data, data_root, seed=3, scale=2)


def test_samples_are_pure(samples: Samples):
    """Sample k depends on seed and k alone, and drawing it leaves the global generator alone."""
    first = [samples[k] for k in range(7)]
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert all(equal(samples[k], first[k]) for k in reversed(range(7)))
    assert torch.equal(torch.get_rng_state(), before)
    assert not equal(first[0], first[5])  # the same picture an epoch later, cut elsewhere


def test_seeds_differ(data_root: Path):
    """Another seed gives other samples."""
    one, other = (open_samples(UNPAIRED, data_root, seed=seed) for seed in (1, 2))
    assert not any(equal(one[k], other[k]) for k in range(5))


def test_seeds_draw_otherwise():
    """Crops, mirrors and turns differ, too, between seeds and between samples."""

    class Draws(Samples):
        def draw(self, k: int) -> dict[str, torch.Tensor]:
            return {"drawn": torch.rand(())}

    drawn = {float(Draws(seed)[k]["drawn"]) for seed in range(9) for k in range(9)}
    assert len(drawn) == 81


def test_every_picture_once_an_epoch(data_root: Path):
    """Each pass over the data shows every picture once, in another order."""
    samples = open_samples(PHOTOS.model_copy(update={"crop_px": 40}), data_root, seed=0, scale=2)
    colours = [round(float(samples[k]["high"].double().mean()), 5) for k in range(15)]
    passes = [colours[start : start + 5] for start in (0, 5, 10)]
    assert len(set(colours)) == 5
    assert all(sorted(one) == sorted(passes[0]) for one in passes)
    assert len(set(map(tuple, passes))) > 1


def test_workers_change_nothing(samples: Samples):
    """The batches are the same bits however many processes load them."""
    here, loaded = (batches(samples, 2, 0, 3, workers, 0, 1) for workers in (0, 2))
    assert all(equal(one, other) for one, other in zip(here, loaded, strict=True))


@given(
    batch=st.integers(1, 3),
    ranks=st.integers(1, 3),
    first=st.integers(0, 3),
    count=st.integers(1, 3),
)
def test_ranks_share_the_samples(batch: int, ranks: int, first: int, count: int):
    """From any first step on, the ranks together see each sample once, in order."""

    class Numbers(Samples):
        def draw(self, k: int) -> Sample:
            return {"k": torch.tensor(k)}

    streams = [
        batches(Numbers(0), batch, first, first + count, 0, rank, ranks) for rank in range(ranks)
    ]
    seen = [int(k) for step in zip(*streams, strict=True) for one in step for k in one["k"]]
    assert seen == list(range(first * ranks * batch, (first + count) * ranks * batch))


def test_batches_draw_no_global_randomness(samples: Samples):
    """Starting to load leaves the global generator as it was, or a resume would differ."""
    before = torch.get_rng_state()
    list(islice(batches(samples, 1, 0, 2, 0, 0, 1), 2))
    assert torch.equal(torch.get_rng_state(), before)
