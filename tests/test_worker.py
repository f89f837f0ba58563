"""Real worker processes: killed, stopped, started again, and beside a server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
import torch

import tiny
from app.callers import OPERATOR
from app.retraining.job_details import summary
from app.retraining.jobs import Job, Jobs
from app.settings import child_environment
from models.checkpoint import load_generator
from models.recipe import parse_recipe
from models.registry import Registry
from models.training import train
from tiny_jobs import add_pairs, tiny_request, training_settings

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[1]
PATIENCE_S = 200  # a start takes seconds, and many times that where trainings run beside
until = partial(tiny.until, timeout_s=PATIENCE_S)


class Home:
    """A folder with a dataset, its queue, and the processes that work on it."""

    def __init__(self, path: Path, database_url: str | None = None) -> None:
        self.path = path
        self.dataset = add_pairs(path)
        self.settings = training_settings(
            path, database_url=database_url, worker_memory_bytes=3 * 2**30
        )
        self.jobs = Jobs(self.settings)
        self.registry = Registry(path, path / "no weights")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log_file = path / "log"

    def start(self, *command: str, stdin: int | None = None) -> subprocess.Popen[bytes]:
        environment = child_environment(self.settings)
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", *command],
                env=environment,
                cwd=ROOT,
                stdin=stdin,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            with process:
                process.kill()
        self.jobs.close()

    def step(self, job: Job) -> int:
        """The step that the job's worker has told last."""
        return int(self.jobs.folder(job.id).latest().get("progress", {"step": 0})["step"])

    def states(self, job: Job) -> list[str]:
        events = self.jobs.folder(job.id).events()
        return [event.data["state"] for event in events if event.kind == "state"]

    def until_ended(self, job: Job) -> Job:
        until(lambda: self.jobs.get(job.id).ended)
        return self.jobs.get(job.id)

    def log(self) -> str:
        return self.log_file.read_text()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("home"))
    yield home
    home.close()


@pytest.fixture(scope="module")
def worker(home: Home) -> subprocess.Popen[bytes]:
    return home.start("worker")


def assert_uninterrupted(home: Home, job: Job, folder: Path) -> None:
    """Compare what a job published with the same recipe trained here in one go."""
    recipe = parse_recipe(job.recipe)
    made = train(recipe, folder, data_root=home.path / "datasets", device=torch.device("cpu"))
    published = home.jobs.folder(job.id).latest()["published"]["model"]
    mine = load_generator(made["AtoB"]).module.state_dict()
    its = load_generator(home.registry.resolve(published).path).module.state_dict()
    assert all(torch.equal(mine[key], its[key]) for key in mine)


@pytest.mark.usefixtures("one_thread")
def test_a_killed_worker_goes_on_bit_for_bit(home: Home, tmp_path: Path) -> None:
    """Killed in the middle of a step and started again, it publishes the uninterrupted weights."""
    first = home.start("worker")
    job = home.jobs.submit(tiny_request(home.dataset, name="killed", steps=60), OPERATOR)
    until(lambda: home.step(job) >= 5)
    first.kill()
    first.wait()
    assert home.jobs.get(job.id).state == "running"
    second = home.start("worker")
    assert home.until_ended(job).state == "succeeded", home.log()
    assert home.states(job) == ["running", "running", "succeeded"]
    assert_uninterrupted(home, job, tmp_path)
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE_S) == 0


def test_a_running_job_is_cancelled_alone_and_resumed(
    home: Home, worker: subprocess.Popen[bytes]
) -> None:
    """The next job starts within seconds; the cancelled one goes on from its checkpoint later."""
    running = home.jobs.submit(tiny_request(home.dataset, name="cancelled", steps=400), OPERATOR)
    waiting = home.jobs.submit(tiny_request(home.dataset, name="waiting", steps=2), OPERATOR)
    until(lambda: home.step(running) >= 3)
    assert home.jobs.get(waiting.id).position == 1
    assert home.jobs.cancel(running.id).state == "cancelled"
    assert home.until_ended(waiting).state == "succeeded"
    assert home.jobs.cancel(waiting.id).state == "succeeded"
    reached = home.step(running)
    home.jobs.resume(running.id)
    until(lambda: home.step(running) > reached)
    assert home.jobs.cancel(running.id).state == "cancelled"
    assert home.states(running)[:3] == ["running", "paused", "running"]
    cancelled = home.jobs.get(running.id)
    told = summary(cancelled, home.jobs.folder(running.id))
    assert told.started_at
    assert told.finished_at
    assert told.started_at <= told.finished_at


