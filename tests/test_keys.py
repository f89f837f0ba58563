"""Keys: who is let in, and what they may do there."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.testclient import TestClient
from pydantic import ValidationError
from typer.testing import CliRunner

from app.cli import app as commands
from app.deps import authorized
from app.errors import KeysUnavailable
from app.http.access import asks_for_keys
from app.keys import KeyStore, Scope
from app.main import create_app
from app.settings import Settings
from conftest import ROOT
from test_server import Server
from tiny import encoded, photo, publish_models, tiny_settings, until_ready

DOCS = {"/openapi.json", "/docs", "/docs/{name}", "/docs/examples/{name}"}
OPEN = {"/", "/page/{name:path}", "/healthz", "/readyz", *DOCS}
EVERYTHING = frozenset(Scope)
ORIGIN = "https://pictures.example"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    publish_models(home, ("starry-night",))
    return home


@pytest.fixture(scope="module")
def keys(home: Path) -> dict[frozenset[Scope], str]:
    """A key's text for each set of scopes that a test asks with."""
    sets = [EVERYTHING, *(EVERYTHING - {scope} for scope in Scope), frozenset({Scope.INFER})]
    return {scopes: KeyStore(home).create(scopes)[1] for scopes in sets}


@pytest.fixture(scope="module")
def client(home: Path, keys: dict[frozenset[Scope], str]) -> Iterator[TestClient]:
    settings = tiny_settings(home, require_keys=True, cors_origins=ORIGIN)
    with TestClient(create_app(settings)) as client:
        until_ready(client)
        yield client


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def routes(app: FastAPI) -> Iterator[tuple[str, str, RouteContext]]:
    """Yield every method and path, with its placeholders filled in."""
    fillers = {"job_id": "0" * 32, "id": "0" * 16, "version": "1", "step": "1"}
    for route in iter_route_contexts(app.routes):
        path = re.sub(r"\{(\w+)\}", lambda m: fillers.get(m[1], "nothing"), str(route.path))
        for method in route.methods or ():
            yield method, path, route


def scopes_of(dependant: Any) -> set[str] | None:
    """Return the scopes that a route's dependencies declare; None if they declare nothing."""
    found = None
    for inner in dependant.dependencies if dependant else ():
        own = set(inner.own_oauth_scopes or ()) if inner.call is authorized else scopes_of(inner)
        found = found if own is None else own | (found or set())
    return found


def test_every_route_declares_who_may_use_it(client: TestClient) -> None:
    """A route is one of the few that are open, or has a parameter that names the scope it needs."""
    app = client.app
    assert isinstance(app, FastAPI)
    found = {route.path: scopes_of(getattr(route, "dependant", None)) for *_, route in routes(app)}
    assert {path for path, scopes in found.items() if scopes is None} == OPEN
    assert found["/v1/upscale"] == {"infer"}
    assert found["/v1/training-jobs/{job_id}/events"] == {"train"}
    assert found["/metrics"] == {"admin"}


def test_no_route_answers_the_wrong_people(
    client: TestClient, home: Path, keys: dict[frozenset[Scope], str]
) -> None:
    """Every route refuses no key, a wrong or a revoked one, and one that lacks just its scope."""
    store = KeyStore(home)
    whole = keys[EVERYTHING]
    revoked, revoked_text = store.create(EVERYTHING)
    store.revoke(revoked.id)
    wrong = ["", "x", "anm_x_y", "ä_ö_ü", whole[:-1], whole.swapcase(), revoked_text]
    refusals: dict[str, Any] = {text: {"Authorization": f"Bearer {text}"} for text in wrong} | {
        "none": {},
        "basic": {"X-API-Key": "no"},
    }
    counted = 0
    for method, path, route in routes(client.app):  # type: ignore[arg-type]
        if route.path in OPEN:
            assert client.request(method, path).status_code not in (401, 403), path
            continue
        for text, headers in refusals.items():
            answer = client.request(
                method, path, headers={k: v.encode() for k, v in headers.items()}
            )
            assert answer.status_code == 401, (method, path, text)
            assert method == "HEAD" or answer.json()["code"] == "unauthenticated"
            assert answer.headers["www-authenticate"].startswith("Bearer ")
        needed = scopes_of(route.dependant)
        assert needed is not None
        for scope in needed:
            lacking = keys[EVERYTHING - {Scope(scope)}]
            answer = client.request(method, path, headers=bearing(lacking))
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path
            assert f'scope="{scope}"' in answer.headers["www-authenticate"]
        answer = client.request(method, path, headers={"X-API-Key": whole})
        assert answer.status_code not in (401, 403), (method, path)
        counted += 1
    assert counted > 20


def test_strangers_are_told_nothing(client: TestClient) -> None:
    """Without a key a body is not read, an unknown path no different, and readiness one word."""
    broken = client.post("/v1/training-jobs", content=b"{", headers={"content-type": "text/json"})
    assert broken.status_code == client.get("/v1/no-such-thing").status_code == 401
    assert client.get("/readyz").json() == {"status": "ready"}


