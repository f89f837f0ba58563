"""The page where something is done again: with a changed file, another format, a lost answer."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browsing import PHOTO
from stubs import DATASETS, JOBS, dataset, job, never, until
from test_page import make
from tiny import encoded, photo

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.timeout(600)


def choose_file(page: Page, selector: str, path: Path) -> None:
    """Choose a file as the browser does it: one that is chosen already is no change."""
    session = page.context.new_cdp_session(page)
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    node = session.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
    session.send("DOM.setFileInputFiles", {"nodeId": node, "files": [str(path)]})


def test_a_zip_that_was_packed_anew(page: Page, tmp_path: Path) -> None:
    """A zip that was refused can be packed anew and chosen again; until then it is told why not."""
    path = tmp_path / "mine.zip"
    path.write_bytes(b"no zip")
    upload = page.get_by_role("button", name="Upload", exact=True)
    page.get_by_role("link", name="Training").click()
    page.locator("#dataset-kind").select_option("highres")
    choose_file(page, "#dataset-file", path)
    page.get_by_text("mine.zip, 6 bytes").wait_for()
    upload.click()
    page.locator("#dataset-problem [data-code=invalid_dataset]").wait_for()
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(8):
            archive.writestr(f"{k}.png", encoded(photo(40 + k, 40)))
    upload.click()
    page.locator("#dataset-problem [data-code=file_changed]").wait_for()
    choose_file(page, "#dataset-file", path)
    upload.click()
    page.get_by_alt_text("Pictures of mine").wait_for()


def test_a_photo_that_was_edited(page: Page, tmp_path: Path) -> None:
    """A photo that changed on the disk after it was chosen is to be chosen again, as is told."""
    path = tmp_path / PHOTO.name
    shutil.copy(PHOTO, path)
    choose_file(page, "#photo-file", path)
    page.get_by_text(PHOTO.name).wait_for()
    path.write_bytes(PHOTO.read_bytes() + bytes(9))
    page.get_by_role("button", name="Make it").click()
    page.locator("#picture-problem [data-code=file_changed]").wait_for()
    choose_file(page, "#photo-file", path)
    make(page)


def test_an_answer_that_browsers_cannot_show(page: Page) -> None:
    """Where an answer cannot be shown no older one stands in its place, and it can be saved."""
    scan: Any = {"name": "scan", "mimeType": "", "buffer": encoded(photo(64, 64), "tiff")}
    page.locator("#photo-file").set_input_files(scan)
    page.get_by_label("File format").select_option("jpeg")
    make(page)
    assert page.locator("#after").is_visible()
    page.get_by_label("File format").select_option("as the photo")
    page.get_by_role("button", name="Make it").click()
    page.get_by_text("cannot be shown here").wait_for()
    assert page.locator("#after").is_hidden()
    assert page.locator("#after").get_attribute("src") is None
    assert page.locator("#download").get_attribute("download") == "scan-starry-night.tif"


def test_a_start_whose_answer_is_lost(page: Page, troubled: Callable[..., None]) -> None:
    """A training is started once, however often its answer is lost; after it, another one is."""
    keys: list[str] = []

    def posted(route: Route) -> None:
        if route.request.method != "POST":
            route.fulfill(json=[])
            return
        keys.append(route.request.headers["idempotency-key"])
        route.abort() if len(keys) < 3 else route.fulfill(status=202, json=job("mine", "queued"))

    troubled(DATASETS, [dataset("pairs")])
    troubled(JOBS, posted)
    troubled(f"{JOBS}/mine", job("mine", "queued"))
    troubled(f"{JOBS}/mine/events", never)
    page.get_by_role("link", name="Training").click()
    for count, name in enumerate(("pairs", "mine", "mine", "mine"), 1):
        page.get_by_label("Call it").fill(name)
        page.get_by_role("button", name="Start", exact=True).click()
        until(page, lambda count=count: len(keys) == count)
        page.locator("#job-send:enabled").wait_for()
        assert page.locator("#job-problem [data-code=unreachable]").count() == (count < 3)
    first, lost, same, another = keys
    assert lost == same
    assert len({first, same, another}) == 3
