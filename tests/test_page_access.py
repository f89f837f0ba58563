"""The page for people who hear it, see little contrast, have no pointer, or a small window."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from browsing import PHOTO
from stubs import DATASETS, JOBS, dataset, job, picture, stream, until
from test_page import choose

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

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


def test_a_training_by_ear(page: Page, troubled: Callable[..., None]) -> None:
    """Samples are told by their step; the focus stays at a training that goes on or stops."""
    state = "failed"
    steps = [("sample", {"step": step}) for step in (300, 600)]

    def act(to: str) -> Callable[[Route], None]:
        def acted(route: Route) -> None:
            nonlocal state
            state = to
            route.fulfill(json=job("facades", to))

        return acted

    def events(route: Route) -> None:
        stream(*steps, ("state", {"state": state}))(route)

    troubled(JOBS, [job("facades", "failed")])
    troubled(f"{JOBS}/facades", lambda route: route.fulfill(json=job("facades", state)))
    troubled(f"{JOBS}/facades/events", events)
    troubled(f"{JOBS}/facades/resume", act("running"))
    troubled(f"{JOBS}/facades/cancel", act("cancelled"))
    troubled(rf"{JOBS}/facades/samples/\d+\.png", picture)
    page.get_by_role("link", name="Training").click()
    slider = page.get_by_label("Step of the samples")
    slider.wait_for()
    assert slider.get_attribute("aria-valuetext") == "600"
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "300"
    for button, then in (("Go on", "running"), ("Cancel", "cancelled")):
        page.locator("#job").get_by_role("button", name=button, exact=True).press("Enter")
        page.locator("#job h3").get_by_text(then).wait_for()
        assert page.evaluate("document.activeElement.matches('#job h3')")
