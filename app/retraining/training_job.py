"""One training job, from the dataset's check to the promotion: steps that may each run twice."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from app.callers import OPERATOR
from app.datasets.store import open_datasets
from app.installation import choose_device, code_version, open_cache, open_registry
from app.opening import open_version
from app.retraining.failures import JobFailed, failure_of
from app.retraining.job_folder import JobFolder
from app.retraining.training_requests import model_key
from app.schemas.training import TrainingRequest
from app.settings import Settings
from app.visible import check_name
from models.checkpoint import amend_card
from models.errors import InvalidCheckpoint, ModelNotFound
from models.evaluation.gate import gate
from models.files import write_atomically
from models.recipe import Recipe, parse_recipe
from models.registry import NOTHING, ModelVersion, Superseded
from models.state import load_state
from models.training import STATE_FILE, Progress, train

T = TypeVar("T")
Step = Callable[[str, Callable[[], T]], T]

_WARM_UP_STEPS = 3
_MEASURED_S = 20.0
_PROGRESS_EVERY_S = 1.0
_STARTS_WITHOUT_CHECKPOINT = 5


class Paused(BaseException):
    """The job is no longer this worker's, or the worker is to end; nothing else is recorded.

    Not an Exception, so that neither this module nor DBOS takes it for the job's failure.
    """


class TrainingJob:
    """The steps of one job, in the folder that only this process writes to.

    `should_stop` is asked between training steps; what it interrupts goes on from a checkpoint.
    """

    _recipe: Recipe

    def __init__(
        self,
        settings: Settings,
        job_id: str,
        request: TrainingRequest,
        recipe: dict[str, Any],
        worker: str,
        should_stop: Callable[[], bool],
        model_owner: str | None = None,
    ) -> None:
        self._settings = settings
        self._model_owner = model_owner
        self._id, self._request, self._worker = job_id, request, worker
        self._given_recipe = recipe
        self._folder = JobFolder(settings.home, job_id)
        self._registry = open_registry(settings)
        self._datasets = open_datasets(settings)
        self._should_stop = should_stop
        self._device = choose_device(settings.device)

    def run(self, step: Step[Any]) -> dict[str, Any]:
        """Do all steps, each as `step(name, work)` records it, and return what came of them.

        Raises:
            JobFailed: with the code and the text that people see.
            Paused: there is more to do, for whoever has the job next.
        """

        def recorded(name: str, work: Callable[[], T]) -> T:
            done: T = step(name, partial(self._clearly, work))
            return done

        try:
            self._clearly(self._folder.open_events)
            self._recipe = self._clearly(partial(parse_recipe, self._given_recipe))
            self._clearly(self._begin)
            recorded("dataset", self._verify_dataset)
            steps = recorded("plan", self._plan)
            made = recorded("train", lambda: self._train(steps))
            verdict = recorded("evaluate", lambda: self._evaluate(made))
            published = recorded("publish", lambda: self._publish(made, verdict))
            promoted = recorded("promote", lambda: self._promote(made, published, verdict))
        except JobFailed as error:
            self._folder.append("state", state="failed", code=error.code, detail=error.detail)
            raise
        except Paused:
            self._folder.append("state", state="paused")
            raise
        (self._folder.path / STATE_FILE).unlink(missing_ok=True)  # nothing goes on from here
        self._folder.append("state", state="succeeded")
        return {"published": published, "promoted": promoted}

    def _verify_dataset(self) -> None:
        # That it is the caller's was seen to when the job was submitted.
        self._datasets.get(self._request.dataset, OPERATOR).verify()

    def _begin(self) -> None:
        """Record the start; a job whose worker dies again and again fails instead."""
        state = self._folder.path / STATE_FILE
        checkpoint = state.stat().st_mtime_ns if state.exists() else None
        starts = 0
        for event in self._folder.events():
            if event.kind == "state":
                same = event.data["state"] == "running" and event.data["checkpoint"] == checkpoint
                starts = starts + 1 if same else 0
        if starts >= _STARTS_WITHOUT_CHECKPOINT:
            raise JobFailed(
                "worker_died",
                f"the worker died {starts} times in this job before a further checkpoint; "
                "smaller pictures or batches need less memory",
            )
        self._folder.append("state", state="running", worker=self._worker, checkpoint=checkpoint)

    def _plan(self) -> int:
        """Decide the number of steps, once and for all."""
        if self._folder.recipe_file.exists():  # decided before the job failed and was resumed
            steps = json.loads(self._folder.recipe_file.read_text("utf-8"))["training"]["steps"]
            return int(steps)
        steps = self._recipe.training.steps
        if self._request.minutes is not None:
            steps = self._affordable_steps(self._request.minutes * 60)
        recipe = self._with_steps(steps).model_dump_json(indent=2)
        write_atomically(
            self._folder.recipe_file, lambda target: target.write_text(recipe, "utf-8")
        )
        return steps

    def _affordable_steps(self, budget_s: float) -> int:
        """Train for a moment elsewhere, and return how many such steps the budget holds."""
        started = time.monotonic()
        ends: list[float] = []

        def enough() -> bool:
            stopping = self._pause_for_inference()  # part of every step's time
            ends.append(time.monotonic())
            warm = ends[_WARM_UP_STEPS - 1 :]
            return stopping or (
                len(warm) > 1 and warm[-1] - warm[0] >= min(_MEASURED_S, budget_s / 10)
            )

        folder = self._folder.path / "measuring"
        shutil.rmtree(folder, ignore_errors=True)
        self._call_train(self._with_steps(10_000_000), folder, enough, lambda _: None)
        shutil.rmtree(folder, ignore_errors=True)
        if self._should_stop():
            raise Paused
        warm = ends[_WARM_UP_STEPS - 1 :]
        rate = (len(warm) - 1) / (warm[-1] - warm[0])
        return max(1, int((budget_s - (time.monotonic() - started)) * rate))

    def _with_steps(self, steps: int) -> Recipe:
        training = self._recipe.training.model_copy(update={"steps": steps})
        return self._recipe.model_copy(update={"training": training})

    def _train(self, steps: int) -> str:
        """Train from the last checkpoint to the end; return the made file, relative to the job."""
        reported = float("-inf")
        known = {event.data["step"] for event in self._folder.events() if event.kind == "sample"}

        def report(progress: Progress) -> None:
            nonlocal reported
            self._tell_samples(known)
            if time.monotonic() - reported < _PROGRESS_EVERY_S and progress.step < progress.steps:
                return
            reported = time.monotonic()
            self._folder.append(
                "progress",
                step=progress.step,
                steps=progress.steps,
                steps_per_s=round(progress.steps_per_s, 4),
                seconds_left=round((progress.steps - progress.step) / progress.steps_per_s, 1),
                figures=progress.figures,
            )

        train_on = partial(
            self._call_train,
            self._with_steps(steps),
            self._folder.path,
            self._pause_for_inference,
            report,
        )
        try:
            made = train_on()
        except InvalidCheckpoint:
            if not self._set_damaged_state_aside():
                raise
            made = train_on()
        self._tell_samples(known)
        if not made:
            raise Paused
        return str(made[model_key(self._request)].relative_to(self._folder.path))

    def _set_damaged_state_aside(self) -> bool:
        """Rename a state that does not load; the training then ends the same, only later."""
        path = self._folder.path / STATE_FILE
        try:
            load_state(path)
        except InvalidCheckpoint as error:
            if path.exists():
                path.replace(path.with_suffix(".damaged"))
                self._folder.append("damaged", detail=f"{error}; training from the start")
                return True
        return False

    def _pause_for_inference(self) -> bool:
        """Let the service's kernels through: a GPU knows no priority between processes."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            time.sleep(self._settings.worker_pause_ms / 1000)
        return self._should_stop()

    def _call_train(
        self,
        recipe: Recipe,
        folder: Path,
        should_stop: Callable[[], bool],
        on_progress: Callable[[Progress], None],
    ) -> dict[str, Path]:
        return train(
            recipe,
            folder,
            data_root=self._datasets.root,
            device=self._device,
            features=self._settings.vgg16,
            find_model=self._find_base,
            should_stop=should_stop,
            on_progress=on_progress,
        )

    def _find_base(self, reference: str) -> Path:
        try:
            return self._registry.resolve(reference).path
        except ModelNotFound:  # the registry's text names everybody's models
            raise ModelNotFound(f"the base, {reference}, is there no more") from None

    def _tell_samples(self, known: set[int]) -> None:
        for step in self._folder.samples():
            if step not in known:
                known.add(step)
                self._folder.append("sample", step=step)

    def _evaluate(self, made: str) -> dict[str, Any]:
        """Compare with the serving version; without a comparison the model is still published."""
        serving = None
        try:
            with contextlib.suppress(ModelNotFound):
                serving = self._registry.resolve(self._request.name)
            verdict = gate(
                self._folder.path / made,
                serving.path if serving else None,
                self._datasets.root,
                features=self._settings.vgg16,
                device=self._device,
                before_each=self._pause_if_asked,
            ).as_card()
        except Exception as error:  # noqa: BLE001 -- the training is done; its model is published
            reason = failure_of(error).detail or type(error).__name__
            verdict = {"passed": False, "reason": f"not evaluated: {reason}"}
        verdict["compared"] = serving.label if serving else NOTHING
        self._folder.append("verdict", **verdict)
        return verdict

    def _pause_if_asked(self) -> None:
        if self._should_stop():
            raise Paused

    def _publish(self, made: str, verdict: dict[str, Any]) -> str:
        """Publish once: a version whose card names this job is the one."""
        found = self._published()
        if found is None:
            # It may have become somebody else's since the job was submitted.
            check_name(self._registry, self._request.name, self._model_owner)
            path = self._folder.path / made
            lineage = {
                "job": self._id,
                "dataset": self._request.dataset,  # the id is a hash of the content and its owner
                "base": self._recipe.initial.get(model_key(self._request)),
                "code": code_version(),
            }
            if self._model_owner:
                lineage["owner"] = self._model_owner
            amend_card(path, {"lineage": lineage, "gate": verdict})
            found = self._registry.publish(path, self._request.name)
        # Tried out, and compiled here, as that would keep the service's requests waiting there.
        open_version(found, self._device, open_cache(self._settings))
        self._folder.append("published", model=found.label)
        return found.label

    def _published(self) -> ModelVersion | None:
        try:
            versions = self._registry.versions(self._request.name)
        except ModelNotFound:
            return None
        return next((v for v in versions if v.lineage.get("job") == self._id), None)

    def _promote(self, made: str, published: str, verdict: dict[str, Any]) -> bool:
        """Promote what passed, once it is compared with what is promoted at that moment."""
        name, _, number = published.partition("@")
        while self._request.auto_promote and verdict["passed"]:
            try:
                self._registry.promote(name, int(number), instead_of=verdict.get("compared"))
            except Superseded:
                verdict = self._evaluate(made)
                continue
            self._folder.append("promoted", model=published)
            return True
        return False

    def _clearly(self, work: Callable[[], T]) -> T:
        """Do `work`; whatever goes wrong becomes a JobFailed."""
        try:
            return work()
        except JobFailed:
            raise
        except Exception as error:
            raise failure_of(error) from error
