"""`anamorph jobs`: trainings in the queue, without a server in between."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.callers import OPERATOR
from app.commands.common import errors_as_text, settings_from

if TYPE_CHECKING:
    from app.retraining.jobs import Job, Jobs

app = typer.Typer(no_args_is_help=True, help="Trainings in the queue.")

_JobId = Annotated[str, typer.Argument(help="As submit and list print it.")]


@app.command()
def submit(
    family: Annotated[str, typer.Option(help="pix2pix, cyclegan, srgan or style.")],
    dataset: Annotated[str, typer.Option(help="Id of a dataset.")],
    name: Annotated[str, typer.Option(help="What the model will be called.")],
    base: Annotated[str | None, typer.Option(help="Model to start from.")] = None,
    direction: Annotated[Literal["AtoB", "BtoA"], typer.Option()] = "AtoB",
    steps: Annotated[int | None, typer.Option(min=1)] = None,
    minutes: Annotated[float | None, typer.Option()] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="A hyperparameter: training.batch=4")
    ] = None,
    auto_promote: Annotated[
        bool, typer.Option(help="Serve the new version if it is no worse.")
    ] = False,
    key: Annotated[str | None, typer.Option(help="The same key gives the same job.")] = None,
) -> None:
    """Put a training into the queue and print its id."""
    from app.schemas.training import Hyperparameters, TrainingRequest
    from models.recipe import parse_changes

    with _jobs() as jobs:
        request = TrainingRequest(
            family=family,
            dataset=dataset,
            name=name,
            base=base,
            direction=direction,
            steps=steps,
            minutes=minutes,
            seed=seed,
            hyperparameters=Hyperparameters(**parse_changes(changes or ())),
            auto_promote=auto_promote,
        )
        typer.echo(jobs.submit(request, OPERATOR, key).id)


@app.command("list")
def list_jobs() -> None:
    """The newest jobs, newest first."""
    with _jobs() as jobs:
        for job in jobs.list(OPERATOR):
            place = f" ({job.position})" if job.position else ""
            when = f"{job.created_at:%Y-%m-%d %H:%M}"
            typer.echo(f"{job.id}  {when}  {job.state + place:<12} {job.request.name}")


@app.command()
def show(job_id: _JobId) -> None:
    """Everything that is known of a job, as JSON."""
    from app.retraining.job_details import details

    with _jobs() as jobs:
        job = jobs.get(job_id)
        typer.echo(details(job, jobs.folder(job.id)).model_dump_json(indent=2))


@app.command()
def cancel(job_id: _JobId) -> None:
    """Stop a job, keeping its last checkpoint."""
    with _jobs() as jobs:
        typer.echo(jobs.cancel(job_id).state)


@app.command()
def resume(job_id: _JobId) -> None:
    """Let a cancelled or failed job go on from its last checkpoint."""
    with _jobs() as jobs:
        typer.echo(jobs.resume(job_id).state)


@app.command()
def watch(job_id: _JobId) -> None:
    """Show a job's progress until it has ended; the exit status tells whether it succeeded."""
    with _jobs() as jobs:
        job = _watch(jobs, job_id)
        told = f": {job.error.detail}" if job.error else ""
        typer.echo(f"{job.state}{told}", err=True)
        if job.state != "succeeded":
            raise typer.Exit(1)


def _watch(jobs: Jobs, job_id: str) -> Job:
    from tqdm import tqdm

    after = 0
    with tqdm(total=1, unit="step") as bar:
        while True:
            job = jobs.get(job_id)
            for event in jobs.folder(job_id).events(after):
                after = event.id
                _show(bar, event.kind, event.data)
            if job.ended:
                return job
            time.sleep(0.5)


def _show(bar: Any, kind: str, data: dict[str, Any]) -> None:
    if kind == "progress":
        bar.total = data["steps"]
        bar.set_postfix({k: f"{v:.3g}" for k, v in data["figures"].items()}, refresh=False)
        bar.update(data["step"] - bar.n)
    elif kind != "sample":
        told = data.get("reason") or data.get("model") or data.get("state") or json.dumps(data)
        bar.write(f"{kind}: {told}")


@contextlib.contextmanager
def _jobs() -> Iterator[Jobs]:
    from app.retraining.jobs import Jobs

    with errors_as_text():
        jobs = Jobs(settings_from())
        try:
            yield jobs
        finally:
            jobs.close()
