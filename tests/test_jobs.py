"""The API of training jobs, with a database and without a worker."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from app.cli import app
from app.main import create_app
from app.retraining.job_database import database_url
from app.retraining.job_folder import JobFolder
from app.retraining.jobs import Jobs
from models.registry import Registry
from tiny import assert_problem, publish_models
from tiny_jobs import add_pairs, tiny_request, training_settings

URL = "/v1/training-jobs"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def dataset(home: Path) -> str:
    return add_pairs(home)


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[TestClient]:
    with TestClient(create_app(training_settings(home))) as client:
        yield client


@pytest.fixture
def body(dataset: str) -> dict[str, Any]:
    return tiny_request(dataset).model_dump(mode="json")


def submit(client: TestClient, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    answer = client.post(URL, json=body, headers={"Idempotency-Key": key} if key else {})
    assert answer.status_code == 202, answer.text
    assert client.get(answer.headers["location"]).json()["id"] == answer.json()["id"]
    return answer.json()


def test_a_job_waits_in_line(client: TestClient, body: dict[str, Any]) -> None:
    """A submitted job is queued behind those before it, and in the list."""
    first, second = submit(client, body), submit(client, body)
    assert first["id"] != second["id"]
    assert second["state"] == "queued"
    assert second["position"] == first["position"] + 1
    assert second["request"] == body
    listed = [job["id"] for job in client.get(URL).json()]
    assert listed[:2] == [second["id"], first["id"]]


def test_a_job_is_where_the_client_asked(client: TestClient, body: dict[str, Any]) -> None:
    """`Location` names a path, as a proxy may have taken the request by another host or scheme."""
    answer = client.post(URL, json=body, headers={"Host": "127.0.0.1:9"})
    assert answer.headers["location"] == f"{URL}/{answer.json()['id']}"


@pytest.mark.parametrize(
    ("content", "media_type", "detail"),
    [
        (
            b'{"family" 1}',
            "application/json",
            "body: no valid JSON: Expecting ':' delimiter (at character 10)",
        ),
        (
            b'{"family": "srgan"}',
            "application/x-www-form-urlencoded",
            "body: send a JSON object, with Content-Type: application/json",
        ),
        (
            b"[]",
            "application/json",
            "body: send a JSON object, with Content-Type: application/json",
        ),
        (
            b'{"family": "srgan", "dataset": "x", "name": "y", "step": 3}',
            "application/json",
            "step: there is no such parameter",
        ),
        (
            b'{"family": "srgan", "dataset": "x", "name": "y", "steps": 3, "minutes": 3}',
            "application/json",
            "body: give steps or minutes, not both",
        ),
    ],
)
def test_a_faulty_body_is_told_what_to_send(
    client: TestClient, content: bytes, media_type: str, detail: str
) -> None:
    """Of a body that is no training the answer says what to change, for people."""
    answer = client.post(URL, content=content, headers={"Content-Type": media_type})
    assert_problem(answer, 422, "invalid_parameter")
    assert answer.json()["detail"] == detail


def test_the_same_key_gives_the_same_job(client: TestClient, body: dict[str, Any]) -> None:
    """A request sent twice trains once; the same key with another body is refused."""
    first = submit(client, body, "once")
    assert submit(client, body, "once")["id"] == first["id"]
    answer = client.post(URL, json=body | {"steps": 7}, headers={"Idempotency-Key": "once"})
    assert_problem(answer, 409, "job_conflict", "Idempotency-Key")


def test_cancelling_is_exact_and_may_be_repeated(client: TestClient, body: dict[str, Any]) -> None:
    """Only the job that is named is cancelled, and it can be resumed."""
    kept, gone = submit(client, body), submit(client, body)
    for _ in range(2):
        assert client.post(f"{URL}/{gone['id']}/cancel").json()["state"] == "cancelled"
    assert client.get(f"{URL}/{kept['id']}").json()["state"] == "queued"
    assert client.get(f"{URL}/{gone['id']}").json()["position"] is None
    for _ in range(2):
        assert client.post(f"{URL}/{gone['id']}/resume").json()["state"] == "queued"


@pytest.mark.parametrize(
    ("change", "status", "code", "words"),
    [
        ({"family": "dalle"}, 422, "invalid_parameter", ["family"]),
        ({"dataset": "0" * 16}, 404, "dataset_not_found", []),
        ({"dataset": "../../etc"}, 404, "dataset_not_found", []),
        ({"name": "../x"}, 422, "invalid_parameter", ["name"]),
        ({"base": "nothing"}, 404, "model_not_found", []),
        ({"minutes": 1.0}, 422, "invalid_parameter", ["steps or minutes"]),
        ({"colour": 1}, 422, "invalid_parameter", ["colour"]),
        ({"family": "cyclegan"}, 422, "invalid_recipe", ["data.kind"]),
        (
            {"hyperparameters": {"generator": {"depth": 99}, "training": {"batch": 0, "x": 1}}},
            422,
            "invalid_recipe",
            ["training.batch", "training.x"],
        ),
        ({"hyperparameters": {"generator": {"depth": 99}}}, 422, "invalid_recipe", ["depth"]),
        ({"hyperparameters": {"training": {"steps": 9}}}, 422, "invalid_recipe", ["steps"]),
        ({"steps": True}, 422, "invalid_parameter", ["steps"]),
        ({"steps": None, "minutes": "3"}, 422, "invalid_parameter", ["minutes"]),
        ({"hyperparameters": {"training": {"workers": 9}}}, 422, "invalid_recipe", ["workers"]),
        ({"hyperparameters": {"training": {"no-key": 9}}}, 422, "invalid_recipe", ["no-key"]),
        (
            {"hyperparameters": {"data": {"train": ["../.."], "targets": ["/etc"]}}},
            422,
            "invalid_recipe",
            ["data.train", "data.targets"],
        ),
    ],
)
def test_faults_are_named_before_anything_is_queued(
    client: TestClient,
    body: dict[str, Any],
    change: dict[str, Any],
    status: int,
    code: str,
    words: list[str],
) -> None:
    """A request that cannot be trained is refused at once, naming each key."""
    answer = client.post(URL, json=body | change)
    assert_problem(answer, status, code, *words)
    if code == "invalid_recipe":
        named = [fault["field"] for fault in answer.json()["errors"]]
        assert len(named) == len(words)
        assert all(any(word in field for field in named) for word in words)


def test_numbers_beyond_all_are_refused(client: TestClient, body: dict[str, Any]) -> None:
    """JSON's 1e999 is no loss weight, and is told at once, not when the job runs."""
    text = json.dumps(body | {"hyperparameters": {"objective": {"l1": 7}}}).replace("7}", "1e999}")
    answer = client.post(URL, content=text, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, "invalid_recipe", "objective.l1")


