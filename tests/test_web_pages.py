"""Which web pages may drive a service that asks for no keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.testclient import TestClient

from app.keys import KeyStore, Scope
from app.main import create_app
from browsing import visit
from test_server import Server
from tiny import tiny_settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHANGE, READ = ("POST", "/v1/models/nothing/rollback"), ("GET", "/v1/models")
REACHED = (404, "model_not_found")
FOREIGN, WRONG = (403, "foreign_page"), (421, "wrong_host")
FRIEND, EVIL = "https://pictures.example", "http://evil.example"
ANYWHERE = {"host": "0.0.0.0", "insecure": True}
OURS = (
    *("localhost", "localhost:8000", "LocalHost:1", "pictures.localhost:8000"),
    *("127.0.0.1", "127.9.9.9:8000", "[::1]", "[::1]:8000", "192.168.0.7", "[fe80::1]:8000"),
    *("testserver", "mybox:8000", ""),
    *("box.example", "BOX.example:8000"),
)
ANYONES = (
    *("evil.example", "evil.example:8000", "EVIL.example", "localhost.evil.example"),
    *("127.0.0.1.evil.example", "evil.example.", "localhost.", "evil.example:80:80"),
    *("box.example.evil.example", "a.box.example", "box.example:80:80", "box.example."),
)


def answer(
    home: Path, settings: dict[str, Any], request: tuple[str, str], headers: dict[str, str]
) -> httpx.Response:
    """Return what a service with these settings answers."""
    client = TestClient(create_app(tiny_settings(home, cors_origins=FRIEND, **settings)))
    return client.request(*request, headers=headers)


@pytest.mark.parametrize(
    ("host", "is_ours"), [*((host, True) for host in OURS), *((host, False) for host in ANYONES)]
)
def test_no_name_of_dns_is_answered(tmp_path: Path, host: str, is_ours: bool) -> None:
    """A name that DNS may point here opens nothing without keys, unless it is one of `hosts`."""
    for request, reached in ((READ, 200), (CHANGE, 404), (("GET", "/"), 200)):
        for settings in ({}, ANYWHERE, {"insecure": True}):
            told = answer(tmp_path, settings | {"hosts": "Box.Example"}, request, {"Host": host})
            assert told.status_code == (reached if is_ours else WRONG[0])
            assert is_ours or told.json()["code"] == WRONG[1]


@pytest.mark.parametrize("settings", [{}, ANYWHERE], ids=["loopback", "insecure"])
@pytest.mark.parametrize(
    ("site", "origin", "expected"),
    [
        (None, None, REACHED),  # curl, the Python client
        ("same-origin", "http://localhost:8000", REACHED),
        ("same-origin", "null", REACHED),  # a form under a policy of no-referrer
        ("same-origin", None, REACHED),
        ("none", None, REACHED),  # the user's own doing
        ("cross-site", EVIL, FOREIGN),
        ("cross-site", "null", FOREIGN),
        ("cross-site", None, FOREIGN),
        ("same-site", "http://localhost:3000", FOREIGN),
        ("nonsense", None, FOREIGN),
        ("cross-site", FRIEND, REACHED),
        ("same-site", FRIEND, REACHED),
        # By plain HTTP, and from older browsers
        (None, "http://localhost:8000", REACHED),
        (None, "https://localhost:8000", REACHED),  # behind a proxy with TLS
        (None, FRIEND, REACHED),
        (None, EVIL, FOREIGN),
        (None, "http://localhost", FOREIGN),
        (None, "http://localhost:3000", FOREIGN),
        (None, f"{FRIEND}:444", FOREIGN),
        (None, "null", FOREIGN),
        (None, "", FOREIGN),
    ],
)
def test_other_sites_pages_change_nothing(
    tmp_path: Path,
    settings: dict[str, Any],
    site: str | None,
    origin: str | None,
    expected: tuple[int, str],
) -> None:
    """Without keys a change is for the service's own pages, those of cors_origins, and programs."""
    told = {"Host": "localhost:8000", "Sec-Fetch-Site": site, "Origin": origin}
    headers = {name: value for name, value in told.items() if value is not None}
    changed = answer(tmp_path, settings, CHANGE, headers)
    assert (changed.status_code, changed.json()["code"]) == expected
    assert answer(tmp_path, settings, READ, headers).status_code == 200
    allowed = "access-control-allow-origin"
    assert changed.headers.get(allowed) == (FRIEND if origin == FRIEND else None)


def test_a_key_is_enough(tmp_path: Path) -> None:
    """Where keys are asked for, whoever has one may ask by any name and from any page."""
    _, key = KeyStore(tmp_path).create(set(Scope))
    headers = {"Host": "evil.example", "Origin": EVIL, "Sec-Fetch-Site": "cross-site"}
    for settings in ({"require_keys": True}, {"host": "0.0.0.0"}):
        let_in = answer(tmp_path, settings, CHANGE, headers | {"X-API-Key": key})
        assert (let_in.status_code, let_in.json()["code"]) == REACHED
        assert answer(tmp_path, settings, CHANGE, headers).status_code == 401


def test_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    """A browser sends another site's form, which is refused; what the own page asks is done."""
    server = Server(tmp_path, tmp_path / "log")
    method, path = CHANGE
    with server.ready():
        url = f"http://localhost:{server.port}"
        form = f'<form method="{method}" action="{url}{path}"><button>Win</button></form>'
        with visit(browser, url) as page:
            page.route(f"{EVIL}/", lambda route: route.fulfill(body=form, content_type="text/html"))
            asked = f"fetch('{path}', {{method: '{method}'}}).then(answer => answer.status)"
            assert page.evaluate(asked) == REACHED[0]
            page.goto(EVIL)
            with page.expect_response(url + path) as refused:
                page.get_by_role("button").click()
            assert (refused.value.status, refused.value.json()["code"]) == FOREIGN


def test_failures_are_told_to_pages_of_other_origins(tmp_path: Path) -> None:
    """An unforeseen error is a 500 that `cors_origins` may read, with an id and no details."""
    app = create_app(tiny_settings(tmp_path, cors_origins=FRIEND))

    @app.get("/broken")
    def broken() -> None:
        raise ZeroDivisionError("a secret")

    told = TestClient(app).get("/broken", headers={"Origin": FRIEND})
    problem = told.json()
    assert (told.status_code, problem["code"]) == (500, "internal_error")
    assert told.headers["access-control-allow-origin"] == FRIEND
    assert problem["request_id"] == told.headers["x-request-id"]
    assert "secret" not in told.text
