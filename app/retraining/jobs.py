"""Training jobs: submitted, found, cancelled and resumed.

DBOS's tables say which jobs there are and who has them; what a job did lies in its folder.
The API only enqueues; `app.retraining.worker` runs.
"""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dbos import EnqueueOptions, WorkflowStatus
from dbos import error as dbos_errors

from app.callers import OPERATOR, Caller
from app.datasets.store import open_datasets
from app.error_codes import INTERNAL
from app.errors import JobConflict, JobNotFound
from app.ids import is_id
from app.installation import open_registry
from app.retraining.failures import JobFailed
from app.retraining.job_database import QUEUE, JobDatabase
from app.retraining.job_folder import JobFolder
from app.retraining.training_requests import recipe_of
from app.schemas.training import JobError, JobState, TrainingRequest
from app.settings import Settings
from app.visible import check_name, name_taken, owner_of_next

WORKFLOW = "train"
# Raised when the steps of a job change, so that no worker goes on with another's half-done job.
WORKFLOW_VERSION = "1"

_STATES: dict[str, JobState] = {
    "ENQUEUED": "queued",
    "PENDING": "running",
    "SUCCESS": "succeeded",
    "CANCELLED": "cancelled",
}
_UNFINISHED = ["ENQUEUED", "PENDING"]
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the database has it.

    Attributes:
        position: in the queue, from 1, of a queued job.
        recipe: the recipe as a table; its steps are provisional if the request gives minutes.
        worker: the executor id of the worker that has it, or had it last.
        owner: id of the key that it belongs to, if it belongs to one.
        model_owner: whose the model will be: that of the models of its name, if there are some.
    """

    id: str
    state: JobState
    position: int | None
    request: TrainingRequest
    recipe: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    error: JobError | None
    owner: str | None = None
    model_owner: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen unless somebody resumes it."""
        return self.state in {"succeeded", "failed", "cancelled"}


