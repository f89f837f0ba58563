"""A busy `anamorph serve` with a training beside it, told to stop, and started again."""

from __future__ import annotations

import base64
import io
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from app.callers import OPERATOR
from app.keys import KeyStore, Scope
from app.retraining.jobs import Job, Jobs
from conftest import ROOT
from test_keys import bearing
from test_server import Server
from test_worker import PATIENCE_S, until
from tiny import encoded, opened, photo, publish_models
from tiny_jobs import add_pairs, tiny_request, training_settings

TIMEOUT_S = 60  # a machine that does other things too is slow to write a checkpoint
pytestmark = pytest.mark.long
SECRETS = {
    "a passcode in a form": "swordfish-in-a-form",
    "a passcode in a header": "swordfish-in-a-header",
    "a passcode in a URL": "swordfish-in-a-url",
    "a picture's file name": "grandmother-at-the-sea",
    "a dataset's file name": "grandfather-on-the-pier",
    "a dataset's damaged file": "the-dog-in-the-rain",
    "a dataset's zip": "summer-of-ninety-two",
    "a dataset's name": "the-whole-family",
    "a key that is none": "anm_0123456789ab_" + "wrong" * 9,
    "an unknown model": "model-of-a-secret",
    "an idempotency key": "an-idempotency-key",
}


@dataclass
class Session:
    """What was seen of a session."""

    home: Path
    key: str
    picture: bytes
    job: Job
    step_at_stop: int
    under_way: list[httpx.Response]
    new: list[httpx.Response]
    exit_code: int
    stopped_after_s: float
    log: str


def serve(home: Path, log: Path) -> Server:
    return Server(
        home,
        log,
        worker=True,
        worker_threads=1,
        worker_niceness=0,
        threads=1,
        require_keys=True,
        log_level="debug",
        shutdown_timeout_s=TIMEOUT_S,
        drain_s=3,
    )


