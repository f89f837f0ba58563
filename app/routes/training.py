"""Training jobs: submit, watch, cancel, resume."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.deps import JobsDep, OwnJob, Train
from app.errors import JobNotFound
from app.http.describing import PNG
from app.retraining.job_details import details, summary
from app.retraining.job_folder import Event
from app.retraining.jobs import Jobs
from app.schemas.problems import problems
from app.schemas.training import (
    EXAMPLE_KEY,
    JobDetails,
    JobSamples,
    JobSummary,
    TrainingRequest,
)

PATH = "/v1/training-jobs"

router = APIRouter(prefix=PATH, tags=["training"])

_LOOK_EVERY_S = 0.3
_ASK_EVERY_S = 1.0
_AT_ONCE = 1000  # events in memory; a week's training has a hundred thousand

# Plain functions: FastAPI runs them in a thread, where the database may block.


@router.post("", status_code=202, responses=problems(404, 409, 422, 503, 507))
def submit_job(
    training: TrainingRequest,
    request: Request,
    response: Response,
    jobs: JobsDep,
    caller: Train,
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=255, examples=[EXAMPLE_KEY])
    ] = None,
) -> JobDetails:
    """Put a training into the queue; the same `Idempotency-Key` and body give the same job."""
    job = jobs.submit(training, caller, idempotency_key)
    # Without host and scheme, which a proxy may not pass on.
    response.headers["Location"] = f"{request.scope.get('root_path', '')}{PATH}/{job.id}"
    return details(job, jobs.folder(job.id))


@router.get("", responses=problems(422, 503))
def list_jobs(
    jobs: JobsDep, caller: Train, limit: Annotated[int, Query(ge=1, le=1000, examples=[10])] = 100
) -> list[JobSummary]:
    """The newest jobs, newest first."""
    return [summary(job, jobs.folder(job.id)) for job in jobs.list(caller, limit)]


@router.get("/{job_id}", responses=problems(404, 422, 503))
def show_job(job: OwnJob, jobs: JobsDep) -> JobDetails:
    """A job with its progress, its comparison with the serving version and what it published."""
    return details(job, jobs.folder(job.id))


@router.post("/{job_id}/cancel", responses=problems(404, 422, 503, 507))
def cancel_job(job: OwnJob, jobs: JobsDep) -> JobDetails:
    """Stop a job that has not ended, keeping its last checkpoint; otherwise change nothing."""
    return details(jobs.cancel(job.id), jobs.folder(job.id))


@router.post("/{job_id}/resume", responses=problems(404, 409, 422, 503, 507))
def resume_job(job: OwnJob, jobs: JobsDep) -> JobDetails:
    """Let a cancelled or failed job go on from its last checkpoint."""
    return details(jobs.resume(job.id), jobs.folder(job.id))


@router.get("/{job_id}/samples", responses=problems(404, 422, 503))
def list_samples(job: OwnJob, jobs: JobsDep) -> JobSamples:
    """The steps of which there is a sample grid."""
    return JobSamples(steps=jobs.folder(job.id).samples())


@router.get(
    "/{job_id}/samples/{step}.png",
    response_class=Response,
    responses=PNG | problems(404, 422, 503),
)
def show_sample(
    job: OwnJob, step: Annotated[int, Path(ge=0, le=10_000_000, examples=[100])], jobs: JobsDep
) -> Response:
    """Inputs, answers and, where there are any, targets, as they were at a step."""
    path = jobs.folder(job.id).sample_file(step)
    if path is None:
        raise JobNotFound("there is no sample of that step")
    return Response(path.read_bytes(), media_type="image/png")


@router.get(
    "/{job_id}/losses.png", response_class=Response, responses=PNG | problems(404, 422, 503)
)
def show_losses(job: OwnJob, jobs: JobsDep) -> Response:
    """The losses over the steps, a panel each."""
    curves = jobs.folder(job.id).loss_curves()
    if curves is None:
        raise JobNotFound("the job has no losses yet")
    return Response(curves, media_type="image/png")


@router.get(
    "/{job_id}/events", response_class=EventSourceResponse, responses=problems(404, 422, 503)
)
async def job_events(
    request: Request,
    job: OwnJob,  # a dependency: a 404 must come before the stream begins
    jobs: JobsDep,
    last_event_id: Annotated[int, Header(ge=0, examples=[0])] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: all since `Last-Event-ID`, then new ones; `end` when the job has ended.

    `state`, `progress`, `sample`, `damaged`, `verdict`, `published`, `promoted`, and at last `end`
    with the job as `GET` shows it.
    """
    async for event in follow(jobs, job.id, last_event_id):
        if event is None:
            if request.app.state.leaving.is_set():
                return  # the client comes back with Last-Event-ID
            continue
        yield ServerSentEvent(id=str(event.id), event=event.kind, data=event.data)
    shown = await asyncio.to_thread(lambda: details(jobs.get(job.id), jobs.folder(job.id)))
    yield ServerSentEvent(event="end", data=shown)


async def follow(jobs: Jobs, job_id: str, after: int) -> AsyncIterator[Event | None]:
    """Yield a job's events above `after`, and None while there are none, until it has ended."""
    folder = jobs.folder(job_id)
    read_bytes, end, asked = -1, 0, float("-inf")
    ended = False
    while True:
        size = folder.events_file.stat().st_size if folder.events_file.exists() else 0
        if size != read_bytes:
            some = islice(folder.events(after, end), _AT_ONCE)
            events = await asyncio.to_thread(list, some)
            for event in events:
                after, end = event.id, event.end
                yield event
            if len(events) == _AT_ONCE:  # there may be more
                continue
            read_bytes = size
        elif ended:
            return
        if time.monotonic() - asked >= _ASK_EVERY_S:
            asked = time.monotonic()
            ended = (await asyncio.to_thread(jobs.get, job_id)).ended
        yield None
        if not ended:
            await asyncio.sleep(_LOOK_EVERY_S)
