"""The process that trains: takes jobs from the queue, one at a time, and takes over dead workers'.

SIGTERM writes a checkpoint and leaves the job to the next worker; so does a killed parent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ParamSpec, TypeVar

import structlog
import torch
from dbos import DBOS
from dbos import error as dbos_errors
from filelock import FileLock, Timeout

from app.installation import choose_device
from app.retraining.failures import JobFailed, failure_of
from app.retraining.job_database import APPLICATION, QUEUE, JsonSerializer, database_url
from app.retraining.job_folder import JobFolder
from app.retraining.jobs import WORKFLOW, WORKFLOW_VERSION, Jobs
from app.retraining.liveness import BEAT_S, DEAD_AFTER_S, Periodically, Watch, WorkerName
from app.schemas.training import TrainingRequest
from app.settings import Settings
from app.signals import stop_signal

P = ParamSpec("P")
T = TypeVar("T")

_POLL_S = 1.0

log = structlog.get_logger()


class Worker:
    """Runs jobs until `stopping` is set."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._settings, self._stopping = settings, stopping
        self._jobs = Jobs(settings)
        self._name = WorkerName(settings.home)
        self._watch = Watch(settings.home)
        self._at_work: set[str] = set()
        self._unrecorded_since: dict[str, float] = {}

    def run(self) -> None:
        """Work; returns once the job under way, if any, has left a checkpoint.

        Raises ServiceError at once where the device is missing that jobs would be trained on.
        """
        device = choose_device(self._settings.device)
        if device.type == "cpu" and self._settings.worker_memory_bytes:
            _limit_memory(self._settings.worker_memory_bytes)
        torch.set_num_threads(self._settings.worker_threads)
        if hasattr(os, "nice"):
            os.nice(self._settings.worker_niceness)
        self._name.beat_file.touch()
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": database_url(self._settings),
                "serializer": JsonSerializer(),
                "application_version": WORKFLOW_VERSION,
                "executor_id": str(self._name),
                "log_level": "WARNING",
            }
        )
        logging.getLogger("dbos").addFilter(_is_news)
        DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)(_function(self._train))
        self._jobs.connect()
        DBOS.listen_queues([QUEUE])
        DBOS.launch()  # takes up what this worker left behind when it was killed
        log.info("worker started", worker=str(self._name))
        beats = Periodically("heartbeat", BEAT_S, self._beat)
        beats.start()
        self._stopping.wait()
        DBOS.destroy(workflow_completion_timeout_sec=self._settings.shutdown_timeout_s)
        beats.stop()
        self._jobs.close()
        log.info("worker stopped", worker=str(self._name))

    def _beat(self) -> None:
        """Show that this worker lives, and put the jobs of dead ones back into the queue."""
        self._name.beat_file.touch()
        running = self._jobs.running()
        self._revive({job for job, owner in running.items() if owner == str(self._name)})
        others = set(running.values()) - {str(self._name)}
        for name in self._watch.dead(others):
            log.warning("taking over the jobs of a dead worker", worker=name)
            # Changes only jobs that are still running and still this worker's: of several workers
            # that find it dead one succeeds, and a job cancelled meanwhile stays cancelled.
            DBOS._recover_pending_workflows([name])  # noqa: SLF001 -- the only such call there is

    def _revive(self, mine: set[str]) -> None:
        """Put a job of ours back into the queue whose end could not be recorded.

        On a full disk, say: it counts as running then, and nobody works on it.
        """
        now = time.monotonic()
        since = {job: self._unrecorded_since.get(job, now) for job in mine - self._at_work}
        self._unrecorded_since = since
        for job in [job for job, at in since.items() if now - at >= DEAD_AFTER_S]:
            log.warning("a job ended unrecorded and is queued again", job=job)
            self._jobs.put_back(job, str(self._name))
            del since[job]

    def _train(
        self,
        request: dict[str, Any],
        recipe: dict[str, Any],
        owners: dict[str, str | None] | None = None,  # absent in jobs from before there were keys
    ) -> dict[str, Any]:
        """The workflow: the steps of a job, each recorded when it is done."""
        job_id = str(DBOS.workflow_id)
        log.info("job started", job=job_id)
        with self._working(job_id), self._ownership(job_id) as lost:
            # Inside: importing torch can take so long that `_revive` would think nobody works.
            from app.retraining.training_job import Paused, TrainingJob

            def should_stop() -> bool:
                return lost.is_set() or self._stopping.is_set()

            def step(name: str, work: Callable[[], Any]) -> Any:
                if should_stop():
                    raise Paused
                return DBOS.run_step({"name": name}, work)

            with _lock(JobFolder(self._settings.home, job_id), should_stop):
                parsed = TrainingRequest.model_validate(request)
                job = TrainingJob(
                    self._settings,
                    job_id,
                    parsed,
                    recipe,
                    str(self._name),
                    should_stop,
                    (owners or {}).get("model_owner"),
                )
                done = job.run(step)
        log.info("job done", job=job_id, **done)
        return done

    @contextlib.contextmanager
    def _working(self, job_id: str) -> Iterator[None]:
        """Count the job as at work."""
        self._at_work.add(job_id)
        try:
            yield
        finally:
            self._at_work.discard(job_id)

    @contextlib.contextmanager
    def _ownership(self, job_id: str) -> Iterator[threading.Event]:
        """Yield an event that is set when the job is cancelled or another worker's."""
        lost = threading.Event()

        def look() -> None:
            if self._jobs.owner(job_id) != str(self._name):
                lost.set()

        poll = Periodically("ownership", _POLL_S, look)
        poll.start()
        try:
            yield lost
        finally:
            poll.stop()


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out a failed job, which is logged where it fails, and a cancelled one."""
    told = JobFailed, dbos_errors.DBOSAwaitedWorkflowCancelledError
    return not (record.exc_info and isinstance(record.exc_info[1], told))


def _function(method: Callable[P, T]) -> Callable[P, T]:
    """Wrap a method in what DBOS can mark."""

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return method(*args, **kwargs)

    return call


def _limit_memory(limit_bytes: int) -> None:
    """Let allocations fail that go beyond, and the job with them, rather than the machine."""
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard != resource.RLIM_INFINITY:
            limit_bytes = min(limit_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, hard))


@contextlib.contextmanager
def _lock(folder: JobFolder, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Hold the job's lock: a worker that was taken for dead may still be writing."""
    from app.retraining.training_job import Paused

    lock = FileLock(folder.path / "lock")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            if should_stop():
                raise Paused
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=_POLL_S)
    except OSError as error:  # a full disk, say
        raise failure_of(error) from error
    try:
        yield
    finally:
        lock.release()


def run_worker(settings: Settings, *, until_stdin_closes: bool = False) -> None:
    """Work until SIGTERM or SIGINT, or until the parent's end closes standard input."""
    # A parent ends us after its timeout. Of a signal to the whole group, and then from the parent,
    # the second must not end us in the middle of a checkpoint.
    with stop_signal(patient=until_stdin_closes) as stopping:
        if until_stdin_closes:
            threading.Thread(target=partial(_await_end_of_input, stopping), daemon=True).start()
        Worker(settings, stopping).run()
    os._exit(0)  # a comparison under way cannot be interrupted; the next worker does it again


def _await_end_of_input(stopping: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1):  # unbuffered: a buffer's lock aborts a failing exit
        pass
    stopping.set()
