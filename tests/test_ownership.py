"""Datasets, jobs and models belong to the key they were made with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.keys import KeyStore, Scope
from app.main import create_app
from models.checkpoint import amend_card
from models.registry import Registry
from tiny import encoded, photo, publish_models, until_ready, zip_of_photos
from tiny_jobs import add_pairs, training_settings

DATASETS, JOBS, MODELS = "/v1/datasets", "/v1/training-jobs", "/v1/models"


class Person:
    """Somebody with a key, and what they ask."""

    def __init__(self, client: TestClient, home: Path, *scopes: Scope) -> None:
        self.client = client
        self.key, text = KeyStore(home).create(scopes)
        self._headers = {"X-API-Key": text}

    def ask(self, method: str, url: str, **kwargs: Any) -> tuple[int, Any]:
        headers = self._headers | kwargs.pop("headers", {})
        answer = self.client.request(method, url, headers=headers, **kwargs)
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.status_code, answer.json() if is_json and answer.content else answer.content

    def get(self, url: str) -> tuple[int, Any]:
        return self.ask("GET", url)

    def ids(self, url: str) -> list[str]:
        return [found["id"] for found in self.get(url)[1]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    publish_models(home, ("srresnet-x4",))
    return home


@pytest.fixture(scope="module")
def people(home: Path) -> Iterator[tuple[Person, Person, Person]]:
    """Ann with a model of her own, Bob, and an operator with all scopes."""
    KeyStore(home).create({Scope.ADMIN})
    app = create_app(training_settings(home, require_keys=True, reload_s=0.1))
    client = TestClient(app)
    ann, bob = (Person(client, home, Scope.INFER, Scope.TRAIN) for _ in range(2))
    operator = Person(client, home, *Scope)
    registry = Registry(home, home / "no weights")
    copy = home / "copy.safetensors"
    copy.write_bytes(registry.resolve("srresnet-x4").path.read_bytes())
    amend_card(copy, {"lineage": {"owner": ann.key.id}})
    for _ in range(2):
        registry.publish(copy, "anns")
    registry.promote("anns", 2)
    with client:
        until_ready(client)
        yield ann, bob, operator


def upload(person: Person) -> tuple[int, Any]:
    form = {"name": "photos", "kind": "highres"}
    return person.ask("POST", DATASETS, data=form, files={"file": zip_of_photos()})


def test_a_dataset_is_there_for_its_key_alone(
    people: tuple[Person, Person, Person], home: Path
) -> None:
    """Another key sees no trace of it, not even by uploading the same; an admin sees all."""
    ann, bob, operator = people
    made = [upload(ann), upload(bob)]
    assert [status for status, _ in made] == [201, 201]
    hers, his = (answer["id"] for _, answer in made)
    assert upload(ann)[0] == 200
    unowned = add_pairs(home)
    assert (ann.ids(DATASETS), bob.ids(DATASETS)) == ([hers], [his])
    assert set(operator.ids(DATASETS)) == {hers, his, unowned}
    for theirs in (hers, unowned, "0" * 16):
        for method, url in (("GET", ""), ("GET", "/contact.png"), ("DELETE", "")):
            status, answer = bob.ask(method, f"{DATASETS}/{theirs}{url}")
            assert (status, answer["detail"]) == (404, "there is no such dataset")
    assert ann.get(f"{DATASETS}/{hers}/contact.png")[0] == 200
    assert operator.get(f"{DATASETS}/{hers}")[0] == 200
    assert ann.ask("DELETE", f"{DATASETS}/{hers}")[0] == 204


def test_a_job_is_there_for_its_key_alone(people: tuple[Person, Person, Person]) -> None:
    """Another key can neither watch nor stop it, nor train on what is not its own."""
    ann, bob, operator = people
    training = {"family": "srgan", "dataset": upload(ann)[1]["id"], "name": "new", "steps": 2}
    twice = {"headers": {"Idempotency-Key": "monday"}, "json": training}
    status, job = ann.ask("POST", JOBS, **twice)
    assert status == 202, job
    assert ann.ask("POST", JOBS, **twice)[1]["id"] == job["id"]
    assert (ann.ids(JOBS), bob.ids(JOBS)) == ([job["id"]], [])
    assert job["id"] in operator.ids(JOBS)
    pages = ["", "/samples", "/samples/1.png", "/losses.png", "/events"]
    asked = [("GET", page) for page in pages] + [("POST", "/cancel"), ("POST", "/resume")]
    for method, page in asked:
        status, answer = bob.ask(method, f"{JOBS}/{job['id']}{page}")
        assert (status, answer["code"]) == (404, "job_not_found"), page
    assert ann.get(f"{JOBS}/{job['id']}")[1]["state"] == "queued"

    own = training | {"dataset": upload(bob)[1]["id"], "name": "bobs"}
    refusals = [
        ({"dataset": training["dataset"]}, 404, "dataset_not_found"),
        ({"base": "anns"}, 404, "model_not_found"),
        ({"name": "anns"}, 409, "name_taken"),
        ({"name": "srresnet-x4"}, 409, "name_taken"),  # everybody's: others would get his
        ({"name": "new"}, 409, "name_taken"),  # hers, once it is trained
    ]
    for change, status, code in refusals:
        told, answer = bob.ask("POST", JOBS, json=own | change)
        assert (told, answer["code"]) == (status, code), change
    status, his = bob.ask(
        "POST", JOBS, json=own | {"base": "srresnet-x4"}, headers=twice["headers"]
    )
    assert status == 202, his
    assert his["id"] != job["id"]


def test_a_name_given_up_may_be_gone(people: tuple[Person, Person, Person]) -> None:
    """A cancelled job keeps no name: if another key trains one of it, the job cannot go on."""
    ann, bob, _ = people
    ids = []
    for person in (ann, bob):
        training = {"family": "srgan", "dataset": upload(person)[1]["id"], "name": "zz", "steps": 2}
        status, job = person.ask("POST", JOBS, json=training)
        assert status == 202, job
        ids.append(job["id"])
        if person is ann:
            assert person.ask("POST", f"{JOBS}/{job['id']}/cancel")[0] == 200
    status, answer = ann.ask("POST", f"{JOBS}/{ids[0]}/resume")
    assert (status, answer["code"]) == (409, "name_taken")


def test_a_model_serves_its_key_alone(people: tuple[Person, Person, Person]) -> None:
    """Another key finds it in no list or message, and may change none but its own."""
    ann, bob, operator = people
    data = encoded(photo(16, 16))
    everybodys = "srresnet-x4"

    def listed(person: Person) -> list[str]:
        return [model["name"] for model in person.get(MODELS)[1]]

    assert listed(ann) == listed(operator) == ["anns", everybodys]
    assert listed(bob) == [everybodys]
    assert ann.ask("POST", "/v1/upscale?model=anns", content=data)[0] == 200
    for method, url, body in (
        ("POST", "/v1/upscale?model=anns", data),
        ("POST", "/v1/upscale?model=nothing", data),
        ("GET", f"{MODELS}/anns", b""),
        ("GET", f"{MODELS}/anns/versions", b""),
        ("POST", f"{MODELS}/anns/promote", b'{"version": 1}'),
        ("POST", f"{MODELS}/anns/rollback", b""),
        ("DELETE", f"{MODELS}/anns/versions/1", b""),
    ):
        kind = {"headers": {"Content-Type": "application/json"}} if b"{" in body[:1] else {}
        status, answer = bob.ask(method, url, content=body, **kind)
        assert (status, answer["code"]) == (404, "model_not_found"), url
        assert "there are: anns" not in answer["detail"]
    assert bob.ask("POST", "/v1/upscale", content=data)[0] == 200
    refused = bob.ask("POST", f"{MODELS}/{everybodys}/rollback")
    assert (refused[0], refused[1]["code"]) == (403, "scope_missing")
    assert bob.ask("POST", f"{MODELS}/{everybodys}/promote", json={"version": 1})[0] == 403
    assert bob.ask("DELETE", f"{MODELS}/{everybodys}/versions/1")[0] == 403
    assert bob.get(f"{MODELS}/{everybodys}/versions")[0] == 200
    assert ann.ask("POST", f"{MODELS}/anns/promote", json={"version": 1})[0] == 200
    assert operator.ask("DELETE", f"{MODELS}/anns/versions/2")[0] == 204


@pytest.mark.usefixtures("without_openvino")
def test_detail_looks_at_nobody_elses_network(tmp_path: Path) -> None:
    """Everybody's sharp upscaler, trained from somebody's own, brings others nothing of that."""
    publish_models(tmp_path, ("srresnet-x4", "srgan-x4"))
    KeyStore(tmp_path).create({Scope.ADMIN})
    client = TestClient(create_app(training_settings(tmp_path, require_keys=True)))
    ann, bob = (Person(client, tmp_path, Scope.INFER) for _ in range(2))
    private = Registry(tmp_path, tmp_path / "no weights").resolve("srresnet-x4").path
    amend_card(private, {"lineage": {"owner": ann.key.id}})

    def answered(person: Person, detail: float) -> Any:
        query = f"/v1/upscale?model=srgan-x4&detail={detail}"
        status, answer = person.ask("POST", query, content=encoded(photo(8, 8)))
        return status if status == 200 else answer["detail"]

    with client:
        until_ready(client)
        assert [answered(ann, detail) for detail in (0, 0.5)] == [200, 200]
        assert [answered(bob, detail) for detail in (0, 0.5)] == [
            200, "detail: srgan-x4@1 has no counterpart to interpolate with",
        ]  # fmt: skip
