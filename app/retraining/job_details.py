"""What people are told of a job, over HTTP and on the command line."""

from __future__ import annotations

from app.retraining.job_folder import JobFolder
from app.retraining.jobs import Job
from app.schemas.training import JobDetails, JobProgress, JobSummary


def summary(job: Job, folder: JobFolder) -> JobSummary:
    """Return what the list says of a job."""
    started_at = job.started_at
    if started_at is None and job.state == "cancelled":  # the database forgets it then
        started_at = folder.started_at()
    return JobSummary(
        id=job.id,
        state=job.state,
        position=job.position,
        family=job.request.family,
        name=job.request.name,
        dataset=job.request.dataset,
        created_at=job.created_at,
        started_at=started_at,
        finished_at=job.finished_at,
        error=job.error,
    )


def details(job: Job, folder: JobFolder) -> JobDetails:
    """Return all that is known of a job: the database's part and its folder's."""
    latest = folder.latest()
    progress = latest.get("progress")
    return JobDetails(
        **summary(job, folder).model_dump(),
        request=job.request,
        worker=job.worker,
        progress=JobProgress.model_validate(progress) if progress else None,
        verdict=latest.get("verdict"),
        published=latest.get("published", {}).get("model"),
        promoted="promoted" in latest,
    )
