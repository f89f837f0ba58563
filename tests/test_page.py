"""The page at `/`, used by pointer, by keyboard and on a phone, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from app.error_codes import INTERNAL, KINDS, OUT_OF_MEMORY
from app.keys import KeyStore, Scope
from browsing import DESKTOP, PHONE, PHOTO, Camera, is_as_wide_as_the_screen, visit
from conftest import ROOT
from test_server import Server
from tiny import promote, publish_models

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MAX_BYTES = 200_000

pytestmark = pytest.mark.timeout(1800)


class Service:
    """A server that asks for a key, and a key for it."""

    def __init__(self, home: Path, *, with_shipped_models: bool) -> None:
        if with_shipped_models:
            for path in sorted((ROOT / "models" / "weights").glob("*.safetensors")):
                promote(home, path)
        else:
            publish_models(home, ("starry-night", "srresnet-x4", "srgan-x4"))
        self.key = KeyStore(home).create({Scope.INFER})[1]
        self.server = Server(home, home / "log", require_keys=True, max_upload_bytes=MAX_BYTES)
        self.url = str(self.server.client.base_url)


@pytest.fixture(scope="module")
def service(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Service]:
    """A server with tiny models, or for screenshots with those that ship."""
    shipped = request.config.getoption("--update-screenshots")
    service = Service(tmp_path_factory.mktemp("home"), with_shipped_models=shipped)
    with service.server.ready(900):
        yield service


@pytest.fixture
def page(browser: Browser, service: Service, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page with a key, in a window; a test's parameter has other options of it."""
    with visit(browser, service.url, key=service.key, **getattr(request, "param", {})) as page:
        page.locator(".tile").first.wait_for()
        yield page


@pytest.fixture
def photo(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A photo; for screenshots a larger one."""
    if not request.config.getoption("--update-screenshots"):
        return PHOTO
    data = request.getfixturevalue("shared") / "data" / "photos" / "debian_photos"
    path = tmp_path / "evening.jpg"
    with Image.open(data / "plasma_EveningGlow.jpg") as large:
        large.resize((960, 600)).save(path, quality=85)
    return path


def choose(page: Page, name: str) -> None:
    page.locator(".tile").filter(has=page.get_by_text(name, exact=True)).click()


def make(page: Page) -> None:
    page.get_by_role("button", name="Make it").click()
    page.get_by_text("Done in").wait_for()


def download(page: Page, folder: Path) -> Path:
    with page.expect_download() as event:
        page.get_by_role("link", name="Download").click()
    path = folder / event.value.suggested_filename
    event.value.save_as(path)
    return path


def boundary(page: Page) -> str:
    return str(page.locator("#compare").evaluate("e => e.style.getPropertyValue('--split')"))


def test_from_photo_to_download(page: Page, photo: Path, tmp_path: Path, camera: Camera) -> None:
    """A chosen photo is painted, compared, zoomed into and saved, and each stage's time is told."""
    page.locator("#photo-file").set_input_files(photo)
    choose(page, "starry-night")
    page.get_by_label("Strength").fill("0.95")
    page.get_by_label("File format").select_option("webp")
    make(page)
    saved = download(page, tmp_path)
    assert saved.name == f"{photo.stem}-starry-night.webp"
    with Image.open(saved) as answer, Image.open(photo) as before:
        assert (answer.format, answer.size) == ("WEBP", before.size)
    legend = page.get_by_label("What each stage took").inner_text()
    assert all(stage in legend for stage in ("reading", "waiting", "network", "writing", "ms"))
    assert "starry-night@1" in page.locator("#outcome").inner_text()
    camera.take(page, "picture")
    page.get_by_label("Boundary").press("Home")
    assert boundary(page) == "0"
    page.get_by_role("button", name="Zoom in").click()
    assert page.locator("#zoom-level").inner_text() == "150 %"
    page.get_by_label("Fit the picture").click()


@pytest.mark.parametrize("page", [{"color_scheme": "dark"}], indirect=True)
def test_dropped_and_pasted(page: Page, tmp_path: Path) -> None:
    """A photo can be dropped or pasted; an enlarged one has four times its sides."""
    send = """([kind, bytes]) => {
      const files = new DataTransfer();
      files.items.add(new File([new Uint8Array(bytes)], `${kind}.jpg`, {type: "image/jpeg"}));
      const how = {bubbles: true, cancelable: true, dataTransfer: files, clipboardData: files};
      const event = kind === "drop" ? new DragEvent(kind, how) : new ClipboardEvent(kind, how);
      document.querySelector("#pictures").dispatchEvent(event);
    }"""
    with Image.open(PHOTO) as photo:
        photo.resize((60, 44)).save(tmp_path / "small.jpg")
    for kind in ("drop", "paste"):
        page.evaluate(send, [kind, list((tmp_path / "small.jpg").read_bytes())])
        page.get_by_text(f"{kind}.jpg").wait_for()
    choose(page, "srgan-x4")
    page.evaluate(  # as a cell of a table comes
        """() => {
          const cell = new DataTransfer();
          cell.setData("text/plain", "secret");
          cell.items.add(new File([], "cell.png", {type: "image/png"}));
          const how = {bubbles: true, cancelable: true, clipboardData: cell};
          document.querySelector("[name=detail]").dispatchEvent(new ClipboardEvent("paste", how));
        }"""
    )
    assert page.get_by_text("paste.jpg").is_visible()
    page.get_by_label("Detail").fill("0.5")
    make(page)
    with Image.open(download(page, tmp_path)) as answer:
        assert answer.size == (240, 176)
    assert "srresnet-x4" in page.locator("#outcome").inner_text()


def test_by_keyboard_alone(page: Page) -> None:
    """Tab, arrows, space and Enter reach everything from the photo to the zoom."""

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"no way to {selector}")

    # Not expect_file_chooser: the key would sometimes come before the browser is told to report.
    page.on("filechooser", lambda chooser: chooser.set_files(PHOTO))
    page.evaluate("document.activeElement.blur()")
    tab_to("#photo-file")
    page.keyboard.press("Enter")
    page.get_by_text(PHOTO.name).wait_for()
    tab_to("[name=choice]")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert page.locator("[name=choice]:checked").input_value() == "starry-night"
    tab_to("[name=strength]")
    page.keyboard.press("ArrowLeft")
    tab_to("[name=keep_colors]")
    page.keyboard.press("Space")
    tab_to("#go")
    page.keyboard.press("Enter")
    page.get_by_text("Done in").wait_for()
    page.keyboard.press("+")
    assert page.locator("#zoom-level").inner_text() == "150 %"
    tab_to("#zoom-in")
    shown = "() => document.querySelector('#compare').style.getPropertyValue('--x')"
    before = page.evaluate(shown)
    page.keyboard.press("ArrowRight")
    assert page.evaluate(shown) != before
    page.keyboard.press("0")
    assert page.locator("#zoom-level").inner_text() == "fit"
    page.evaluate("document.activeElement.blur()")
    tab_to("#split")
    page.keyboard.press("ArrowRight")
    assert boundary(page) == "0.51"