def test_half_a_character_is_told(client: TestClient, body: dict[str, Any]) -> None:
    """A key that is no Unicode is refused like any other that is none."""
    text = json.dumps(body | {"hyperparameters": {"data": {"\ud800": 1}}})
    answer = client.post(URL, content=text, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, "invalid_recipe", "data.?")


def test_a_base_of_another_family_is_refused(
    client: TestClient, home: Path, body: dict[str, Any]
) -> None:
    """A base model must be of the family that is trained."""
    publish_models(home, ("starry-night",))
    assert_problem(
        client.post(URL, json=body | {"base": "starry-night"}), 422, "invalid_recipe", "base"
    )


@pytest.mark.parametrize("path", ["", "/events", "/samples", "/samples/1.png", "/losses.png"])
@pytest.mark.parametrize("job_id", ["0" * 32, "me", "%2e%2e", "a%00b", "0" * 5000])
def test_unknown_jobs_are_not_found(client: TestClient, job_id: str, path: str) -> None:
    """Every route of a job answers 404 for one that does not exist, and for what is no id."""
    assert_problem(client.get(f"{URL}/{job_id}{path}"), 404, "job_not_found")


def test_a_queued_job_keeps_its_dataset(
    client: TestClient, home: Path, body: dict[str, Any]
) -> None:
    """The service knows which job a dataset is needed by, until that job has ended."""
    jobs = Jobs(training_settings(home))
    other = add_pairs(home, 9)
    job = submit(client, body | {"dataset": other})
    assert jobs.using(other) == job["id"]
    jobs.cancel(job["id"])
    assert jobs.using(other) is None
    jobs.close()


@pytest.mark.parametrize("at_once", [1, 1000])
def test_events_are_replayed_from_the_last_one_seen(
    client: TestClient,
    home: Path,
    body: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
) -> None:
    """A stream begins after Last-Event-ID, names each kind, and ends with the ended job."""
    monkeypatch.setattr("app.routes.training._AT_ONCE", at_once)
    job = submit(client, body)
    folder = JobFolder(home, job["id"])
    folder.open_events()
    folder.append("state", state="running")
    figures = {"generator/l1": 0.5}
    folder.append("progress", step=5, steps=10, steps_per_s=2.0, seconds_left=2.5, figures=figures)
    folder.append("published", model="tiny@3")
    client.post(f"{URL}/{job['id']}/cancel")
    whole = client.get(f"{URL}/{job['id']}/events")
    assert whole.headers["content-type"].startswith("text/event-stream")
    assert [line for line in whole.text.splitlines() if line.startswith(("id", "event"))] == [
        *("event: state", "id: 1", "event: progress", "id: 2", "event: published", "id: 3"),
        "event: end",
    ]
    rest = client.get(f"{URL}/{job['id']}/events", headers={"Last-Event-ID": "2"}).text
    assert [line for line in rest.splitlines() if line.startswith("id")] == ["id: 3"]
    end = json.loads(rest.split("data: ")[-1])
    assert end["state"] == "cancelled"
    assert end["progress"]["figures"] == figures
    assert end["published"] == "tiny@3"


