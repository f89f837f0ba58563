"""`anamorph evaluate`: every kind of model beside what can be had without it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app.cli import app as commands
from models import images
from models.checkpoint import Header, LoadedGenerator, load_generator, save_generator
from models.errors import InvalidDataset, InvalidRecipe
from models.evaluation import figures, metrics, quality
from models.evaluation.data import upscale_test_pictures
from models.evaluation.figures import evaluate
from models.evaluation.protocols import Table, mean_colours
from models.families import family
from models.features import VGG16
from models.images import Pixels
from models.recipe import load_recipe
from models.registry import Registry
from tiny_training import tiny_recipe, write_data, write_vgg16

RECIPES = sorted((Path(__file__).resolve().parents[1] / "recipes").rglob("*.toml"))
UNPAIRED = {"source": "warm", "target": "cold", "reference": "cold"}
TESTS: dict[str, Any] = {
    "pix2pix": {"test": "pairs"},
    "pix2pix-colours": {"sets": ["cold"]},
    "cyclegan": {"AtoB": UNPAIRED},
    "srgan-regression": {"sets": ["bench"]},
    "srgan-adversarial": {"sets": ["bench"]},
    "style": {"photos": "warm", "limit": 1, "starts": ["photo", "noise"]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with every kind of test folder, and VGG16's weights, random."""
    root = tmp_path_factory.mktemp("data")
    write_data(root, count=6)
    for high in sorted((root / "warm").iterdir()):
        original = images.decode(high.read_bytes(), images.Limits()).rgb
        for folder, px in (("HR", 40), ("LRbicx2", 20)):
            path = root / "bench" / folder / high.name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = images.Picture(images.resize(original, px, px), None, "png")
            path.write_bytes(images.encode(picture, "png"))
    write_vgg16(root / "vgg16.safetensors", metrics.KID_LAYER)
    return root


@pytest.fixture(autouse=True)
def _small_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "KID_PX", 32)


def test_reduced_pictures_are_those_of_their_names(tmp_path: Path):
    """Originals and reduced pictures belong together by name, however their names sort."""
    reduced = {"img_1": "img_1x2", "img_10": "img_10x2", "x2": "x2"}
    for index, (name, small) in enumerate(reduced.items()):
        for path, px in ((f"HR/{name}", 8), (f"LRbicx2/{small}", 4)):
            picture = images.Picture(np.full((px, px, 3), 50 * index, np.uint8), None, "png")
            file = tmp_path / f"{path}.png"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(images.encode(picture, "png"))
    low, high = upscale_test_pictures(tmp_path, ".", 2)
    assert [one.shape[0] for one in low + high] == [4] * 3 + [8] * 3
    assert [one.max() for one in low] == [one.max() for one in high] == [0, 50, 100]
    assert len(upscale_test_pictures(tmp_path, ".", 2, limit=2)[0]) == 2


@pytest.mark.parametrize(("side_px", "fits"), [(8, True), (9, True), (10, False), (7, False)])
def test_originals_are_cropped_to_what_was_reduced(tmp_path: Path, side_px: int, fits: bool):
    """What of an original is less than a pixel of the reduced picture goes; more is refused."""
    for folder, px in (("HR", side_px), ("LRbicx2", 4)):
        (tmp_path / folder).mkdir()
        picture = images.Picture(np.zeros((px, px, 3), np.uint8), None, "png")
        (tmp_path / folder / "one.png").write_bytes(images.encode(picture, "png"))
    if fits:
        assert upscale_test_pictures(tmp_path, ".", 2)[1][0].shape == (8, 8, 3)
    else:
        with pytest.raises(InvalidDataset, match=r"one\.png"):
            upscale_test_pictures(tmp_path, ".", 2)


def model_file(folder: Path, stage: str, tests: Any = None, **changes: Any) -> Path:
    """Write an untrained model with the card that the training of a changed recipe writes."""
    recipe = tiny_recipe(stage).model_copy(update=changes)
    config = recipe.generator_config()
    card = {"recipe": recipe.model_dump(mode="json", exclude={"card"})}
    card["evaluation"] = TESTS[stage] if tests is None else tests
    torch.manual_seed(0)
    path = folder / "model.safetensors"
    header = Header(
        family=recipe.family,
        generator=config.model_dump(),
        name=next(iter(recipe.models.values())),
        card=card,
    )
    save_generator(path, family(recipe.family).build_generator(config).eval(), header)
    return path


