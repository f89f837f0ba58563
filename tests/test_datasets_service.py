"""Datasets over HTTP and from the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import app.datasets.store
from app.cli import app as commands
from app.datasets.layouts import arrange
from app.main import create_app
from test_archives import zipped
from test_datasets import picture, pictures, upload
from tiny import tiny_settings


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = tiny_settings(
        tmp_path_factory.mktemp("home"), max_upload_bytes=50_000, max_dataset_bytes=400_000
    )
    with TestClient(create_app(settings)) as client:
        yield client


def post(client: TestClient, data: bytes, **fields: str) -> Any:
    fields = {"name": "mine", "kind": "highres"} | fields
    return client.post("/v1/datasets", files={"file": ("x.zip", data)}, data=fields)


def test_the_whole_life_over_http(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploaded, told, listed, shown, refused while in use, deleted."""
    data = zipped(pictures("") | {"big.png": picture(1, 200, 200), "n.txt": bytes(60_000)}, 0)
    assert len(data) > 50_000, "longer than a picture may be"
    made = post(client, data)
    assert made.status_code == 201, made.text
    facts = made.json()
    url = f"/v1/datasets/{facts['id']}"
    assert made.headers["location"] == url
    assert facts["counts"] == {"train": 12, "test": 1}
    assert facts["sizes"] == {"min": 32, "median": 32, "max": 200}
    assert facts["skipped"].keys() == {"n.txt"}
    again = post(client, data, name="other")
    assert (again.status_code, again.json()) == (200, facts)
    assert client.get(url).json() == facts
    [listed] = client.get("/v1/datasets").json()
    assert listed.items() <= facts.items()
    sheet = client.get(facts["contact_sheet"])
    assert sheet.headers["content-type"] == "image/png"
    state = client.app.state  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setattr(state.jobs, "using", lambda _id: "12ab")
        refused = client.delete(url)
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_in_use")
    deleted = client.delete(url)
    assert deleted.status_code == 204
    assert "content-type" not in deleted.headers
    assert client.get(url).json()["code"] == "dataset_not_found"
    assert list(state.service.datasets.root.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "fields", "status", "code"),
    [
        ({"file": b"no zip"}, {}, 422, "invalid_dataset"),
        ({"file": zipped({"../a.png": b"x"})}, {}, 422, "invalid_dataset"),
        ({"file": zipped(pictures("", count=2))}, {}, 422, "invalid_dataset"),
        ({"file": b"x"}, {"kind": "other"}, 422, "invalid_parameter"),
        ({"file": b"x"}, {"name": "../x"}, 422, "invalid_parameter"),
        ({"file": b"x"}, {"more": "x"}, 422, "invalid_parameter"),
        ({"image": b"x"}, {}, 422, "invalid_parameter"),
        ({}, {}, 422, "invalid_parameter"),
        ({"file": bytes(400_001)}, {}, 413, "upload_too_large"),
    ],
)
def test_bad_uploads(client: TestClient, files, fields, status: int, code: str) -> None:
    """A bad upload is a problem with a stable code, and leaves nothing behind."""
    response = client.post(
        "/v1/datasets", files=files, data={"name": "mine", "kind": "highres"} | fields
    )
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    root = client.app.state.service.datasets.root  # type: ignore[attr-defined]
    assert not root.exists() or list(root.iterdir()) == []


def test_two_files_and_half_a_form(client: TestClient) -> None:
    """Two files, and a form that ends early, are refused; other routes keep their own limit."""
    two = [("file", ("a.zip", b"x")), ("file", ("b.zip", b"y"))]
    response = client.post("/v1/datasets", files=two, data={"name": "a", "kind": "style"})
    assert response.json()["code"] == "invalid_parameter"
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nPK'
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/v1/datasets", content=head, headers=form).json()["code"] == "bad_multipart"
    long = client.post("/v1/upscale", content=bytes(50_001))
    assert (long.status_code, "max_upload_bytes" in long.text) == (413, True)


def test_the_api_describes_itself(client: TestClient) -> None:
    """OpenAPI has the form, the kinds and the problems."""
    post_ = client.get("/openapi.json").json()["paths"]["/v1/datasets"]["post"]
    form = post_["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"].keys() == {"file", "name", "kind"}
    assert form["properties"]["kind"]["enum"] == ["paired", "unpaired", "highres", "style"]
    assert {"200", "201", "413", "422", "507"} <= post_["responses"].keys()


def anamorph(*arguments: object) -> str:
    result = CliRunner().invoke(commands, ["datasets", *map(str, arguments)])
    assert "Traceback" not in result.output
    return f"{result.exit_code}: {result.output}"


def test_the_command_line(tmp_path: Path) -> None:
    """`anamorph datasets` adds a zip or a folder, lists, shows, checks and deletes."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, data in pictures("", count=4).items():
        (photos / name).write_bytes(data)
    added = anamorph("add", photos, "--kind", "highres", "--name", "mine")
    assert added.startswith("0: ")
    assert "3 train, 1 test" in added
    id_ = added.split()[1]
    zip_file = upload(tmp_path, pictures("", count=4))
    assert "is there already" in anamorph("add", zip_file, "--kind", "highres", "--name", "two")
    assert f"{id_}  mine" in anamorph("list")
    shown = anamorph("show", id_)
    assert json.loads(shown[3 : shown.rindex("}") + 1])["name"] == "mine"
    assert anamorph("delete", id_).startswith("0")
    assert anamorph("show", id_).startswith("1: there is no such dataset")
    assert anamorph("add", zip_file, "--kind", "style", "--name", "x").startswith(
        "1: found 0 style"
    )


def test_checking_does_not_hold_up_other_requests(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a dataset is being checked the service answers at once."""
    import threading

    arrived, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        arrived.set()
        assert go_on.wait(30)
        return arrange(*arguments)

    monkeypatch.setattr(app.datasets.store, "arrange", slow)
    answers: list[int] = []
    data = zipped(pictures("", count=5))
    thread = threading.Thread(target=lambda: answers.append(post(client, data).status_code))
    thread.start()
    assert arrived.wait(30)
    started = time.monotonic()
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/datasets").status_code == 200
    assert time.monotonic() - started < 10
    go_on.set()
    thread.join()
    assert answers == [201]
