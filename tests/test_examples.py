"""The examples of the OpenAPI description, sent as they stand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

import app.engines
from app.main import create_app
from app.retraining.job_folder import JobFolder
from app.schemas.training import EXAMPLE_JOB
from described import description, prepare, with_files
from tiny import encoded, photo, tiny_settings, until_ready

Operation = dict[str, Any]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service without keys, which was used, and whose worker once had the example's job."""
    home = tmp_path_factory.mktemp("home")
    prepare(home)
    folder = JobFolder(home, EXAMPLE_JOB)
    (folder.path / "samples").mkdir(parents=True)
    (folder.path / "samples" / "000100.png").write_bytes(encoded(photo()))
    folder.losses_file.write_text(json.dumps({"step": 100, "pixels": 0.5}) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.engines, "openvino", None)  # loads quicker, as without its wheel
        with TestClient(create_app(tiny_settings(home))) as client:
            until_ready(client, 300)
            yield client


def in_order() -> list[Any]:
    """Return every operation; what ends something comes last, a job before what it uses."""
    found = [
        (method.upper(), path, operation)
        for path, methods in description()["paths"].items()
        for method, operation in methods.items()
    ]
    found.sort(key=lambda it: (it[0] == "DELETE", "/events" in it[1], "/cancel" in it[1]))
    return [pytest.param(*it, id=f"{it[0]} {it[1]}") for it in found]


def parameters(operation: Operation, place: str) -> dict[str, str]:
    """Return the examples of an operation's parameters in the path, the query or the headers."""
    examples = {
        parameter["name"]: parameter.get("example", *parameter["schema"].get("examples", [])[:1])
        for parameter in operation.get("parameters", [])
        if parameter["in"] == place
        and ("example" in parameter or "examples" in parameter["schema"])
    }
    return {name: str(value) for name, value in examples.items()}


def bodies(operation: Operation) -> Iterator[dict[str, Any]]:
    """Yield the body's example of each kind that an operation takes, as httpx sends it."""
    content = operation.get("requestBody", {"content": {}})["content"]
    for kind, media in content.items():
        if kind == "application/json":
            name = media["schema"]["$ref"].rpartition("/")[2]
            schema = description()["components"]["schemas"][name]
            yield {"json": media.get("example") or schema["examples"][0]}
        elif kind == "multipart/form-data":
            values = {name: with_files(value) for name, value in media["example"].items()}
            files = {name: value for name, value in values.items() if isinstance(value, bytes)}
            yield {"files": files, "data": {n: v for n, v in values.items() if n not in files}}
        else:
            [example] = media["examples"].values()
            yield {"content": with_files(example["externalValue"])}
    if not content:
        yield {}


@pytest.mark.parametrize(("method", "path", "operation"), in_order())
def test_the_examples_work(
    client: TestClient, method: str, path: str, operation: Operation
) -> None:
    """Every operation's examples, in order, are answered by the success that is described."""
    expected = min(int(status) for status in operation["responses"] if status.startswith("2"))
    if "requestBody" in operation and "201" in operation["responses"]:
        expected = 201
    for body in bodies(operation):
        in_query = {} if "files" in body else parameters(operation, "query")
        in_headers = {} if "files" in body else parameters(operation, "header")
        url = path.format(**parameters(operation, "path"))
        answer = client.request(method, url, params=in_query, headers=in_headers, **body)
        assert answer.status_code == expected, answer.text
        content = operation["responses"][str(expected)].get("content", {})
        assert not content or answer.headers["content-type"].partition(";")[0] in content