def test_head_of_events_ends(client: TestClient, body: dict[str, Any]) -> None:
    """HEAD of a queued job's events is answered though the events themselves have no end yet."""
    answer = client.head(f"{URL}/{submit(client, body)['id']}/events")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert not answer.content


def test_losses_and_samples_are_pictures(
    client: TestClient, home: Path, body: dict[str, Any]
) -> None:
    """The curves are drawn from the losses so far, and each sample grid is there by its step."""
    job = submit(client, body)
    path = f"{URL}/{job['id']}"
    assert_problem(client.get(f"{path}/losses.png"), 404, "job_not_found")
    folder = JobFolder(home, job["id"])
    (folder.path / "samples").mkdir(parents=True)
    (folder.path / "samples" / "000020.png").write_bytes(b"\x89PNG")
    folder.losses_file.write_text('{"step": 1, "l1": 0.5}\n{"step": 2, "l1": 0.4}\n')
    assert client.get(f"{path}/samples").json() == {"steps": [20]}
    assert client.get(f"{path}/samples/20.png").headers["content-type"] == "image/png"
    assert_problem(client.get(f"{path}/samples/21.png"), 404, "job_not_found")
    assert client.get(f"{path}/losses.png").content.startswith(b"\x89PNG")


def test_a_database_holds_no_pickles(home: Path, client: TestClient, body: dict[str, Any]) -> None:
    """What the queue keeps is JSON: reading it runs no code."""
    submit(client, body)
    text = (home / "jobs.sqlite").read_bytes()
    assert b"anamorph_json" in text
    assert b"py_pickle" not in text


def test_a_job_is_put_back_by_its_own_worker(
    home: Path, client: TestClient, body: dict[str, Any]
) -> None:
    """A worker that lost a job to another one leaves it running there."""
    job_id = submit(client, body)["id"]
    with closing(sqlite3.connect(home / "jobs.sqlite")) as database, database:
        change = "UPDATE workflow_status SET status = 'PENDING', executor_id = 'a'"
        database.execute(f"{change} WHERE workflow_uuid = ?", (job_id,))
    with closing(Jobs(training_settings(home))) as jobs:
        jobs.put_back(job_id, "b")
        assert (jobs.get(job_id).state, jobs.owner(job_id)) == ("running", "a")
        jobs.put_back(job_id, "a")
        assert jobs.get(job_id).state == "queued"


def test_an_old_sqlite_tells_the_time(home: Path) -> None:
    """What DBOS writes as the time from Python 3.12 on is there, also in SQLite before 3.42."""
    engine = sqlalchemy.create_engine(database_url(training_settings(home)))
    with engine.connect() as connection:
        told = connection.scalar(sqlalchemy.text("SELECT unixepoch('subsec')"))
    engine.dispose()
    assert told == pytest.approx(time.time(), abs=60)


def test_jobs_leave_the_registry_alone(home: Path) -> None:
    """Queueing publishes nothing."""
    names = {version.name for version in Registry(home, home / "no weights").list()}
    assert names <= {"starry-night"}


def test_the_command_line_does_the_same(
    home: Path, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`anamorph jobs` submits, lists, shows, cancels, watches and resumes without a server."""
    monkeypatch.setenv("ANAMORPH_HOME", str(home))

    def run(*words: str, status: int = 0) -> str:
        result = CliRunner().invoke(app, ["jobs", *words])
        assert result.exit_code == status, result.output
        return result.stdout.strip()

    options = f"--family pix2pix --dataset {dataset} --name by-hand --steps 5 --key k"
    small = "--set generator.base_channels=4 --set generator.depth=5 --set data.crop_px=32"
    submit = ("submit", *options.split(), *small.split())
    job_id = run(*submit).split()[-1]  # after what another test's service may log meanwhile
    assert run(*submit).split()[-1] == job_id
    assert job_id in run("list")
    shown = run("show", job_id)
    assert json.loads(shown[shown.index("{") :])["request"]["steps"] == 5  # likewise
    assert run("cancel", job_id).endswith("cancelled")
    run("watch", job_id, status=1)
    assert run("resume", job_id).endswith("queued")
    run("show", "0" * 32, status=1)
    run("submit", *options.split(), "--set", "generator.depth=99", status=1)


def test_a_database_that_is_away_is_told(
    home: Path, body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Without its database the service answers 503 for jobs, and all the rest as ever.

    The log says why.
    """
    settings = training_settings(home, database_url="postgresql://nobody@127.0.0.1:1/none")
    client = TestClient(create_app(settings))
    assert_problem(client.get(URL), 503, "jobs_unavailable")
    assert_problem(client.post(URL, json=body), 503, "jobs_unavailable")
    assert client.get("/healthz").status_code == 200
    assert "refused" in caplog.text