def measured(path: Path, data: Path, **options: Any) -> Table:
    """The one table of a model."""
    loaded = load_generator(path)
    (table,) = evaluate(loaded, data, features=data / "vgg16.safetensors", **options)
    return table


@pytest.mark.parametrize("stage", ["pix2pix-colours", "srgan-regression"])
def test_each_set_has_its_table(tmp_path: Path, data: Path, stage: str) -> None:
    """What is tested on several sets is told of each, in the order of the card."""
    sets = ["cold", "warm"]
    loaded = load_generator(model_file(tmp_path, stage, tests={"sets": sets}))
    tables = evaluate(loaded, data, limit=1)
    assert [table.title.split(":")[0].split(",")[0] for table in tables] == sets


@pytest.mark.parametrize(
    ("stage", "columns", "baselines"),
    [
        ("pix2pix", ["L1", "KID", "+-"], ["unchanged", "input colour", "two halves"]),
        ("pix2pix-colours", ["chroma", "colourfulness"], ["grey", "mean chroma", "the photos"]),
        ("cyclegan", ["KID", "+-"], ["unchanged", "real against real"]),
        ("srgan-regression", ["PSNR", "SSIM", "perceptual"], ["bicubic"]),
        ("style", ["objective", "/ photo", "/ noise"], ["from the photo", "noise", "unchanged"]),
    ],
)
def test_every_kind_of_model(tmp_path: Path, data: Path, stage: str, columns: Any, baselines: Any):
    """A model's figures come first, then its baselines', each column with its protocol."""
    path = model_file(tmp_path, stage)
    table = measured(path, data, steps=1)
    assert list(table.protocols) == columns
    name, *rest = table.rows
    assert name == load_generator(path).header.name
    assert all(words in row for words, row in zip(baselines, rest, strict=True))
    assert json.loads(json.dumps(table.as_card()))["rows"][name].keys() == table.protocols.keys()
    assert all(f"{column}: {how}" in str(table) for column, how in table.protocols.items())


def test_two_pictures_to_train_on_are_no_yardstick(tmp_path: Path, data: Path):
    """Too few real pictures for their own distance leave that out, and the model's is told."""
    two = data / "two"
    two.mkdir()
    for file in sorted((data / "cold").iterdir())[:2]:
        (two / file.name).symlink_to(file)
    path = model_file(tmp_path, "cyclegan", {"AtoB": UNPAIRED | {"reference": "two"}})
    assert list(measured(path, data).rows)[1:] == ["input unchanged"]


def test_figures_are_of_the_pictures(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch):
    """A translation that is right has an L1 of zero and the kernel distance of real pictures."""
    monkeypatch.setattr(figures, "answerer", lambda *_: lambda warm: 255 - warm)
    table = measured(model_file(tmp_path, "pix2pix"), data)
    (l1, distance, error), unchanged, mean_colour, _ = table.rows.values()
    assert l1 == 0
    assert distance is not None
    assert error is not None
    assert distance <= error
    assert mean_colour[0] < unchanged[0]  # type: ignore[operator]


@pytest.mark.parametrize("stage", ["pix2pix", "cyclegan"])
def test_the_kernel_distance_is_between_answers_and_targets(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, stage: str
):
    """Of a translation that paints all pictures alike, the kernel distance sees those."""
    seen = []
    embed = metrics.embed

    def watched(pictures: Iterable[Pixels], features: VGG16) -> torch.Tensor:
        listed = list(pictures)
        seen.append([picture.mean() for picture in listed])
        return embed(listed, features)

    monkeypatch.setattr(metrics, "embed", watched)
    monkeypatch.setattr(figures, "answerer", lambda *_: lambda warm: np.full_like(warm, 77))
    measured(model_file(tmp_path, stage), data)
    warm, cold = (
        [images.decode(file.read_bytes(), images.Limits()).rgb.mean() for file in files]
        for files in (sorted((data / folder).iterdir()) for folder in ("warm", "cold"))
    )
    assert seen[:3] == [pytest.approx(cold), [77] * 6, pytest.approx(warm)]


