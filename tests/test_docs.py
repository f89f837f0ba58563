"""The documents, held against the code that they describe."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from app.cli import app
from app.error_codes import INTERNAL, KINDS, OUT_OF_MEMORY
from app.retraining.training_requests import DEFAULTS
from app.settings import Settings
from conftest import ROOT
from models.recipe import TrainingConfig, parse_recipe

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def _id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link and picture of a document leads to a file of the repository."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    missing = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_commands_exist(document: Path) -> None:
    """Every `anamorph` command line of a document names a command and options that exist."""
    for line in re.findall(r"^(?:\.venv/bin/)?(anamorph .*)$", document.read_text(), re.MULTILINE):
        words = shlex.split(line.replace("\\", ""), comments=True)[1:]
        command = typer.main.get_command(app)
        while isinstance(command, TyperGroup):
            assert words, line
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        known = {"--help"}.union(*(p.opts + p.secondary_opts for p in command.params))
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, line


def test_every_setting_is_documented() -> None:
    """docs/operations.md lists every setting by its variable, and no other."""
    text = (ROOT / "docs" / "operations.md").read_text()
    listed = re.findall(r"^\| `ANAMORPH_([A-Z0-9_]+)`", text, re.MULTILINE)
    assert sorted(name.lower() for name in listed) == sorted(Settings.model_fields)


def test_every_error_code_is_documented() -> None:
    """docs/api.md lists the status and code of every error that the service can answer with."""
    rows = re.findall(
        r"^\| (\d{3}) \| `(\w+)`", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE
    )
    kinds = {(kind.status, kind.code) for kind in (*KINDS.values(), INTERNAL, OUT_OF_MEMORY)}
    documented = {(int(status), code) for status, code in rows}
    assert documented >= kinds


def test_defaults_of_trainings_are_documented() -> None:
    """docs/api.md has every family's steps, batch, rate, crop and short side, as they are."""
    rows = re.findall(
        r"^\| `\w+`.*? \| (\d+) \| (\d+)\D*? \| ([\de-]+) \| (\d+)(?: of (\d+))? px \|",
        (ROOT / "docs" / "api.md").read_text(),
        re.MULTILINE,
    )
    documented = [tuple(float(number or 0) for number in row) for row in rows]
    assert documented == [
        (
            *(known["training"][key] for key in ("steps", "batch", "learning_rate")),
            known["data"]["crop_px"],
            known["data"].get("load_px", 0),
        )
        for known in DEFAULTS.values()
    ]


def test_recipes_in_the_documents_are_recipes() -> None:
    """Every complete recipe of docs/recipes.md is one that can be trained."""
    blocks = re.findall(r"```toml\n(.+?)```", (ROOT / "docs" / "recipes.md").read_text(), re.DOTALL)
    recipes = [parse_recipe(tomllib.loads(block)) for block in blocks if "kind =" in block]
    assert [recipe.family for recipe in recipes] == ["style"]


def test_every_training_key_is_documented() -> None:
    """docs/recipes.md names every key of a recipe's [training] table."""
    text = (ROOT / "docs" / "recipes.md").read_text()
    table = text[text.index("### [training]") :].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\|([^|]+)\|", table, re.MULTILINE))))
    assert named == set(TrainingConfig.model_fields)
