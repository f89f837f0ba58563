"""The page's start: keys, the first answers, and the models that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from browsing import visit
from stubs import KeyedService, until
from test_page import choose

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.timeout(600)


def model(name: str, task: str = "stylize") -> dict[str, Any]:
    return {"name": name, "version": 1, "task": task, "family": "style", "channels_in": 3}


def give_key(page: Page, key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use the key").click()


def names(page: Page) -> list[str]:
    return page.locator("#pictures .caption").all_inner_texts()


def test_a_key_that_is_given_later(browser: Browser, keyed_service: KeyedService) -> None:
    """A key wakes the whole page, whoever asked; one that no header can carry is not taken."""
    with visit(browser, keyed_service.url) as page:
        page.get_by_role("dialog").wait_for()
        page.keyboard.press("Escape")
        page.locator("#picture-problem [data-code=unauthenticated]").wait_for()
        page.get_by_role("link", name="Training").click()
        give_key(page, "ключ")
        page.get_by_text("No key has these characters").wait_for()
        assert page.evaluate("sessionStorage.length") == 0
        give_key(page, f" {keyed_service.key} ")
        page.locator("#versions article").wait_for()
        page.get_by_role("link", name="Pictures").click()
        assert "starry-night" in names(page)
        assert page.locator(".problem").count() == 0


@pytest.mark.parametrize("path", ["limits", "models"])
def test_more_than_a_key_may_ask_for(page: Page, troubled: Callable[..., None], path: str) -> None:
    """A page that is opened when a key has asked for too much says so, waits, and goes on."""
    asked: list[Route] = []
    refusal = {"status": 429, "headers": {"Retry-After": "7"}, "json": {"code": "rate_limited"}}

    def limited(route: Route) -> None:
        asked.append(route)
        route.fulfill(**refusal) if len(asked) == 1 else route.fallback()

    troubled(path, limited)
    page.clock.install()
    page.reload()
    page.locator("#picture-problem [data-code=rate_limited]").wait_for()
    page.clock.fast_forward(6000)
    assert len(asked) == 1
    page.clock.fast_forward(1000)
    page.locator(".tile").first.wait_for()
    assert page.locator("#picture-problem .problem").count() == 0


def test_models_of_another_key(
    page: Page, keyed_service: KeyedService, troubled: Callable[..., None]
) -> None:
    """A list of models that comes late, after another key was given, is not shown."""
    held: list[Route] = []
    troubled("models", held.append)
    page.reload()
    until(page, lambda: len(held) == 1)
    with page.expect_event("requestfailed", lambda request: request.url.endswith("models")):
        page.get_by_role("button", name="Key", exact=True).click()
        give_key(page, keyed_service.lesser_key)
    page.locator(".tile").first.wait_for()
    held[0].fulfill(json=[model("mine")])
    page.wait_for_timeout(100)
    assert "mine" not in names(page)


def test_a_service_without_models(page: Page, troubled: Callable[..., None]) -> None:
    """What needs no model can be done where there is none."""
    troubled("models", [])
    page.reload()
    page.locator(".tile").first.wait_for()
    assert names(page) == ["cover", "bring back"]
    assert page.get_by_label("Cover with").is_visible()


def test_models_with_names_of_what_needs_none(page: Page, troubled: Callable[..., None]) -> None:
    """Models called `cover` and `restore` have tiles of their own, without another's thumbnail."""
    tiles = page.locator("#pictures .tile")
    models = [model("cover", "translate"), model("restore", "translate")]
    troubled("models", models)
    page.reload()
    tiles.first.wait_for()
    ids = [tiles.nth(k).locator("input").input_value() for k in range(4)]
    assert len(set(ids)) == 4
    assert [tiles.nth(k).locator("img").count() for k in range(4)] == [0, 0, 1, 1]
    choose(page, "bring back")
    # As after a training, whose model joins the others.
    models.append(model("wave"))
    page.evaluate("models => import('./page/pictures.js').then((m) => m.setModels(models))", models)
    assert page.locator("[name=choice]:checked").input_value() == ids[3]
    assert page.locator("[name=passcode]").is_visible()
