"""`anamorph anonymize` and `restore`: the same without a server."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli import app as commands
from grace import PASSCODE, PNG, rgb
from tiny import publish_models


def anamorph(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.mark.usefixtures("without_openvino")
def test_the_command_line_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`anamorph anonymize` with a passcode file, then `restore`, gives the picture back."""
    monkeypatch.setenv("ANAMORPH_SHIPPED_WEIGHTS", str(tmp_path / "no weights"))
    monkeypatch.setenv("ANAMORPH_THREADS", "1")
    publish_models(Path(os.environ["ANAMORPH_HOME"]), ("face-identity",))
    source, hidden, back = (tmp_path / name for name in ("in.png", "hidden.png", "back.png"))
    passcode = tmp_path / "passcode"
    source.write_bytes(PNG)
    passcode.write_text(PASSCODE + "\n")
    code, output = anamorph("anonymize", source, hidden, "--passcode-file", passcode)
    assert code == 0, output
    assert "1 face, 0 uncertain, generate" in output
    assert not np.array_equal(rgb(hidden.read_bytes()), rgb(PNG))
    code, output = anamorph("restore", hidden, back, "--passcode-file", passcode)
    assert code == 0, output
    np.testing.assert_array_equal(rgb(back.read_bytes()), rgb(PNG))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "smear"), "method"),
        (("--faces", "nowhere"), "faces"),
        (("--method", "blur", "--faces", "[[0, 0, 900, 9]]"), "faces"),
        ((), "no such model"),
    ],
)
def test_mistakes_on_the_command_line_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: str
) -> None:
    """What cannot be done is said in a line, and nothing is written."""
    monkeypatch.setenv("ANAMORPH_SHIPPED_WEIGHTS", str(tmp_path / "no weights"))
    source = tmp_path / "in.png"
    source.write_bytes(PNG)
    code, output = anamorph("anonymize", source, tmp_path / "out.png", *options)
    assert code in (1, 2)
    assert words in output
    assert "Traceback" not in output
    assert not (tmp_path / "out.png").exists()
