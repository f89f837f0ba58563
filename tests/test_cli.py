"""The command line, without a server."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from app.cli import app as commands
from app.installation import code_version
from models.checkpoint import amend_card
from models.registry import Registry
from tiny import encoded, photo, publish_models


@pytest.fixture(autouse=True)
def _own_models_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, without_openvino: None
) -> None:
    monkeypatch.setenv("ANAMORPH_SHIPPED_WEIGHTS", str(tmp_path / "no weights"))


def anamorph(*arguments: object) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


def test_the_version() -> None:
    """`anamorph --version` names what is installed."""
    assert anamorph("--version").output.split() == ["anamorph", code_version()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    path.write_bytes(encoded(photo(12, 20)))
    return path


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (("translate", "--model", "facades"), (20, 12)),
        (("upscale", "--scale", "3"), (60, 36)),
        (("stylize", "--style", "starry-night", "--strength", "0.5", "--keep-colors"), (20, 12)),
    ],
)
def test_pictures_are_answered_without_a_server(
    tmp_path: Path, source: Path, arguments, size
) -> None:
    """Each image command reads a picture and writes the answer in the format of the suffix."""
    publish_models(Path(os.environ["ANAMORPH_HOME"]), ("facades", "srresnet-x4", "starry-night"))
    target = tmp_path / "out.webp"
    command, *options = arguments
    result = anamorph(command, source, target, *options)
    assert result.exit_code == 0, result.output
    with Image.open(target) as image:
        assert (image.format, image.size) == ("WEBP", size)
    assert [path.name for path in tmp_path.glob("*out.webp*")] == ["out.webp"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("translate", "--model", "nothing"), "no such model"),
        (("upscale",), "no upscaler"),
        (("translate", "--model", "../x"), "model"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path: Path, source: Path, arguments, words: str) -> None:
    """A command that cannot be done says why, without a traceback, and fails."""
    command, *options = arguments
    result = anamorph(command, source, tmp_path / "out.png", *options)
    assert result.exit_code in (1, 2)
    assert words in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DRAIN_S", "31", "drain_s = 31 is longer than shutdown_timeout_s = 30"),
        ("DATABASE_URL", "sqlitefoo", "database_url: it is not of the form postgresql://"),
        ("DATABASE_URL", "mysql://secret@host/database", "database_url: it is not of the form"),
        ("CORS_ORIGINS", "https://a.example,https://*.b.example", "cors_origins: 'https://*.b"),
        ("HOME", "~nobody-of-that-name/x", "home: "),
        ("FACE_DETECTOR", "~/no such file", "face_detector: "),
        ("VGG16", "~/no such file", "vgg16: "),
    ],
)
def test_mistaken_settings_are_told(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    """A setting that could not work is refused in a line that says why."""
    monkeypatch.setenv(f"ANAMORPH_{name}", value)
    result = anamorph("models", "list")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert result.output.startswith(words)
    assert "secret" not in result.output


def test_what_there_is_is_told(tmp_path: Path, source: Path) -> None:
    """A misspelt model is answered with those there are, a GPU that is missing in so many words."""
    publish_models(Path(os.environ["ANAMORPH_HOME"]), ("facades", "starry-night"))
    misspelt = anamorph("stylize", source, tmp_path / "out.png", "--style", "starry")
    assert (misspelt.exit_code, "facades, starry-night" in misspelt.output) == (1, True)
    if not torch.cuda.is_available():
        for command in (("serve",), ("worker",), ("upscale", source, tmp_path / "out.png")):
            refused = anamorph(*command, "--device", "cuda")
            assert (refused.exit_code, "no GPU" in refused.output) == (1, True)


def test_the_output_file(tmp_path: Path, source: Path) -> None:
    """The output's folder is asked for first; who may read a file that is written anew stays."""
    publish_models(Path(os.environ["ANAMORPH_HOME"]), ("facades",))
    missing = tmp_path / "nowhere" / "out.png"
    result = anamorph("translate", source, missing, "--model", "facades")
    assert (result.exit_code, "no folder" in result.output) == (2, True)
    target, link = tmp_path / "out.png", tmp_path / "link.png"
    target.write_bytes(b"")
    target.chmod(0o600)
    link.symlink_to(target)
    assert anamorph("translate", source, link, "--model", "facades").exit_code == 0
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.stat().st_size > 0


