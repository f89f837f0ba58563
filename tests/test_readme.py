"""The README's commands, run as a reader would."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from matplotlib.cbook import get_sample_data

from conftest import ROOT
from models.images import Limits, Picture, decode, encode

pytestmark = pytest.mark.long
README = (ROOT / "README.md").read_text()
LINES = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CURLS = [line for line in LINES if line.startswith("curl ")]
RETRAINING = next(k for k, line in enumerate(CURLS) if line.endswith("/v1/datasets"))
IMAGES, LOOP = CURLS[:RETRAINING], CURLS[RETRAINING:]
WIDTH, HEIGHT = 72, 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder with a photo in it: smooth shapes, a little noise, odd sides."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / 10.0
    waves = np.stack([np.sin(x + y), np.cos(x - y), np.sin(2 * x)], axis=-1)
    noise = np.random.default_rng(0).normal(0, 4, waves.shape)
    rgb = np.clip(127 + 90 * waves + noise, 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("reader")
    (path / "photo.jpg").write_bytes(encode(Picture(rgb, None, "jpeg"), "jpeg"))
    (path / "portrait.jpg").write_bytes(_portrait())
    with zipfile.ZipFile(path / "photos.zip", "w") as photos:
        for number in range(8):
            turned = np.roll(np.tile(rgb, (3, 2, 1)), 9 * number, axis=1)
            picture = Picture(np.ascontiguousarray(turned), None, "jpeg")
            photos.writestr(f"{number}.jpg", encode(picture, "jpeg"))
    return path


def _portrait() -> bytes:
    """Rear Admiral Grace Hopper, as matplotlib brings her."""
    with get_sample_data("grace_hopper.jpg") as file:
        data: bytes = file.read()
    return data


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a ready `anamorph serve`, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free_port: int = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    settings = {"HOME": str(home), "DEVICE": "cpu"}
    environment = os.environ | {f"ANAMORPH_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(free_port)]
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=output)
        try:
            _wait_until_ready(process, free_port, log)
            yield free_port
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == httpx.codes.OK:
                return
        time.sleep(0.2)
    pytest.fail(f"anamorph serve did not become ready:\n{log.read_text()}")


def _run_curl(line: str, folder: Path, port: int) -> bytes:
    """Run one line of the README against `port`; return what it printed or saved."""
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    words = shlex.split(line.replace("localhost:8000", f"127.0.0.1:{port}"))
    done = subprocess.run(
        [*words, "-sS"], check=False, cwd=folder, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    return (folder / words[words.index("-o") + 1]).read_bytes() if "-o" in words else done.stdout


@pytest.mark.parametrize(
    ("endpoint", "scale"), [("/v1/translate", 1), ("/v1/upscale", 4), ("/v1/stylize", 1)]
)
def test_each_image_line_answers_a_picture(
    endpoint: str, scale: int, folder: Path, port: int
) -> None:
    """The README's curl line for an endpoint saves a JPEG of the photo's size times the scale."""
    (line,) = [curl for curl in IMAGES if curl.endswith(endpoint)]
    answer = decode(_run_curl(line, folder, port), Limits())
    assert answer.format == "jpeg"
    assert answer.rgb.shape == (HEIGHT * scale, WIDTH * scale, 3)
    assert answer.rgb.std() > 5


def _run_python(code: str, folder: Path, port: int) -> str:
    """Run Python of a document against `port`; return what it printed."""
    here = f"127.0.0.1:{port}"
    code = code.replace("localhost:8000", here).replace("Client()", f'Client("http://{here}")')
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_lines(folder: Path, port: int) -> None:
    """The README's Python does what its curl lines do."""
    (code,) = PYTHON.findall(README)
    printed = _run_python(code, folder, port)
    assert printed.endswith(f"({WIDTH * 4}, {HEIGHT * 4})\n")
    assert decode((folder / "zebra.jpg").read_bytes(), Limits()).rgb.shape == (HEIGHT, WIDTH, 3)


def test_the_clients_document(folder: Path, port: int) -> None:
    """What docs/client.md shows runs as it stands; a training is left to the README's lines."""
    pictures = [
        code
        for code in PYTHON.findall((ROOT / "docs" / "client.md").read_text())
        if "create_job" not in code
    ]
    assert len(pictures) == 3
    for code in pictures:
        _run_python(code, folder, port)


def test_the_anonymize_line_makes_another_face(folder: Path, port: int) -> None:
    """The README's line for a portrait answers it with a face that is not hers."""
    (line,) = [curl for curl in IMAGES if curl.endswith("/v1/anonymize")]
    before = decode(_portrait(), Limits()).rgb.astype(int)
    after = decode(_run_curl(line, folder, port), Limits()).rgb.astype(int)
    changed = np.abs(after - before).mean(axis=2)
    assert after.shape == before.shape
    assert changed[100:220, 200:320].mean() > 3 * changed[400:].mean()


def test_the_models_line_lists_what_the_other_lines_ask_for(folder: Path, port: int) -> None:
    """`GET /v1/models` names every model and style that the README's curl lines ask for."""
    (line,) = [curl for curl in IMAGES if curl.endswith("/v1/models")]
    listed = {model["name"] for model in json.loads(_run_curl(line, folder, port))}
    asked = {name for curl in CURLS for name in re.findall(r"-F (?:model|style)=(\S+)", curl)}
    assert asked <= listed


def test_the_retraining_lines(folder: Path, port: int) -> None:
    """The README's six lines upload photos, retrain, compare, serve the new version, take it back.

    With two steps instead of 300 the new version is nearly the old one: no worse, so it serves.
    """
    upload, submit, watch, versions, upscale, rollback = LOOP
    dataset = json.loads(_run_curl(upload, folder, port))["id"]
    hasty = submit.replace("DATASET", dataset).replace('"steps": 300', '"steps": 2')
    assert hasty.count(dataset) == hasty.count('"steps": 2') == 1
    job = json.loads(_run_curl(hasty, folder, port))["id"]
    events = _run_curl(watch.replace("JOB", job), folder, port).decode()
    ended = json.loads(events.rpartition("event: end\n")[2].partition("data: ")[2].splitlines()[0])
    assert (ended["state"], ended["published"]) == ("succeeded", "srresnet-x4@2"), events
    assert ended["promoted"]
    listed = json.loads(_run_curl(versions, folder, port))
    assert [version["promoted"] for version in listed] == [False, True]
    answer = decode(_run_curl(upscale, folder, port), Limits())
    assert answer.rgb.shape == (HEIGHT * 4, WIDTH * 4, 3)
    assert json.loads(_run_curl(rollback, folder, port))["version"] == 1


def test_every_curl_line_is_run() -> None:
    """The README has one curl line for each image endpoint, and each is among those tested here."""
    endpoints = sorted(curl.rpartition("localhost:8000")[2] for curl in IMAGES)
    assert endpoints == [
        "/v1/anonymize",
        "/v1/models",
        "/v1/stylize",
        "/v1/translate",
        "/v1/upscale",
    ]


def test_ci_runs_the_readmes_test_line() -> None:
    """CI sets up and tests with the very line that the README gives."""
    (line,) = [line for line in LINES if line.endswith("/pytest")]
    assert f"\n{line} || failed=1\n" in (ROOT / ".ci" / "run").read_text()


def test_serving_is_set_up_as_testing_is() -> None:
    """The README's two set-up lines differ only in the extra and in what they start."""
    serve, test = (line for line in LINES if line.startswith("python3 -m venv"))
    assert (
        serve.replace("-e . && .venv/bin/anamorph serve", "-e '.[dev]' && .venv/bin/pytest") == test
    )
