"""The OpenAPI description, held against the service by schemathesis."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, get_args

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import strategies as st
from schemathesis.python.asgi import ASGIClient, get_client, shutdown_lifespans
from schemathesis.specs.openapi.checks import positive_data_acceptance

import app.engines
from app.main import create_app
from described import description, prepare
from models.images import Format
from tiny import encoded, photo, tiny_settings, until_ready, zip_of_photos

FORM, RAW = "multipart/form-data", "image/*"
# Where a request that the description admits may be a 422 for what no description can say.
REFUSED_FOR_ITS_MEANING = {
    "/v1/anonymize": "the picture has no face, or not in the box that is given",
    "/v1/restore": "the picture carries no seal",
    "/v1/datasets": "the zip has the photos of another kind of dataset",
}
ACCEPTED = ["2xx", "401", "403", "404", "409", "429"]


for name in get_args(Format):
    pictures = [encoded(photo(9, 8, mode), name) for mode in ("RGB", "L")]
    schemathesis.openapi.media_type(f"image/{name}", st.sampled_from(pictures))
schemathesis.openapi.media_type(RAW, st.just(encoded(photo(7, 8))))
schemathesis.openapi.media_type("application/zip", st.just(zip_of_photos()))


class Door:
    """An ASGI app to be tested, in front of the one that a fixture opens.

    Schemathesis ends an app after each test; the one behind the door goes on until the last.
    """

    app: FastAPI
    closing = False
    _lifespan: AbstractAsyncContextManager[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        await receive()
        if self._lifespan is None:
            self._lifespan = self.app.router.lifespan_context(self.app)
            await self._lifespan.__aenter__()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self.closing:
            await self._lifespan.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})

    @contextmanager
    def opened(self, app: FastAPI) -> Iterator[ASGIClient]:
        """Let the app in, and at the end out again."""
        self.app = app
        with get_client(self) as client:
            yield client
        self.closing = True
        with get_client(self):
            shutdown_lifespans()


GUARDED, OPEN = Door(), Door()


def described(door: Door, kind: str, max_examples: int, **more: Any) -> Any:
    """Return the description with one way to send a picture, for schemathesis.

    OpenAPI cannot say that an operation's parameters are for a raw body, where some are required,
    and not for a form, which has them as fields.
    """
    document = copy.deepcopy(description())
    for path, methods in list(document["paths"].items()):
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {})
            for media in content.values():  # test_examples.py sends them, with their files
                media.pop("example", None)
                media.pop("examples", None)
            if RAW not in content:
                if kind == RAW:
                    document["paths"].pop(path, None)
                continue
            required = content[FORM]["schema"]["required"]
            operation["requestBody"]["content"] = {kind: content[kind]}
            if kind == FORM:
                operation["parameters"] = []
            for parameter in operation["parameters"]:
                name = parameter["name"].removeprefix("X-").lower()
                parameter["required"] = name in required
    may_refuse = {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, "422"]}}
    settings = {
        "seed": 0,
        "generation": {
            "deterministic": True,
            "no-shrink": True,
            "max-examples": max_examples,
            # A second, wrong key beside the right one would do no harm; the check of what an
            # operation does without a key, and with a wrong one alone, makes its own requests.
            "with-security-parameters": False,
        },
        "operations": [
            {"include-path": path, "checks": may_refuse} for path in REFUSED_FOR_ITS_MEANING
        ],
        "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
    }
    config = schemathesis.Config.from_dict(settings | more)
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.app = door
    return schema


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The header with the key of a service that asks for one, once all its models are there."""
    home = tmp_path_factory.mktemp("home")
    header = {"X-API-Key": prepare(home)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.engines, "openvino", None)  # loads quicker, as without its wheel
        with GUARDED.opened(create_app(tiny_settings(home, require_keys=True))) as client:
            client.headers.update(header)
            until_ready(client, 300)
            yield header


