"""The page for people who hear it, see little contrast, have no pointer, or a small window."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from browsing import PHOTO
from stubs import DATASETS, JOBS, dataset, until
from test_page import choose

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.timeout(600)


def luminance(colour: str) -> float:
    """WCAG's relative luminance of a CSS colour, "rgb(1, 2, 3)"."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def style(element: Locator, name: str) -> str:
    return str(element.evaluate("(e, name) => getComputedStyle(e)[name]", name))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fields_stand_out(page: Page, troubled: Callable[..., None], scheme: str) -> None:
    """The border of every field has a contrast of 3 to 1 with the card and the field itself."""
    troubled(DATASETS, [dataset("pairs")])
    troubled(JOBS, [])
    page.emulate_media(color_scheme=scheme)
    page.get_by_role("link", name="Training").click()
    card = page.locator("#training .card").first
    for selector in ("#dataset-name", "#job-base", "#job-hyperparameters"):
        field = page.locator(selector)
        border = luminance(style(field, "borderTopColor"))
        for ground in (card, field):
            low, high = sorted((border, luminance(style(ground, "backgroundColor"))))
            assert (high + 0.05) / (low + 0.05) >= 3


def test_a_licence_is_text(page: Page, troubled: Callable[..., None]) -> None:
    """The licence of the chosen model is text below the tiles; what needs no model has none."""
    shown = {"version": 1, "task": "stylize", "family": "style", "channels_in": 3}
    troubled("models", [{"name": "wave", "licence": "CC BY-SA"} | shown])
    page.reload()
    page.get_by_text("Licence: CC BY-SA").wait_for()
    choose(page, "cover")
    page.get_by_text("Licence").wait_for(state="hidden")


def test_zoom_is_told_and_the_wheel_is_left(page: Page) -> None:
    """The zoom has its level as its name, and over a whole picture the wheel scrolls the page."""
    page.set_viewport_size({"width": 900, "height": 600})
    page.locator("#photo-file").set_input_files(PHOTO)
    page.locator("#compare").hover()
    page.mouse.wheel(0, 300)
    until(page, lambda: page.evaluate("scrollY") > 0)
    page.locator("#compare").hover()
    page.mouse.wheel(0, -300)
    until(page, lambda: page.locator("#zoom-level").inner_text() != "fit")
    page.get_by_role("button", name="Zoom in").click()
    level = page.locator("#zoom-level").inner_text()
    page.get_by_role("button", name=f"{level}: fit the picture").click()
    page.get_by_role("button", name="Fit the picture", exact=True).wait_for()
