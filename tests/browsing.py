"""The page as people use it: opened in a browser, watched for errors, photographed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from conftest import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 180_000  # two trainings may have the machine's cores
DESKTOP, PHONE = {"width": 1200, "height": 880}, {"width": 390, "height": 844}
PHOTO = ROOT / "docs" / "images" / "stylize-before.jpg"
_KEY = "sessionStorage.setItem('anamorph-key', {!r})"


@contextmanager
def visit(browser: Browser, url: str, *, key: str = "", **options: Any) -> Iterator[Page]:
    """Open the page at `url`, and see that it reports no error, above all none of its policy.

    `options` are a browser context's. What the service refuses is no error of the page.
    """
    options = {"viewport": DESKTOP, "reduced_motion": "reduce"} | options
    with browser.new_context(**options) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.set_default_navigation_timeout(PATIENCE_MS)
        if key:
            page.add_init_script(_KEY.format(key))
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: said.type == "error" and faults.append(said.text))
        page.goto(url)
        yield page
        assert not [text for text in faults if not text.startswith("Failed to load resource")]


def is_as_wide_as_the_screen(page: Page) -> bool:
    """Tell whether there is nothing to scroll to sideways."""
    root = "document.documentElement"
    return bool(page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"))


class Camera:
    """Takes docs/images/page-*.webp, where they are to be taken anew."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def take(self, page: Page, name: str, *, whole: bool = False) -> None:
        """Write what is to be seen at the top of the page, or the whole page."""
        if self.folder:
            page.evaluate("scrollTo(0, 0)")
            shot = Image.open(io.BytesIO(page.screenshot(full_page=whole)))
            shot.save(self.folder / f"page-{name}.webp", quality=84, method=6)