@pytest.fixture(scope="module")
def without_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A service that asks for no key and has no models."""
    with OPEN.opened(create_app(tiny_settings(tmp_path_factory.mktemp("home")))) as client:
        until_ready(client)
        yield


def check(case: Any, headers: dict[str, str]) -> None:
    """Send a case and let schemathesis look at the answer."""
    valid = case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE
    if valid and isinstance(case.body, dict) and "" in case.body.values():
        return  # what schemathesis puts beside a file, and calls valid, whatever the field's schema
    response = case.call(headers=headers)
    excluded = [positive_data_acceptance] if refused_for_its_model(response) else []
    sent = {"headers": headers}
    case.validate_response(response, excluded_checks=excluded, transport_kwargs=sent, **sent)


def refused_for_its_model(response: Any) -> bool:
    """Whether a model that exists was asked for what it is not for.

    No description says which is for what, and hypothesis draws names from the code's strings.
    """
    if response.status_code != 422:
        return False
    problem = response.json()
    return problem["code"] == "wrong_task" or "no counterpart" in problem["detail"]


def test_every_body_is_described_as_its_version_of_openapi_has_it() -> None:
    """Every answer's body has a schema, in the words of OpenAPI 3.1; a .png is nothing else."""
    document = description()
    assert document["openapi"].startswith("3.1.")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {})
                assert bool(content) == (status != "204"), (method, path, status)
                for media in content.values():
                    known = {"schema", "example", "examples", "encoding"}
                    assert media["schema"], (method, path, status)
                    assert media.keys() <= known, (method, path, status)
            if path.endswith(".png"):
                assert list(operation["responses"]["200"]["content"]) == ["image/png"], path


def test_no_default_is_described_twice() -> None:
    """A client that sends each default gives none both as a field and in the query: a 422."""
    for path, methods in description()["paths"].items():
        for operation in methods.values():
            if FORM in operation.get("requestBody", {}).get("content", {}):
                for parameter in operation.get("parameters", []):
                    assert "default" not in parameter["schema"], (path, parameter["name"])


def test_what_a_field_admits_is_described() -> None:
    """Every bound is under the name that JSON Schema has for it, where clients look."""
    schemas = list(description()["components"]["schemas"].values())
    for schema in schemas:
        assert not schema.keys() & {"gt", "ge", "lt", "le", "multiple_of"}, schema
        schemas += [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]


def test_refusals_are_described_with_the_headers_that_say_what_to_do() -> None:
    """A 429 and a 503 have Retry-After and a 401 has WWW-Authenticate, in every description."""
    told = {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
    for path, methods in description()["paths"].items():
        for method, operation in methods.items():
            for status in told.keys() & operation["responses"].keys():
                headers = operation["responses"][status]["headers"]
                assert told[status] in headers, (method, path, status)


@described(GUARDED, FORM, 6).parametrize()
def test_every_operation_is_as_described(case: Any, key: dict[str, str]) -> None:
    """Whatever is asked, the answer is one that the description foresees."""
    check(case, key)


@described(GUARDED, RAW, 6).parametrize()
def test_raw_pictures_are_taken_as_described(case: Any, key: dict[str, str]) -> None:
    """The same for a picture that is the whole body, with parameters beside it."""
    check(case, key)


@described(
    OPEN,
    FORM,
    3,
    phases={"coverage": {"enabled": False}},
    # Nobody is asked for a key here, which the description says of the keys themselves.
    checks={
        "ignored_auth": {"enabled": False},
        "positive_data_acceptance": {"expected-statuses": ACCEPTED},
    },
).parametrize()
@pytest.mark.usefixtures("without_keys")
def test_without_keys_all_is_as_described(case: Any) -> None:
    """A service that asks for no key, and has no models yet, answers as described."""
    check(case, {})


def test_operations_in_a_row_are_as_described(key: dict[str, str]) -> None:
    """So it is for one operation after the other: what is made is there, what is deleted gone."""

    class Rows(described(GUARDED, FORM, 6).as_state_machine()):
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": key}

    phases = [hypothesis.Phase.generate]
    checks = list(hypothesis.HealthCheck)
    Rows.run(
        settings=hypothesis.settings(
            max_examples=10,
            stateful_step_count=6,
            deadline=None,
            derandomize=True,
            database=None,
            phases=phases,
            suppress_health_check=checks,
        )
    )


def test_a_full_disk_is_described() -> None:
    """Whatever changes datasets, trainings or models says that it may find the disk full."""
    kept = ("/v1/datasets", "/v1/training-jobs", "/v1/models")
    changes = {
        f"{method} {path}": operation["responses"]
        for path, methods in description()["paths"].items()
        for method, operation in methods.items()
        if path.startswith(kept) and method != "get"
    }
    assert len(changes) == 8
    assert [name for name, responses in changes.items() if "507" not in responses] == []