def test_refusals_at_the_door_are_counted_by_route(
    client: TestClient, keys: dict[frozenset[Scope], str]
) -> None:
    """Metrics tell where strangers knock: by a known path's template, else "unmatched"."""
    for path in ("/v1/models/wave", "/v1/no-such-thing"):
        assert client.get(path).status_code == 401
    text = client.get("/metrics", headers=bearing(keys[EVERYTHING])).text
    for route in ("/v1/models/{name}", "unmatched"):
        assert f'anamorph_requests_total{{route="{route}",status="401"}}' in text


def test_a_key_opens_in_either_header(
    client: TestClient, keys: dict[frozenset[Scope], str]
) -> None:
    """A picture is made for a key as a bearer token or in X-API-Key, in front of a proxy's own."""
    data, key = encoded(photo(16, 16)), keys[frozenset({Scope.INFER})]
    proxied = {"Authorization": "Basic b3BlcmF0b3I6cHJveHk=", "X-API-Key": key}
    for headers in (bearing(key), {"x-api-key": key}, proxied):
        answer = client.post("/v1/stylize?style=starry-night", content=data, headers=headers)
        assert answer.status_code == 200, answer.text
    admin = client.get("/readyz", headers=bearing(keys[EVERYTHING]))
    assert admin.json()["models"] == ["starry-night@1"]


def test_openapi_tells_how_to_send_a_key(client: TestClient) -> None:
    """The description has both schemes, and beside each operation the scope and the refusals."""
    document = client.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert schemes["Bearer"]["scheme"] == "bearer"
    assert (schemes["X-API-Key"]["in"], schemes["X-API-Key"]["name"]) == ("header", "X-API-Key")
    upscale = document["paths"]["/v1/upscale"]["post"]
    assert upscale["security"] == [{"Bearer": ["infer"]}, {"X-API-Key": ["infer"]}]
    assert {"401", "403"} <= upscale["responses"].keys()
    assert "security" not in document["paths"]["/healthz"]["get"]


def test_only_configured_pages_may_ask(client: TestClient, tmp_path: Path) -> None:
    """A browser lets the pages of `cors_origins` ask and read headers, and no page by default."""
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    allowed = "access-control-allow-origin"
    told = client.options("/v1/upscale", headers=ask | {"Origin": ORIGIN})
    assert (told.status_code, told.headers[allowed]) == (200, ORIGIN)
    refused = client.post("/v1/upscale", headers={"Origin": ORIGIN})
    assert (refused.status_code, refused.headers[allowed]) == (401, ORIGIN)
    assert "X-Model" in refused.headers["access-control-expose-headers"]
    other = client.options("/v1/upscale", headers=ask | {"Origin": "https://other.example"})
    assert allowed not in other.headers
    unconfigured = TestClient(create_app(tiny_settings(tmp_path)))
    assert allowed not in unconfigured.get("/healthz", headers={"Origin": ORIGIN}).headers


def test_configured_pages_are_written_as_browsers_do() -> None:
    """Origins may be given in capitals and with the usual port, which a browser never sends."""
    given = "HTTPS://Pages.Example:443,http://a.example:80,https://a.example:80,http://[::1]:3000"
    kept = "https://pages.example,http://a.example,https://a.example:80,http://[::1]:3000"
    assert Settings(cors_origins=given).cors_origins == kept


def test_where_the_home_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """ANAMORPH_HOME may begin with a tilde; an empty one is as good as none."""
    for given, home in (("~/data", Path.home() / "data"), ("", Path.home() / ".anamorph")):
        monkeypatch.setenv("ANAMORPH_HOME", given)
        assert Settings().home == home


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system knows no home folder, as in a container, what to set is told."""
    monkeypatch.delenv("ANAMORPH_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", Mock(side_effect=RuntimeError))
    with pytest.raises(ValidationError, match="set ANAMORPH_HOME"):
        Settings()


def test_limits_are_told(client: TestClient, keys: dict[frozenset[Scope], str]) -> None:
    """`GET /v1/limits` answers the settings' limits to any key."""
    limits = client.get("/v1/limits", headers=bearing(keys[frozenset({Scope.INFER})])).json()
    settings = Settings()
    for name in ("max_upload_bytes", "max_pixels", "max_side", "max_output_pixels"):
        assert limits[name] == getattr(settings, name)
    assert limits["max_frames"] == 1


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "::1"}, False),
        ({"host": "127.0.0.9"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": ""}, True),
        ({"host": "anamorph.internal"}, True),
        ({"host": "0.0.0.0", "insecure": True}, False),
        ({"require_keys": True}, True),
    ],
)
def test_where_keys_are_asked_for(given: dict[str, Any], asked: bool) -> None:
    """On every address but loopback, unless told otherwise; behind a proxy also there."""
    assert asks_for_keys(Settings(**given)) is asked


def test_the_file_holds_no_key(tmp_path: Path) -> None:
    """Only its owner may read the file, in which the secret is not, and `list` has no secrets."""
    store = KeyStore(tmp_path)
    key, text = store.create({Scope.INFER}, "laptop")
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    assert text not in (tmp_path / "keys.json").read_text()
    assert text.split("_", 2)[2] not in (tmp_path / "keys.json").read_text()
    assert store.find(text) == key
    assert len(text.split("_", 2)[2]) == 43  # 256 bits, base64