def test_a_damaged_picture_is_told(tmp_path: Path, source: Path) -> None:
    """A picture that does not decode is named as damaged."""
    publish_models(Path(os.environ["ANAMORPH_HOME"]), ("srresnet-x4",))
    source.write_bytes(source.read_bytes()[:60])
    result = anamorph("upscale", source, tmp_path / "out.png")
    assert result.exit_code == 1
    assert "damaged" in result.output


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".tiff", ".TIFF"])
def test_gif_and_tiff_are_written(tmp_path: Path, suffix: str) -> None:
    """A GIF or TIFF with clear pixels is answered in the same format, clear where it was."""
    publish_models(Path(os.environ["ANAMORPH_HOME"]), ("srresnet-x4",))
    image = photo(12, 16, "RGBA")
    image.putalpha(255)
    image.paste((0, 0, 0, 0), (0, 0, 8, 12))
    kind = {".gif": "gif"}.get(suffix, "tiff")
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    source.write_bytes(encoded(image, kind))
    result = anamorph("upscale", source, target)
    assert result.exit_code == 0, result.output
    with Image.open(target) as answer:
        assert (answer.format, answer.size) == (kind.upper(), (64, 48))
        alpha = np.asarray(answer.convert("RGBA"))[..., 3]
    assert alpha[:, :24].max() < 8
    assert alpha[:, 40:].min() > 247


def test_an_unknown_suffix_is_told(tmp_path: Path, source: Path) -> None:
    """The suffix of the output must be one of the formats."""
    result = anamorph("upscale", source, tmp_path / "out.bmp")
    assert result.exit_code == 2
    assert ".webp" in result.output


def test_models_are_imported_and_listed(tmp_path: Path) -> None:
    """`models import` publishes a file of this project and `models list` shows what serves."""
    other = tmp_path / "other"
    publish_models(other, ("starry-night",))
    [file] = (other / "models").glob("*/*.safetensors")
    result = anamorph("models", "import", file, "--name", "night")
    assert result.exit_code == 0, result.output
    assert "night@1: style, does stylize" in result.output
    listed = anamorph("models", "list").output
    assert listed.startswith("* night@1")
    assert anamorph("models", "card", "night").output.startswith("# night\n")


def test_an_import_belongs_to_nobody(tmp_path: Path) -> None:
    """Whose a file was does not count: a new model is everybody's, a further version its name's."""
    home = Path(os.environ["ANAMORPH_HOME"])
    publish_models(home, ("starry-night",))
    registry = Registry(home, tmp_path / "no weights")
    file = shutil.copyfile(registry.resolve("starry-night").path, tmp_path / "bobs.safetensors")
    amend_card(file, {"lineage": {"owner": "ann"}})
    registry.publish(file, "anns")
    amend_card(file, {"lineage": {"owner": "bob", "base": "wave@1"}})
    for name, owner in (("night", None), ("starry-night", None), ("anns", "ann")):
        result = anamorph("models", "import", file, "--name", name)
        assert result.exit_code == 0, result.output
        assert "bob" not in result.output
        found = registry.resolve(name)
        assert (found.owner, found.lineage.get("owner")) == (owner, owner)
        assert found.lineage["base"] == "wave@1"


@pytest.mark.parametrize(("key", "value"), [("card", {"licence": ["CC0"]}), ("format", 2)])
def test_a_header_that_is_not_understood_is_told(tmp_path: Path, key: str, value: Any) -> None:
    """A file of this project that says what it should not is refused for that, not as foreign."""
    home = Path(os.environ["ANAMORPH_HOME"])
    publish_models(home, ("starry-night",))
    source = Registry(home, tmp_path).resolve("starry-night")
    header = source.header.model_dump() | {key: value}
    save_file(
        load_file(source.path), tmp_path / "odd.safetensors", {"anamorph": json.dumps(header)}
    )
    result = anamorph("models", "import", tmp_path / "odd.safetensors", "--name", "odd")
    assert (result.exit_code, key in result.output) == (1, True)
    assert "layout" not in result.output
    assert "odd@" not in anamorph("models", "list").output


def test_foreign_checkpoints_are_imported(tmp_path: Path, shared: Path) -> None:
    """A state dict of another project is recognised and published, by what can be a name."""
    golden = load_file(shared / "golden" / "srresnet-nobn-x4.safetensors")
    state = {key.removeprefix("net."): value for key, value in golden.items() if "net." in key}
    torch.save({"params": state}, tmp_path / "theirs.pth")
    refused = anamorph("models", "import", tmp_path / "theirs.pth", "--name", "Mine")
    assert (refused.exit_code, "'Mine' is no model name" in refused.output) == (1, True)
    result = anamorph("models", "import", tmp_path / "theirs.pth", "--name", "mine")
    assert result.exit_code == 0, result.output
    assert "mine@1: srgan, does upscale" in result.output


def test_unknown_checkpoints_are_refused(tmp_path: Path) -> None:
    """A checkpoint that is not recognised is refused, and its keys are named."""
    save_file({"strange.weight": torch.zeros(3)}, tmp_path / "unknown.safetensors")
    result = anamorph("models", "import", tmp_path / "unknown.safetensors", "--name", "mine")
    assert result.exit_code == 1
    assert "strange.weight" in result.output