@pytest.mark.parametrize(("limit", "count"), [(3, 3), (99, 6)])
def test_the_limit(tmp_path: Path, data: Path, limit: int, count: int):
    """A limit takes that many pictures of a folder, or all there are."""
    path = model_file(tmp_path, "srgan-regression")
    (table,) = evaluate(load_generator(path), data, limit=limit)
    assert f"{count} pictures" in table.title


def test_the_features_of_the_recipe(tmp_path: Path, data: Path):
    """VGG16 weights that a recipe names come before those of the command line."""
    path = model_file(tmp_path, "srgan-regression", features="vgg16.safetensors")
    (table,) = evaluate(load_generator(path), data, features=tmp_path / "none.safetensors")
    assert list(table.protocols) == ["PSNR", "SSIM", "perceptual"]


def test_upscalers_need_no_card(tmp_path: Path, data: Path):
    """An upscaler from elsewhere is measured on the usual sets, without VGG16 if there is none."""
    path = model_file(tmp_path, "srgan-regression", {})
    with pytest.raises(InvalidDataset, match="sr_bench/Set5"):
        evaluate(load_generator(path), data)
    (table,) = evaluate(load_generator(model_file(tmp_path, "srgan-regression")), data)
    assert list(table.protocols) == ["PSNR", "SSIM"]


@pytest.mark.parametrize(
    ("stage", "tests", "words"),
    [
        ("pix2pix", {}, "test: Field required"),
        ("pix2pix", {"test": "pairs", "tset": 1}, "tset"),
        ("cyclegan", {"BtoA": UNPAIRED}, "source: Field required"),
    ],
)
def test_a_card_that_does_not_say(tmp_path: Path, data: Path, stage: str, tests: Any, words: str):
    """A card without its test folders is refused with the key that is missing or wrong."""
    with pytest.raises(InvalidRecipe, match=words):
        measured(model_file(tmp_path, stage, tests), data)


def test_a_card_without_recipe(tmp_path: Path, data: Path):
    """A translation from elsewhere has no test data, which is said."""
    loaded = load_generator(model_file(tmp_path, "pix2pix"))
    header = loaded.header.model_copy(update={"card": {}})
    bare = LoadedGenerator(loaded.family, loaded.config, loaded.module, header, loaded.sha256)
    with pytest.raises(InvalidRecipe, match="no recipe"):
        evaluate(bare, data)


def test_mean_colours_of_a_noisy_label_map():
    """Each label colour gets the mean colour of its pixels, though compression blurs the label."""
    random = np.random.default_rng(0)
    labels = np.array([(0, 0, 170), (255, 85, 0)])[random.integers(0, 2, (30, 30))]
    photo = np.where(labels[..., :1] > 100, (200, 100, 50), (20, 40, 60)).astype(np.uint8)
    noisy = (labels + random.integers(-40, 41, labels.shape)).clip(0, 255).astype(np.uint8)
    colours = mean_colours([(noisy, photo)])
    assert colours[0b000010].tolist() == [20, 40, 60]
    assert colours[0b110100].tolist() == [200, 100, 50]
    assert np.abs(colours[0b111111] - photo.mean((0, 1))).max() < 1


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_project_name_their_tests(path: Path, shared: Path):
    """Every recipe's card names test folders that exist and that it does not train on."""
    recipe = load_recipe(path)
    table = recipe.card["evaluation"]
    tables = table.values() if recipe.data.kind == "unpaired" else [table]
    training = set(getattr(recipe.data, "train", ())) | set(getattr(recipe.data, "a", ()))
    for test in tables:
        named = {
            key: value
            for key, value in test.items()
            if key not in ("limit", "side_px", "reference", "starts")
        }
        folders = named.pop("sets", None) or list(named.values())
        assert folders
        assert not training & set(folders)
        assert all((shared / "data" / folder).is_dir() for folder in folders)