def tell_secrets(client: httpx.Client, picture: bytes) -> None:
    """Ask for all sorts of things, right and wrong, with every secret somewhere."""
    file = {"image": (SECRETS["a picture's file name"] + ".png", picture)}
    form = {"method": "solid", "faces": "[[2, 2, 20, 20]]"}
    secret = {"passcode": SECRETS["a passcode in a form"]}
    header = {"X-Passcode": SECRETS["a passcode in a header"]}
    sealed = client.post("/v1/anonymize", files=file, data=form | secret)
    assert sealed.status_code == 200, sealed.text
    for data in (secret, {"passcode": "another " + secret["passcode"]}):
        client.post("/v1/restore", files={"image": sealed.content}, data=data)
    client.post("/v1/restore", content=sealed.content, headers=header)
    client.post("/v1/restore", files=file, params={"passcode": SECRETS["a passcode in a URL"]})
    client.post("/v1/translate", files=file, data={"model": SECRETS["an unknown model"]})
    client.post("/v1/upscale", files={"image": (file["image"][0], picture[:-20])})
    client.get("/v1/models", headers=bearing(SECRETS["a key that is none"]))
    client.get(f"/v1/models/{SECRETS['an unknown model']}/versions")
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for number in range(6):
            name = f"{SECRETS['a dataset' + chr(39) + 's file name']}-{number}.png"
            archive.writestr(name, encoded(photo(64, 64 + number)))
        archive.writestr(SECRETS["a dataset's damaged file"] + ".png", picture[:80])
    upload = {"file": (SECRETS["a dataset's zip"] + ".zip", memory.getvalue())}
    fields = {"name": SECRETS["a dataset's name"], "kind": "highres"}
    answer = client.post("/v1/datasets", files=upload, data=fields)
    assert answer.status_code == 201, answer.text
    bad = {
        "family": "srgan",
        "dataset": answer.json()["id"],
        "name": "x",
        "hyperparameters": {"training": {SECRETS["an unknown model"]: 1}},
    }
    idempotent = {"Idempotency-Key": SECRETS["an idempotency key"]}
    assert client.post("/v1/training-jobs", json=bad, headers=idempotent).status_code == 422


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Serve, train, tell secrets, and send SIGTERM with requests and the training under way."""
    home = tmp_path_factory.mktemp("home")
    publish_models(home, ("srresnet-x4",))
    jobs = Jobs(training_settings(home))
    key = KeyStore(home).create(frozenset(Scope))[1]
    picture = encoded(photo(40, 40))
    server = serve(home, home / "log")
    try:
        server.wait(PATIENCE_S)
        server.client.headers = bearing(key)
        job = jobs.submit(tiny_request(add_pairs(home), steps=100_000), OPERATOR)
        tell_secrets(server.client, picture)
        until(lambda: step(jobs, job) >= 3)
        large = encoded(photo(200, 200), "jpeg")

        def ask(_: int) -> httpx.Response:
            return server.client.post("/v1/upscale", content=large)

        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(ask, number) for number in range(4)]
            until(lambda: "anamorph_held_bytes 0.0" not in server.client.get("/metrics").text)
            server.process.send_signal(signal.SIGTERM)
            told_at = time.monotonic()
            until(lambda: server.client.get("/readyz").status_code == 503)
            new = [server.client.get(path) for path in ("/readyz", "/v1/models", "/healthz")]
            under_way = [answer.result() for answer in asked]
        exit_code = server.process.wait(TIMEOUT_S + 30)
        stopped_after_s = time.monotonic() - told_at
        yield Session(
            home=home,
            key=key,
            picture=picture,
            job=job,
            step_at_stop=step(jobs, job),
            under_way=under_way,
            new=new,
            exit_code=exit_code,
            stopped_after_s=stopped_after_s,
            log=server.log.read_text(),
        )
    finally:
        server.client.close()
        server.process.kill()
        server.process.wait()
        jobs.close()


def step(jobs: Jobs, job: Job) -> int:
    return int(jobs.folder(job.id).latest().get("progress", {"step": 0})["step"])


def test_what_is_under_way_is_answered(session: Session) -> None:
    """Every request begun before SIGTERM gets its picture."""
    assert [opened(answer).size for answer in session.under_way] == [(800, 800)] * 4


def test_no_new_work_is_taken(session: Session) -> None:
    """Readiness and new requests are 503 with Retry-After meanwhile; the process still answers."""
    ready, models, alive = session.new
    for answer in (ready, models):
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["connection"] == "close"
    assert alive.status_code == 200


def test_it_exits_in_time(session: Session) -> None:
    """The exit code is 0 within shutdown_timeout_s, and after the time to drain."""
    assert session.exit_code == 0, session.log
    assert 3 <= session.stopped_after_s < TIMEOUT_S


def test_the_log_of_a_busy_session_tells_nothing(session: Session) -> None:
    """No picture, key, passcode or file name is in the log of service and worker, even at debug."""
    planted = SECRETS | {
        "a key": session.key,
        "a key's secret": session.key.split("_", 2)[2],
        "a picture": repr(session.picture[8:40])[2:-1],
        "a picture in base64": base64.b64encode(session.picture)[:40].decode(),
    }
    assert "/v1/restore" in session.log
    assert "worker stopped" in session.log
    assert [what for what, secret in planted.items() if secret in session.log] == []
    assert "Traceback" not in session.log


def test_the_training_goes_on_after_a_restart(session: Session) -> None:
    """The job was paused at a checkpoint and goes on from there, still as the same job."""
    jobs = Jobs(training_settings(session.home))
    folder = jobs.folder(session.job.id)

    def states() -> list[str]:
        return [event.data["state"] for event in folder.events() if event.kind == "state"]

    server = serve(session.home, session.home / "second log")
    try:
        before = states()
        assert before[-1] == "paused"
        assert jobs.get(session.job.id).state == "running"
        server.wait(PATIENCE_S)
        until(lambda: step(jobs, session.job) > session.step_at_stop)
        assert states() == [*before, "running"]
        steps = [event.data["step"] for event in folder.events() if event.kind == "progress"]
        assert steps == sorted(steps)  # from the checkpoint, not from the first step
        metrics = server.client.get("/metrics", headers=bearing(session.key)).text
        assert 'anamorph_jobs{state="running"} 1.0' in metrics
        jobs.cancel(session.job.id)
    finally:
        children = psutil.Process(server.process.pid).children()
        assert server.stop() == 0
        jobs.close()
    assert not any(child.is_running() for child in children)


def test_what_hangs_is_ended() -> None:
    """A process that does not come to its end in time is ended, and its exit code says so."""
    hang = (
        "import time; from app.server import _exit_at_the_latest as end; end(0.1); time.sleep(99)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", hang], check=False, cwd=ROOT, capture_output=True, timeout=90
    )
    assert ended.returncode == 1
    assert b"not stopped in time" in ended.stdout + ended.stderr