def test_refused_with_clear_words(page: Page, tmp_path: Path) -> None:
    """What cannot be used is refused in words that say what to do, and the next photo is taken."""
    alert = page.locator("#picture-problem .problem")
    cases = {
        "unsupported_image": (b"my holiday", "not a picture that can be read here"),
        "corrupt_image": (PHOTO.read_bytes()[:9000], "This picture is damaged"),
        "upload_too_large": (bytes(MAX_BYTES + 1), "This file is too large"),
    }
    for code, (data, words) in cases.items():
        file: Any = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": data}
        page.locator("#photo-file").set_input_files(file)
        page.get_by_role("button", name="Make it").click()
        page.locator(f"[data-code={code}]").wait_for()
        assert words in alert.inner_text()
        assert page.get_by_role("link", name="Download").is_hidden()
    page.locator("#photo-file").set_input_files(PHOTO)
    assert alert.count() == 0
    make(page)


def test_faces_go_and_come_back(page: Page, tmp_path: Path) -> None:
    """Faces that are covered with a passcode come back with it, and not with another one."""
    page.locator("#photo-file").set_input_files(PHOTO)
    choose(page, "cover")
    page.get_by_label("File format").select_option("png")
    page.locator("[name=passcode]").fill("correct horse")
    make(page)
    assert "1 face, sealed in the file" in page.locator("#outcome").inner_text()
    covered = download(page, tmp_path)
    page.get_by_role("button", name="Go on with this").click()
    choose(page, "bring back")
    page.locator("[name=passcode]").fill("wrong horse")
    page.get_by_role("button", name="Make it").click()
    page.locator("[data-code=wrong_passcode]").wait_for()
    page.locator("[name=passcode]").fill("correct horse")
    make(page)
    assert "The faces are back" in page.locator("#outcome").inner_text()
    with Image.open(download(page, tmp_path)) as back, Image.open(PHOTO) as photo:
        assert back.tobytes() == photo.convert("RGB").tobytes()
        assert Image.open(covered).tobytes() != back.tobytes()


def test_a_key_is_asked_for(browser: Browser, service: Service) -> None:
    """Without a key the page asks for one, again if it is wrong, and keeps it for the tab."""
    with visit(browser, service.url, viewport=DESKTOP) as page:
        for key in ("anm_not_it", service.key):
            page.get_by_role("dialog").wait_for()
            page.get_by_label("Key", exact=True).fill(key)
            page.keyboard.press("Enter")
        page.locator(".tile").first.wait_for()
        page.reload()
        page.locator(".tile").first.wait_for()
        assert page.get_by_role("dialog").is_hidden()
        page.get_by_role("link", name="Training").click()
        page.locator("[data-code=scope_missing]").first.wait_for()


@pytest.mark.parametrize(
    "page",
    [{"viewport": PHONE, "color_scheme": "dark", "is_mobile": True, "has_touch": True}],
    indirect=True,
)
def test_on_a_phone(page: Page, photo: Path, camera: Camera) -> None:
    """On a phone, in the dark, a photo is made too, and nothing reaches beyond the screen."""
    assert is_as_wide_as_the_screen(page)
    page.locator("#photo-file").set_input_files(photo)
    page.locator(".tile").filter(has_text="starry-night").tap()
    page.get_by_role("button", name="Make it").tap()
    page.get_by_text("Done in").wait_for()
    assert is_as_wide_as_the_screen(page)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", ground))) < 120
    page.evaluate("scrollTo(0, 0)")
    camera.take(page, "phone")
    page.get_by_role("link", name="Training").tap()
    assert is_as_wide_as_the_screen(page)


def test_every_problem_has_words() -> None:
    """The page has words of its own for every code that the service can answer with."""
    module = (ROOT / "app" / "static" / "page" / "problems.js").read_text("utf-8")
    worded = set(re.findall(r"^  (\w+): \[", module, re.MULTILINE))
    kinds = (*KINDS.values(), INTERNAL, OUT_OF_MEMORY)
    assert worded >= {kind.code for kind in kinds} | {"not_found", "method_not_allowed"}
