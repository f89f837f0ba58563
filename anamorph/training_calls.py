"""The calls about training data and trainings.

The same pictures are the same dataset, and the same key the same job, however often they arrive.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from anamorph.answers import read_picture
from anamorph.call import Call, nothing, segment
from anamorph.pictures import PictureFile
from anamorph.records import Dataset, DatasetDetails, Job, JobDetails, read_as, reader

DatasetKind = Literal["paired", "unpaired", "highres", "style"]
Family = Literal["pix2pix", "cyclegan", "srgan", "style"]

JOBS = "/v1/training-jobs"
_DATASETS = "/v1/datasets"


def upload_dataset(
    file: str | os.PathLike[str] | bytes, *, name: str, kind: DatasetKind
) -> Call[DatasetDetails]:
    """Store a zip of pictures as training data, and return what was found in it.

    Args:
        file: where the zip lies, which is then sent piece by piece, or its bytes.
        name: what people call it.
        kind: how the pictures belong together.
    """
    content = file if isinstance(file, bytes) else Path(file)
    return Call(
        "POST",
        _DATASETS,
        reader(DatasetDetails),
        fields={"name": name, "kind": kind},
        file=("file", content),
        repeatable=True,
    )


def list_datasets() -> Call[list[Dataset]]:
    """Return every dataset, the oldest first."""
    return Call("GET", _DATASETS, reader(list[Dataset]), repeatable=True)


def get_dataset(dataset_id: str) -> Call[DatasetDetails]:
    """Return one dataset. Raises DatasetNotFound."""
    path = f"{_DATASETS}/{segment(dataset_id)}"
    return Call("GET", path, reader(DatasetDetails), repeatable=True)


def delete_dataset(dataset_id: str) -> Call[None]:
    """Remove a dataset. Raises DatasetInUse while a training uses it."""
    return Call("DELETE", f"{_DATASETS}/{segment(dataset_id)}", nothing)


def contact_sheet(dataset_id: str) -> Call[PictureFile]:
    """Return a picture of up to 12 pictures of each part, a row each."""
    path = f"{_DATASETS}/{segment(dataset_id)}/contact.png"
    return Call("GET", path, read_picture, repeatable=True)


def create_job(
    *,
    family: Family,
    dataset: str,
    name: str,
    base: str | None = None,
    direction: Literal["AtoB", "BtoA"] | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    hyperparameters: Mapping[str, Mapping[str, Any]] | None = None,
    auto_promote: bool = False,
    idempotency_key: str | None = None,
) -> Call[JobDetails]:
    """Put a training into the queue.

    Args:
        family: of the model.
        dataset: an id, of the family's kind.
        name: of the model; a further training of the same name is its next version.
        base: a model whose weights and hyperparameters to start from.
        direction: of a translation.
        steps: the budget; by default the family's own.
        minutes: instead of steps.
        seed: 0 by default.
        hyperparameters: tables `generator`, `objective`, `training` and `data`.
        auto_promote: let the new version serve if it is no worse than the one that serves.
        idempotency_key: names the request; the same key gives the same job. By default a new one,
            so that what this client repeats trains once.
    """
    given = {
        "family": family,
        "dataset": dataset,
        "name": name,
        "base": base,
        "direction": direction,
        "steps": steps,
        "minutes": minutes,
        "seed": seed,
        "hyperparameters": hyperparameters,
        "auto_promote": auto_promote,
    }
    return Call(
        "POST",
        JOBS,
        reader(JobDetails),
        headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
        json={key: value for key, value in given.items() if value is not None},
        repeatable=True,
    )


def list_jobs(*, limit: int = 100) -> Call[list[Job]]:
    """Return the newest `limit` (1..1000) jobs, the newest first."""
    return Call("GET", JOBS, reader(list[Job]), query={"limit": limit}, repeatable=True)


def get_job(job_id: str) -> Call[JobDetails]:
    """Return a job with all that is known of it. Raises JobNotFound."""
    return Call("GET", f"{JOBS}/{segment(job_id)}", reader(JobDetails), repeatable=True)


def cancel_job(job_id: str) -> Call[JobDetails]:
    """Stop a job within seconds, keeping its checkpoint; one that has ended stays as it is."""
    return Call("POST", f"{JOBS}/{segment(job_id)}/cancel", reader(JobDetails), repeatable=True)


def resume_job(job_id: str) -> Call[JobDetails]:
    """Let a cancelled or failed job go on from its last checkpoint."""
    return Call("POST", f"{JOBS}/{segment(job_id)}/resume", reader(JobDetails), repeatable=True)


def list_samples(job_id: str) -> Call[list[int]]:
    """Return the steps of which there is a grid of samples."""
    return Call(
        "GET",
        f"{JOBS}/{segment(job_id)}/samples",
        lambda response: read_as(list[int], response.json()["steps"]),
        repeatable=True,
    )


def sample_grid(job_id: str, step: int) -> Call[PictureFile]:
    """Return inputs, answers and, where there are any, targets, as they were at a step."""
    path = f"{JOBS}/{segment(job_id)}/samples/{segment(step)}.png"
    return Call("GET", path, read_picture, repeatable=True)


def loss_curves(job_id: str) -> Call[PictureFile]:
    """Return the losses over the steps, a panel each, as a picture."""
    return Call("GET", f"{JOBS}/{segment(job_id)}/losses.png", read_picture, repeatable=True)