def test_processes_share_the_file(tmp_path: Path) -> None:
    """Keys made at once are all kept; one revoked elsewhere is refused at the next request."""
    stores = [KeyStore(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda store: store.create({Scope.TRAIN}), stores))
    assert {key.id for key in stores[0].list()} == {key.id for key, _ in made}
    key, text = made[0]
    assert stores[1].find(text)
    KeyStore(tmp_path).revoke(key.id)
    assert stores[1].find(text) is None


def test_use_is_recorded_now_and_then(tmp_path: Path) -> None:
    """The first use is written, the next not for ten minutes, and none to a lost key."""
    store = KeyStore(tmp_path)
    key, _ = store.create({Scope.INFER})
    assert store.is_use_news(key)
    assert not store.is_use_news(key)
    store.note_use(key.id)
    store.note_use("gone")
    (used,) = store.list()
    assert used.last_used_at
    assert used.last_used_at - key.created_at < timedelta(minutes=1)
    assert not KeyStore(tmp_path).is_use_news(used)


def test_a_damaged_file_lets_nobody_in(tmp_path: Path) -> None:
    """A service whose file of keys is damaged answers 503, not everybody."""
    _, text = KeyStore(tmp_path).create(EVERYTHING)
    client = TestClient(create_app(tiny_settings(tmp_path, require_keys=True)))
    (tmp_path / "keys.json").write_text("{")
    answer = client.get("/v1/models", headers=bearing(text))
    assert (answer.status_code, answer.json()["code"]) == (503, "keys_unavailable")
    assert client.get("/healthz").status_code == 200
    with pytest.raises(KeysUnavailable):
        create_app(tiny_settings(tmp_path, require_keys=True))


def test_a_file_that_has_gone_revokes_no_key(tmp_path: Path) -> None:
    """While the folder with the keys is away, a key is not called wrong: 503, not 401."""
    _, text = KeyStore(tmp_path).create(EVERYTHING)
    client = TestClient(create_app(tiny_settings(tmp_path, require_keys=True)))
    file = (tmp_path / "keys.json").rename(tmp_path / "away")
    answer = client.get("/v1/models", headers=bearing(text))
    assert (answer.status_code, answer.json()["code"]) == (503, "keys_unavailable")
    file.rename(tmp_path / "keys.json")
    assert client.get("/v1/models", headers=bearing(text)).status_code == 200


def run(*words: str) -> Any:
    return CliRunner().invoke(commands, ["keys", *words])


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`keys create` prints a key alone, `list` tells them apart, `revoke` ends one."""
    monkeypatch.setenv("ANAMORPH_HOME", str(tmp_path))
    made = run("create", "--scope", "infer, train", "--name", "laptop")
    text = made.stdout.strip()
    key = KeyStore(tmp_path).find(text)
    assert key
    assert key.scopes == {Scope.INFER, Scope.TRAIN}
    assert key.id in made.stderr
    listed = run("list").stdout
    assert all(word in listed for word in (key.id, "infer,train", "never used", "laptop"))
    assert text not in listed
    assert run("revoke", key.id).exit_code == 0
    assert KeyStore(tmp_path).find(text) is None
    assert "revoked" in run("list").stdout
    for wrong in (
        ("create", "--scope", "everything"),
        ("create", "--scope", ""),
        ("create", "--scope", "infer", "--name", "\udcff"),  # as a byte that is no UTF-8 comes
        ("revoke", "x"),
    ):
        refused = run(*wrong)
        assert (refused.exit_code, type(refused.exception)) == (1, SystemExit), wrong


def test_the_commands_are_quick() -> None:
    """`anamorph keys list` loads neither torch nor what answers HTTP."""
    code = """
import sys
from app.cli import app
app(["keys", "list"], standalone_mode=False)
print({"torch", "fastapi", "numpy"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_a_server_on_the_network_asks_for_keys(tmp_path: Path) -> None:
    """`anamorph serve --host 0.0.0.0` refuses to start without a key, and with one asks for it."""
    command = [sys.executable, "-m", "app.cli", "serve", "--host", "0.0.0.0", "--port", "0"]
    home = Settings().home
    KeyStore(home).revoke(KeyStore(home).create(EVERYTHING)[0].id)  # a revoked key is none
    refused = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert refused.returncode == 1
    assert "anamorph keys create" in refused.stderr
    assert "Traceback" not in refused.stderr
    key, text = KeyStore(tmp_path).create({Scope.INFER})
    server = Server(tmp_path, tmp_path / "log", host="0.0.0.0")
    with server.ready(240):
        assert server.client.get("/v1/models").status_code == 401
        assert server.client.get("/v1/models", headers=bearing(text)).status_code == 200
        assert next(iter(KeyStore(tmp_path).list())).last_used_at
        KeyStore(tmp_path).revoke(key.id)
        assert server.client.get("/v1/models", headers=bearing(text)).status_code == 401
    assert text not in server.log.read_text()