def test_failed_jobs_say_why_and_can_be_resumed(
    home: Home, worker: subprocess.Popen[bytes]
) -> None:
    """A NaN loss, a network too large for the worker's memory and a vanished dataset are named.

    Put right, the last one is resumed and succeeds.
    """
    huge = {"patch_channels": 1024, "patch_layers": 3}
    too_large = home.jobs.submit(tiny_request(home.dataset, name="huge", objective=huge), OPERATOR)
    diverging = home.jobs.submit(
        tiny_request(home.dataset, name="nan", objective={"l1": 1e39}), OPERATOR
    )
    vanished = home.jobs.submit(
        tiny_request(add_pairs(home.path, 9), name="vanished", steps=2), OPERATOR
    )
    folder = home.path / "datasets" / vanished.request.dataset
    shutil.move(folder, home.path / "kept")
    error = home.until_ended(diverging).error
    assert error is not None
    assert error.code == "diverged_training"
    assert (home.jobs.folder(diverging.id).path / "losses.png").exists()
    error = home.until_ended(too_large).error
    assert error is not None
    assert error.code == "out_of_memory"
    error = home.until_ended(vanished).error
    assert error is not None
    assert error.code == "dataset_not_found"
    shutil.move(home.path / "kept", folder)
    home.jobs.resume(vanished.id)
    assert home.until_ended(vanished).state == "succeeded"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if (
        sys.platform != "linux"
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("nobody here may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_job_outlives_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """With room again it has its turn, even where there was none to record that it had failed.

    Where its last step could still be recorded as failed, it fails now, and goes on when resumed.
    """
    home = Home(small_disk)
    home.log_file = tmp_path / "log"
    try:
        home.start("worker")
        job = home.jobs.submit(tiny_request(home.dataset, name="full", steps=60), OPERATOR)
        until(lambda: home.step(job) >= 3)
        later = home.jobs.submit(tiny_request(home.dataset, name="later", steps=10**6), OPERATOR)
        filler = (small_disk / "filler").open("wb", buffering=0)
        with filler, contextlib.suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        until(lambda: home.jobs.get(job.id).ended or "Exception encountered" in home.log())
        Path(filler.name).unlink()
        if (error := home.jobs.get(job.id).error) is not None:
            assert error.code == "disk_full"
            home.jobs.resume(job.id)
        until(lambda: home.jobs.get(later.id).state == "running")
        until(lambda: home.jobs.get(job.id).state == "queued")
        home.jobs.cancel(later.id)
        ended = home.until_ended(job)
        if (
            ended.error is not None
        ):  # of the step there was room to record it, of the job there wasn't
            assert ended.error.code == "disk_full", home.log()
            home.jobs.resume(job.id)
            ended = home.until_ended(job)
        assert ended.state == "succeeded", home.log()
    finally:
        home.close()


def test_a_stopped_worker_leaves_its_job_to_the_next(
    home: Home, worker: subprocess.Popen[bytes]
) -> None:
    """SIGTERM pauses the training at a checkpoint; the job still counts as running."""
    job = home.jobs.submit(tiny_request(home.dataset, name="paused", steps=400), OPERATOR)
    until(lambda: home.step(job) >= 3)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0, home.log()
    assert home.states(job) == ["running", "paused"]
    assert (home.jobs.folder(job.id).path / "state.safetensors").exists()
    home.jobs.cancel(job.id)


def test_a_signal_to_the_whole_group_pauses_the_job(tmp_path: Path) -> None:
    """A worker beside a service, which passes a signal on that both got, still saves its state."""
    home = Home(tmp_path)
    try:
        worker = home.start("worker", "--until-stdin-closes", stdin=subprocess.PIPE)
        job = home.jobs.submit(tiny_request(home.dataset, steps=10**6), OPERATOR)
        until(lambda: home.step(job) >= 3)
        worker.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 0, home.log()
        assert home.states(job) == ["running", "paused"]
        assert (home.jobs.folder(job.id).path / "state.safetensors").exists()
    finally:
        home.close()


def test_a_worker_that_cannot_begin_says_why(tmp_path: Path) -> None:
    """Beside a service, too, a worker without a folder ends with a reason, not by an abort."""
    (tmp_path / "file").touch()
    worker = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "worker", "--until-stdin-closes"],
        env=os.environ | {"ANAMORPH_HOME": str(tmp_path / "file" / "home")},
        stdin=subprocess.PIPE,  # which stays open
        stderr=subprocess.PIPE,
    )
    with worker:
        assert worker.stderr
        told = worker.stderr.read().decode()
        assert worker.wait(60) == 1, told
    assert "Not a directory" in told
    assert "Fatal" not in told


def test_a_killed_server_leaves_no_process(tmp_path: Path) -> None:
    """The worker beside a server trains, comes back when killed, and ends when the server does."""
    home = Home(tmp_path)
    try:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = psutil.Process(home.start("serve", "--port", str(port)).pid)
        job = home.jobs.submit(tiny_request(home.dataset, steps=2), OPERATOR)
        assert home.until_ended(job).state == "succeeded", home.log()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/v1/training-jobs") as client:
            assert client.get(f"/{job.id}").json()["published"] == "tiny@1"
            assert "event: end" in client.get(f"/{job.id}/events").text
        (worker,) = server.children()
        worker.kill()
        until(lambda: [child for child in server.children() if child.pid != worker.pid] != [])
        children = server.children(recursive=True)
        server.kill()
        until(
            lambda: (
                not any(
                    child.is_running() and child.status() != psutil.STATUS_ZOMBIE
                    for child in children
                )
            )
        )
    finally:
        home.close()


POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL server of Debian's package on a free port, and a database's URL."""
    if not POSTGRES:
        pytest.skip("needs Debian's postgresql package")
    folder = Path("/tmp") / f"anamorph-postgres-{os.getpid()}"  # a socket's path is short
    folder.mkdir()
    user: dict[str, str] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = {"user": "postgres"}
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        command = [POSTGRES[-1] / program, "-D", folder / "data", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **user)

    run("initdb", "--auth=trust", "--username=anamorph", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", options)
    try:
        yield f"postgresql://anamorph@127.0.0.1:{port}/jobs"
    finally:
        run("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(folder)


def holds(process: subprocess.Popen[bytes], name: str) -> bool:
    return any(Path(file.path).name == name for file in psutil.Process(process.pid).open_files())


@pytest.mark.usefixtures("one_thread")
def test_another_worker_takes_over_within_30_s_once(postgres: str, tmp_path: Path) -> None:
    """Of two workers on one PostgreSQL queue, one is killed: the other goes on with its job."""
    home = Home(tmp_path, postgres)
    try:
        workers = [home.start("worker"), home.start("worker")]
        until(lambda: home.log().count("worker started") == 2)
        job = home.jobs.submit(tiny_request(home.dataset, steps=60, auto_promote=True), OPERATOR)
        until(lambda: home.step(job) >= 5)
        (name,) = {
            event.data["worker"]
            for event in home.jobs.folder(job.id).events()
            if event.kind == "state"
        }
        (killed,) = [process for process in workers if holds(process, f"{name}.lock")]
        killed.kill()
        killed.wait()
        died = time.monotonic()
        until(lambda: home.states(job).count("running") == 2)
        assert time.monotonic() - died < 30
        ended = home.until_ended(job)
        assert ended.state == "succeeded", home.log()
        assert ended.worker != name
        assert home.states(job) == ["running", "running", "succeeded"]
        assert [version.label for version in home.registry.versions("tiny")] == ["tiny@1"]
        assert_uninterrupted(home, job, tmp_path / "whole")
    finally:
        home.close()