def test_the_command(tmp_path: Path, data: Path):
    """`anamorph evaluate` prints the table of a file."""
    path = model_file(tmp_path, "srgan-regression")
    result = CliRunner().invoke(commands, ["evaluate", str(path), "--data", str(data)])
    assert result.exit_code == 0, result.output
    assert "bench, x2: 6 pictures" in result.output
    assert "bicubic (Pillow)" in result.output
    missing = CliRunner().invoke(commands, ["evaluate", "no-such", "--data", str(data)])
    assert missing.exit_code == 1


def test_other_files_beside_a_model(tmp_path: Path, data: Path):
    """`--beside` measures more files on the same pictures: a row each, by its path if need be."""
    files = []
    for folder, stage in (("a", "srgan-regression"), ("b", "srgan-regression"), ("c", "style")):
        (tmp_path / folder).mkdir()
        files.append(str(model_file(tmp_path / folder, stage)))
    first, second, style = files
    command = ["evaluate", first, "--data", str(data), "--record", "--beside"]
    result = CliRunner().invoke(commands, [*command, second])
    assert result.exit_code == 0, result.output
    name, row, *_ = load_generator(Path(first)).header.card["metrics"][0]["rows"]
    assert (name, row) == (load_generator(Path(first)).header.name, second)
    assert CliRunner().invoke(commands, [*command, style]).exit_code == 2


def test_every_model_in_one_table(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch):
    """`evaluate --all` compares all models; its page shows what they make of their test data.

    Where nothing can be measured, the page stays as it was.
    """
    monkeypatch.setenv("ANAMORPH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANAMORPH_SHIPPED_WEIGHTS", str(tmp_path / "none"))
    registry = Registry(tmp_path / "home", tmp_path / "none")
    for stage, name in (("srgan-regression", "srresnet-x4"), ("cyclegan", "cyclegan")):
        registry.publish(model_file(tmp_path, stage), name)
        registry.promote(name, 1)
    features, page = data / "vgg16.safetensors", tmp_path / "docs" / "quality.md"
    page.parent.mkdir()
    options = ["--data", str(data), "--features", str(features), "--page", str(page)]
    result = CliRunner().invoke(commands, ["evaluate", "--all", *options])
    assert result.exit_code == 0, result.output
    assert "srresnet-x4  bench, x2: 6 pictures" in result.output
    assert "KID" in result.output
    text = page.read_text()
    for name in ("srresnet-x4", "cyclegan"):
        assert f"](images/quality-{name}.jpg)" in text
        sheet = (page.parent / "images" / f"quality-{name}.jpg").read_bytes()
        assert images.decode(sheet, images.Limits()).rgb.shape == (320, 640, 3)
    recorded = CliRunner().invoke(commands, ["evaluate", "--all"])
    assert "its card has no figures" in recorded.output
    shown = CliRunner().invoke(commands, ["evaluate", "--all", "--recorded", *options])
    assert "KID" not in shown.output
    assert page.read_text().count("](images/") == 2
    (elsewhere := tmp_path / "elsewhere").mkdir()
    wrong = ["--data", str(elsewhere), "--features", str(features), "--page", str(page)]
    assert CliRunner().invoke(commands, ["evaluate", "--all", *wrong]).exit_code == 1
    assert page.read_text().count("](images/") == 2


def test_published_figures_stand_beside_ours():
    """The SRGAN paper's Set5 figure is shown for the model of that name, and bicubic's beside."""
    table = Table(
        "sr_bench/Set5, x4: 5 pictures",
        {"PSNR": "dB", "SSIM": "of planes"},
        {"srresnet-x4": (31.0, 0.88), "bicubic (Pillow)": (28.43, 0.81)},
    )
    psnr, ssim = quality.figures_of("srresnet-x4", [table.as_card()])
    assert (psnr.ours, psnr.published, psnr.baseline) == (31.0, 32.05, 28.43)
    assert (ssim.ours, ssim.published, ssim.baseline) == (0.88, None, 0.81)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["srresnet-x4", "--all"],
        ["srresnet-x4"],
        ["--all", "--record"],
        ["wave", "--recorded"],
        ["--all", "--beside", __file__],
    ],
    ids=["nothing", "one and all", "no data", "record all", "recorded one", "beside all"],
)
def test_contradictions_are_refused(words: list[str]):
    """`evaluate` says what it lacks instead of guessing."""
    assert CliRunner().invoke(commands, ["evaluate", *words]).exit_code == 2