class Jobs:
    """Every method may block on the database: call them in a thread. Connects when first used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registry = open_registry(settings)
        self._datasets = open_datasets(settings)
        self._database = JobDatabase(settings)

    def submit(
        self,
        request: TrainingRequest,
        caller: Caller,
        idempotency_key: str | None = None,
    ) -> Job:
        """Check a caller's request and enqueue it; the same key and request give the same job.

        Raises:
            JobConflict: the key was used with another request.
            NameTaken: the model's name is not the caller's to train.
            InvalidRecipe, DatasetNotFound, ModelNotFound: see `recipe_of`.
        """
        job_id = uuid.uuid4().hex
        if idempotency_key is not None:
            space = f"{caller.key_id}:" if caller.key_id else ""
            job_id = hashlib.sha256(f"{space}key:{idempotency_key}".encode()).hexdigest()[:32]
            if known := self._find(job_id):
                return _same(known, request)
        recipe = recipe_of(request, self._datasets, self._registry, caller)
        owners = {
            "owner": caller.key_id,
            "model_owner": owner_of_next(self._registry, request.name, caller),
        }
        self._check_unclaimed(request.name, owners["model_owner"])
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": QUEUE,
            "workflow_id": job_id,
            "workflow_id_reuse_policy": "reject",
            "app_version": WORKFLOW_VERSION,
        }
        tables = request.model_dump(mode="json"), recipe.model_dump(mode="json"), owners
        try:
            with self._database.client() as client:
                client.enqueue(options, *tables)
        except dbos_errors.DBOSWorkflowIDInUseError:
            known = self._find(job_id)
            if known is None:
                raise
            return _same(known, request)  # another process was quicker
        return self.get(job_id)

    def list(self, caller: Caller, limit: int = 100) -> list[Job]:
        """Return the caller's newest jobs, newest first."""
        queue = self._queue()
        some = limit if caller.sees_all else None
        jobs = (_job(row, queue) for row in self._rows(name=WORKFLOW, sort_desc=True, limit=some))
        return list(itertools.islice((job for job in jobs if caller.owns(job.owner)), limit))

    def get(self, job_id: str) -> Job:
        """Return a job; raises JobNotFound."""
        job = self._find(job_id)
        if job is None:
            raise JobNotFound("there is no such job")
        return job

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that has not ended; one that has stays as it is. Raises JobNotFound."""
        if not self.get(job_id).ended:
            with self._database.client() as client:
                client.cancel_workflow(job_id)
        return self.get(job_id)

    def resume(self, job_id: str) -> Job:
        """Let a cancelled or failed job go on from its last checkpoint, or leave a queued one.

        Raises JobNotFound, JobConflict for a job that has succeeded, DatasetNotFound where its
        dataset was deleted meanwhile, or NameTaken where the model's name has become somebody
        else's.
        """
        job = self.get(job_id)
        if job.state == "succeeded":
            raise JobConflict("the job has succeeded; submit another one with this model as base")
        if job.ended:
            self._datasets.get(job.request.dataset, OPERATOR)
            self._check_unclaimed(job.request.name, job.model_owner)
            check_name(self._registry, job.request.name, job.model_owner)
        with self._database.client() as client:
            if job.state == "cancelled":
                client.resume_workflow(job_id, queue_name=QUEUE)
            if job.state == "failed":  # every step may run twice; the training has its own state
                try:
                    client.rewind_workflow(job_id, queue_name=QUEUE)
                except dbos_errors.DBOSException:
                    if self.get(job_id).state == "failed":
                        raise  # else somebody was quicker
        return self.get(job_id)

    def put_back(self, job_id: str, worker: str) -> None:
        """Queue a job again that the database still calls `worker`'s, which runs it no longer."""
        if self.owner(job_id) == worker:
            with self._database.client() as client:
                client.resume_workflow(job_id, queue_name=QUEUE)

    def using(self, dataset_id: str) -> str | None:
        """Return the id of a job that waits for this dataset or trains on it, if there is one."""
        rows = self._rows(name=WORKFLOW, status=_UNFINISHED)
        return next((row.workflow_id for row in rows if _request(row).dataset == dataset_id), None)

    def _check_unclaimed(self, name: str, owner: str | None) -> None:
        """Raise NameTaken while a job is to publish a model of that name for somebody else."""
        for row in self._rows(name=WORKFLOW, status=_UNFINISHED):
            if _request(row).name == name and _owners(row).get("model_owner") != owner:
                raise name_taken(name)

    def owner(self, job_id: str) -> str | None:
        """Return the worker that a running job belongs to; None when it does not run."""
        rows = self._rows(workflow_ids=[job_id], load_input=False, load_output=False)
        return rows[0].executor_id if rows and rows[0].status == "PENDING" else None

    def count(self) -> dict[JobState, int]:
        """Return how many jobs are queued and running now, and how many ended within a day."""
        since = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        bare: dict[str, Any] = {"name": WORKFLOW, "load_input": False, "load_output": False}
        rows = [
            *self._rows(status=_UNFINISHED, **bare),
            *self._rows(status=_ENDED, completed_after=since, **bare),
        ]
        states: list[JobState] = ["queued", "running", "succeeded", "failed", "cancelled"]
        return {state: sum(_state(row) == state for row in rows) for state in states}

    def running(self) -> dict[str, str]:
        """Return the worker of each running job, by job id."""
        rows = self._rows(name=WORKFLOW, status="PENDING", load_input=False, load_output=False)
        return {row.workflow_id: row.executor_id or "" for row in rows}

    def folder(self, job_id: str) -> JobFolder:
        """Return the job's files, which may not be there yet."""
        return JobFolder(self._settings.home, job_id)

    def connect(self) -> None:
        """Make the tables and the queue now rather than at the first call."""
        with self._database.client():
            pass

    def close(self) -> None:
        """Disconnect."""
        self._database.close()

    def _find(self, job_id: str) -> Job | None:
        if not is_id(job_id):
            return None
        rows = self._rows(workflow_ids=[job_id], name=WORKFLOW)
        return _job(rows[0], self._queue()) if rows else None

    def _queue(self) -> dict[str, int]:
        """The position of each queued job, in the order in which workers take them."""
        rows = self._rows(name=WORKFLOW, status="ENQUEUED", load_input=False, load_output=False)
        return {row.workflow_id: position for position, row in enumerate(rows, 1)}

    def _rows(self, **filters: Any) -> Sequence[WorkflowStatus]:
        with self._database.client() as client:
            return client.list_workflows(**filters)


def _same(known: Job, request: TrainingRequest) -> Job:
    if known.request != request:
        raise JobConflict("this Idempotency-Key was used with another request")
    return known


def _job(row: WorkflowStatus, queue: dict[str, int]) -> Job:
    failed = row.error
    error = None
    if _state(row) == "failed":
        known = failed if isinstance(failed, JobFailed) else JobFailed(INTERNAL.code, "")
        detail = known.detail or "a fault of the service; its text is in the worker's log"
        error = JobError(code=known.code, detail=detail)
    return Job(
        id=row.workflow_id,
        state=_state(row),
        position=queue.get(row.workflow_id),
        request=_request(row),
        recipe=row.input["args"][1] if row.input else {},
        created_at=_time(row.created_at) or datetime.now(UTC),
        started_at=_time(row.dequeued_at),
        finished_at=_time(row.completed_at),
        worker=row.executor_id,
        error=error,
        **_owners(row),
    )


def _state(row: WorkflowStatus) -> JobState:
    return _STATES.get(row.status, "failed")


def _request(row: WorkflowStatus) -> TrainingRequest:
    assert row.input is not None
    return TrainingRequest.model_validate(row.input["args"][0])


def _owners(row: WorkflowStatus) -> dict[str, str | None]:
    """Whose the job and its model are; nobody's in one from before there were keys."""
    args = row.input["args"] if row.input else ()
    return args[2] if len(args) > 2 else {}


def _time(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else datetime.fromtimestamp(epoch_ms / 1000, UTC)
