"""The page's view of trainings, from a zip to a version that serves, in a real browser."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browsing import DESKTOP, PATIENCE_MS, Camera, is_as_wide_as_the_screen, visit
from conftest import ROOT
from test_server import Server
from tiny import promote, publish_models
from tiny_training import write_data

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAIRS, NAME, COLOURS = 12, "facades", "colorize"
# Without its adversarial term a training lowers just what the comparison measures, L1.
TINY: dict[str, Any] = {
    "objective": {"adversarial": 0.0, "patch_layers": 1, "patch_channels": 8},
    "data": {"load_px": 36, "crop_px": 32},
    "training": {
        "batch": 1, "learning_rate": 2e-3, "ema": 0.5, "log_every": 1, "sample_every": 5,
        "precision": "float32",
    },
}  # fmt: skip
REAL: dict[str, Any] = {
    "training": {
        "batch": 1, "learning_rate": 5e-5, "ema": 0.98, "log_every": 2, "sample_every": 20,
    },
}  # fmt: skip

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def is_for_show(request: pytest.FixtureRequest) -> bool:
    """Whether screenshots are taken: then of real pictures and of a model that ships."""
    return bool(request.config.getoption("--update-screenshots"))


@pytest.fixture(scope="module")
def server(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, is_for_show: bool
) -> Iterator[Server]:
    """A server with its worker, and one model to go on from."""
    home = tmp_path_factory.mktemp("home")
    if is_for_show:
        promote(home, ROOT / "models" / "weights" / f"{NAME}.safetensors")
    else:
        publish_models(home, (NAME, COLOURS))
    threads = {"threads": 1, "worker_threads": 1, "worker_niceness": 0}
    server = Server(home, home / "log", worker=True, **threads)
    with server.ready(900):
        yield server


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with visit(browser, f"{server.client.base_url}/#training", viewport=DESKTOP) as page:
        yield page


@pytest.fixture
def photos(tmp_path: Path, request: pytest.FixtureRequest, is_for_show: bool) -> bytes:
    """A zip of pairs."""
    if is_for_show:
        folder = request.getfixturevalue("shared") / "data" / "facades" / "train"
        pictures = sorted(folder.glob("*.jpg"))[:PAIRS]
    else:
        write_data(tmp_path / "data", PAIRS)
        pictures = sorted((tmp_path / "data" / "pairs").glob("*.png"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for picture in pictures:
            archive.write(picture, picture.name)
    return buffer.getvalue()


def upload(page: Page, data: bytes) -> None:
    file: Any = {"name": "My Facades.zip", "mimeType": "application/zip", "buffer": data}
    page.locator("#dataset-file").set_input_files(file)
    assert page.locator("#dataset-name").input_value() == "my-facades"
    page.get_by_role("button", name="Upload", exact=True).click()
    page.locator("#dataset-progress").wait_for(state="hidden")


def start(page: Page, steps: int, hyperparameters: dict[str, Any]) -> None:
    page.get_by_label("Unit").select_option("steps")
    page.locator("#job-amount").fill(str(steps))
    page.get_by_label("Let it serve if").uncheck()
    if page.locator("#job-hyperparameters").is_hidden():
        page.get_by_text("Hyperparameters", exact=True).click()
    page.locator("#job-hyperparameters").fill(json.dumps(hyperparameters))
    page.get_by_role("button", name="Start", exact=True).click()


def test_from_zip_to_promoted_version(
    page: Page, server: Server, photos: bytes, is_for_show: bool, camera: Camera
) -> None:
    """A zip trains a model on, live; its version is compared, serves, and is taken back.

    Unless told so, a training starts from no model and takes no model's name. A zip without
    pictures is refused in clear words, and another training is cancelled.
    """
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("notes.txt", "no pictures")
    upload(page, empty.getvalue())
    page.locator("[data-code=invalid_dataset]").wait_for()
    assert "These pictures cannot be trained on" in page.locator("#dataset-problem").inner_text()

    upload(page, photos)
    sheet = page.get_by_alt_text("Pictures of my-facades")
    sheet.wait_for()
    assert sheet.evaluate("image => image.decode().then(() => image.naturalWidth)") > 1000
    assert page.locator("#dataset-problem .problem").count() == 0

    assert page.get_by_label("Start from").input_value() == ""
    assert page.get_by_label("Call it").input_value() == "my-facades"
    page.get_by_label("Start from").select_option(NAME)
    page.get_by_label("Call it").fill(NAME)
    page.get_by_label("Direction").select_option("BtoA")
    steps, hyperparameters = (60, REAL) if is_for_show else (25, TINY)
    start(page, steps, hyperparameters)
    job = page.locator("#job")
    job.locator("polyline").first.wait_for(state="attached")
    page.get_by_alt_text("Samples at step").wait_for()
    job.get_by_text("succeeded").wait_for(timeout=5 * PATIENCE_MS)
    assert f"step {steps} of {steps}" in job.inner_text()
    assert f"Published as {NAME}@2" in job.inner_text()

    serve = page.get_by_role("button", name=f"Let {NAME}@2 serve")
    serve.wait_for()
    assert page.locator(".versions article").count() == 2
    page.get_by_alt_text(f"Samples of {NAME}@2").wait_for()
    camera.take(page, "training", whole=True)
    serve.click()
    page.locator("article", has_text=f"{NAME}@2 serves").wait_for()
    served = {model["name"]: model["version"] for model in server.client.get("/v1/models").json()}
    assert served[NAME] == 2
    page.get_by_role("button", name="Take the last change back").click()
    page.locator("article", has_text=f"{NAME}@1 serves").wait_for()
    page.get_by_role("button", name="Take the last change back").click()
    page.get_by_text("There is no earlier version to go back to.").wait_for()

    start(page, 1_000_000, hyperparameters)
    job.get_by_text("running").wait_for()
    page.get_by_role("button", name="Cancel").click()
    job.get_by_text("cancelled").wait_for()
    assert page.get_by_role("button", name="Go on", exact=True).is_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    assert is_as_wide_as_the_screen(page)


def test_a_training_that_goes_on_waits_its_turn(page: Page, photos: bytes) -> None:
    """Told to go on while another one trains, it is queued, and not what it was before."""
    upload(page, photos)
    page.get_by_alt_text("Pictures of").wait_for()
    job, jobs = page.locator("#job"), page.locator("#jobs button")
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    page.get_by_label("Start from").select_option(NAME)
    start(page, 1_000_000, TINY)
    job.get_by_text("running").wait_for()
    cancel.click()
    job.get_by_text("cancelled").wait_for()
    start(page, 1_000_000, TINY)
    job.get_by_text("running").wait_for()
    jobs.filter(has_text="cancelled").first.click()
    page.get_by_role("button", name="Go on", exact=True).click()
    job.get_by_text("queued, number 1").wait_for()
    page.wait_for_timeout(1500)  # until what happened before has been told again
    for state in ("queued", "running"):
        jobs.filter(has_text=state).first.click()
        job.get_by_text(state).wait_for()
        cancel.click()
        job.get_by_text("cancelled").wait_for()


def test_photos_teach_enlarging_or_colours(page: Page, photos: bytes) -> None:
    """Photos train either family that learns from them, each from models of its own kind alone."""
    kinds = page.locator("#job-dataset option")
    for kind in ("paired", "highres"):
        page.locator("#dataset-kind").select_option(kind)
        upload(page, photos)
        kinds.filter(has_text=f"({kind})").wait_for(state="attached")
    bases = page.locator("#job-base option")
    assert bases.all_inner_texts() == ["nothing"]
    page.get_by_label("To make").select_option("grey photos coloured")
    assert bases.all_inner_texts() == ["nothing", COLOURS]
    assert page.get_by_label("Direction").is_hidden()
    page.get_by_label("Start from").select_option(COLOURS)
    start(page, 1, {"data": TINY["data"], "training": TINY["training"]})
    page.locator("#job").get_by_text("succeeded").wait_for(timeout=5 * PATIENCE_MS)
    # Of pairs, no model of grey pictures is a beginning.
    page.locator("#job-dataset").select_option("my-facades (paired)")
    assert COLOURS not in bases.all_inner_texts()
    assert page.get_by_label("To make").is_hidden()


def test_settings_that_are_wrong(page: Page, photos: bytes) -> None:
    """What a training cannot be is told beside the form: JSON that is none, and a wrong table."""
    upload(page, photos)
    page.get_by_alt_text("Pictures of").wait_for()
    page.get_by_text("Hyperparameters", exact=True).click()
    for text, code in (("{", "bad_json"), ('{"data": {"a": 1}}', "invalid_recipe")):
        page.locator("#job-hyperparameters").fill(text)
        page.get_by_role("button", name="Start", exact=True).click()
        page.locator(f"#job-problem [data-code={code}]").wait_for()
