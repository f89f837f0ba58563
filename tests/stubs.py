"""Answers in the service's place, for the page: slow, broken, endless, or out of order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.keys import KeyStore, Scope
from browsing import PATIENCE_MS
from test_client_retries import Scripted, serving
from test_client_retries import stream as cut_off
from test_server import Server
from tiny import encoded, photo, publish_models

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

JOBS, DATASETS = "training-jobs", "datasets"


class KeyedService:
    """A server that asks for a key, one for everything and one for pictures alone."""

    def __init__(self, home: Path) -> None:
        publish_models(home, ("starry-night", "srresnet-x4"))
        keys = KeyStore(home)
        self.key = keys.create(set(Scope))[1]
        self.lesser_key = keys.create({Scope.INFER})[1]
        self.server = Server(home, home / "log", require_keys=True)
        self.url = str(self.server.client.base_url)


def never(route: Route) -> None:
    """Leave a request without an answer."""


@contextmanager
def breaking() -> Iterator[Callable[[Route], None]]:
    """Give what sends POST requests to a server whose answers break off."""
    with serving(Scripted(cut_off("{", cut=True))) as url:
        yield (
            lambda route: (
                route.continue_(url=url) if route.request.method == "POST" else route.fallback()
            )
        )


def until(page: Page, condition: Callable[[], bool]) -> None:
    """Wait for what the handlers of requests see."""
    for _ in range(PATIENCE_MS // 50):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come")


def job(name: str, state: str = "running") -> dict[str, Any]:
    return {"id": name, "name": name, "state": state, "position": None, "finished_at": None}


def dataset(name: str) -> dict[str, Any]:
    sizes = {"min": 32, "median": 32, "max": 32}
    found = {"counts": {"train": 3}, "sizes": sizes, "warnings": [], "skipped": {}}
    return {"id": name, "name": name, "kind": "paired", "bytes": 9, **found}


def stream(*events: tuple[str, dict[str, Any]]) -> Callable[[Route], None]:
    """Answer with server-sent events, and close."""
    blocks = [
        f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
        for number, (kind, data) in enumerate(events, 1)
    ]
    return lambda route: route.fulfill(body="".join(blocks), content_type="text/event-stream")


def picture(route: Route) -> None:
    route.fulfill(body=encoded(photo(16, 16)), content_type="image/png")
