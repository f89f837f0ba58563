"""The steps of one job, in this process and without a queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from app.callers import OPERATOR
from app.datasets.store import DatasetStore
from app.errors import DatasetNotFound
from app.retraining import training_job
from app.retraining.failures import JobFailed
from app.retraining.job_folder import JobFolder
from app.retraining.training_job import Paused, TrainingJob
from app.retraining.training_requests import recipe_of
from app.schemas.training import TrainingRequest
from models.checkpoint import load_generator
from models.errors import InvalidRecipe
from models.registry import Registry
from models.training import STATE_FILE
from tiny_jobs import add_pairs, tiny_request, training_settings
from tiny_training import room_for, write_data

pytestmark = pytest.mark.usefixtures("one_thread")
JOB = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def dataset_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def dataset(dataset_home: Path) -> str:
    return add_pairs(dataset_home)


@pytest.fixture
def home(dataset_home: Path, tmp_path: Path) -> Path:
    """A folder of its own for each test, with the module's dataset."""
    (tmp_path / "datasets").symlink_to(dataset_home / "datasets")
    return tmp_path


def registry_of(home: Path) -> Registry:
    return Registry(home, home / "no weights")


def start(
    home: Path,
    request: TrainingRequest,
    should_stop: Callable[[], bool] = lambda: False,
    job_id: str = JOB,
    model_owner: str | None = None,
) -> TrainingJob:
    recipe = recipe_of(request, DatasetStore(home), registry_of(home), OPERATOR).model_dump(
        mode="json"
    )
    settings = training_settings(home)
    return TrainingJob(settings, job_id, request, recipe, "me", should_stop, model_owner)


def now(_name: str, work: Callable[[], Any]) -> Any:
    return work()


def stop_after(count: int) -> Callable[[], bool]:
    asked: Iterator[int] = iter(range(1_000_000))
    return lambda: next(asked) >= count - 1


def weights(home: Path, reference: str) -> dict[str, torch.Tensor]:
    return load_generator(registry_of(home).resolve(reference).path).module.state_dict()


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_job_trains_compares_publishes_and_promotes(home: Path, dataset: str) -> None:
    """The published version's card says what it was made from and how it compared."""
    done = start(home, tiny_request(dataset, auto_promote=True)).run(now)
    version = registry_of(home).resolve("tiny@1")
    assert done["published"] == "tiny@1"
    assert version.lineage["dataset"] == dataset
    assert version.lineage["job"] == JOB
    assert version.lineage["base"] is None
    assert version.header.card["gate"]["metric"] == "L1"
    assert done["promoted"] == version.header.card["gate"]["passed"] == version.promoted
    kinds = [event.kind for event in JobFolder(home, JOB).events()]
    assert kinds[0] == kinds[-1] == "state"
    assert {"progress", "sample", "verdict", "published"} <= set(kinds)


def test_photos_teach_their_colours(home: Path, dataset_home: Path) -> None:
    """A translation trained on photos becomes a colorizer, which its distance in chroma judges."""
    photos = dataset_home / "photos"
    if not photos.exists():
        write_data(photos, 8)
    dataset, _ = DatasetStore(dataset_home).add(photos / "warm", "photos", "highres")
    done = start(home, tiny_request(dataset.id, name="colours")).run(now)
    card = registry_of(home).resolve("colours@1").header.card
    assert done["published"] == "colours@1"
    assert card["gate"]["metric"] == "chroma"
    assert (
        card["recipe"]["generator"] | {"channels_in": 1, "channels_out": 2}
        == (card["recipe"]["generator"])
    )


def test_a_name_goes_to_the_key_that_publishes_first(home: Path, dataset: str) -> None:
    """A version belongs to its job's key; another key's job ends there, as the name is taken."""
    request = tiny_request(dataset, steps=1)
    start(home, request, model_owner="first").run(now)
    assert registry_of(home).resolve("tiny@1").owner == "first"
    with pytest.raises(JobFailed, match="taken") as failed:
        start(home, request, job_id="f" * 32, model_owner="second").run(now)
    assert failed.value.code == "name_taken"


def test_steps_that_run_twice_publish_once(home: Path, dataset: str) -> None:
    """A worker killed between publishing and telling so leaves one version in the end."""
    request = tiny_request(dataset, steps=2)
    start(home, request).run(now)
    assert start(home, request).run(now)["published"] == "tiny@1"
    assert len(registry_of(home).versions("tiny")) == 1


def test_a_paused_job_ends_with_the_weights_of_an_uninterrupted_one(
    home: Path, dataset: str
) -> None:
    """Stopped at any step and run again, the job publishes the same weights bit for bit."""
    with pytest.raises(Paused):
        start(home, tiny_request(dataset), stop_after(3)).run(now)
    start(home, tiny_request(dataset)).run(now)
    start(home, tiny_request(dataset, name="whole"), job_id="f" * 32).run(now)
    assert_equal(weights(home, "tiny@1"), weights(home, "whole@1"))


def test_every_sample_is_told_of(home: Path, dataset: str) -> None:
    """Samples that a killed job had drawn and not told of are told when it goes on."""
    every_step = tiny_request(dataset, training={"sample_every": 1})
    with pytest.raises(Paused):
        start(home, every_step, stop_after(3)).run(now)
    folder = JobFolder(home, JOB)
    folder.events_file.write_text("")
    drawn = folder.samples()
    start(home, every_step).run(now)
    told = [event.data["step"] for event in folder.events() if event.kind == "sample"]
    assert set(drawn) < set(told)
    assert sorted(told) == folder.samples()


def test_a_comparison_stops_and_costs_no_model(
    home: Path, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison stops between two pictures; without the memory for it the model is published."""
    comparing: list[str] = []

    def step(name: str, work: Callable[[], Any]) -> Any:
        if name == "evaluate":
            comparing.append(name)
        return work()

    with pytest.raises(Paused):
        start(home, tiny_request(dataset), lambda: bool(comparing)).run(step)
    monkeypatch.setattr(training_job, "gate", lambda *_, **__: bytearray(2**62))
    done = start(home, tiny_request(dataset, auto_promote=True)).run(now)
    assert done == {"published": "tiny@1", "promoted": False}
    reason = registry_of(home).resolve("tiny@1").header.card["gate"]["reason"]
    assert reason.startswith("not evaluated: smaller pictures")


def test_what_is_promoted_meanwhile_is_compared_with(
    home: Path, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that passed takes no place from one that came since, unless it passes again."""
    start(home, tiny_request(dataset, name="other")).run(now)
    other = registry_of(home).resolve("other@1").path
    compared: list[Path | None] = []

    def compare(_new: Path, serving: Path | None, *_: Any, **__: Any) -> Any:
        compared.append(serving)
        return SimpleNamespace(as_card=lambda: {"passed": len(compared) == 1, "reason": ""})

    def step(name: str, work: Callable[[], Any]) -> Any:
        if name == "promote":
            meanwhile = registry_of(home).publish(other, "tiny")
            registry_of(home).promote("tiny", meanwhile.version, force=True)
        return work()

    monkeypatch.setattr(training_job, "gate", compare)
    done = start(home, tiny_request(dataset, auto_promote=True), job_id="f" * 32).run(step)
    assert done == {"published": "tiny@1", "promoted": False}
    assert compared == [None, registry_of(home).resolve("tiny@2").path]
    assert registry_of(home).resolve("tiny").version == 2


def test_a_damaged_version_that_serves_costs_no_model(home: Path, dataset: str) -> None:
    """Where what is promoted cannot be read, the new version is published, not compared."""
    start(home, tiny_request(dataset)).run(now)
    registry_of(home).promote("tiny", 1, force=True)
    damaged = registry_of(home).resolve("tiny").path
    damaged.write_bytes(damaged.read_bytes()[:100])
    done = start(home, tiny_request(dataset, auto_promote=True), job_id="f" * 32).run(now)
    assert done == {"published": "tiny@2", "promoted": False}


def test_a_checkpoint_cut_in_half_costs_time_only(home: Path, dataset: str) -> None:
    """A damaged state is set aside, told, and trained anew to the same weights."""
    with pytest.raises(Paused):
        start(home, tiny_request(dataset), stop_after(3)).run(now)
    state = home / "jobs" / JOB / STATE_FILE
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    start(home, tiny_request(dataset)).run(now)
    start(home, tiny_request(dataset, name="whole"), job_id="f" * 32).run(now)
    assert_equal(weights(home, "tiny@1"), weights(home, "whole@1"))
    assert "damaged" in JobFolder(home, JOB).latest()


def test_a_loss_that_is_not_finite_stops_the_job(home: Path, dataset: str) -> None:
    """The job fails as diverged, and its last good checkpoint stays to be looked at."""
    request = tiny_request(dataset, objective={"l1": 1e39})
    with pytest.raises(JobFailed) as failed:
        start(home, request).run(now)
    assert failed.value.code == "diverged_training"
    assert JobFolder(home, JOB).latest()["state"]["code"] == "diverged_training"
    assert not registry_of(home).list()


def test_a_full_disk_is_told_as_such_and_resumed(home: Path, dataset: str) -> None:
    """Where the state no longer fits, the job fails as disk_full; with room again it goes on."""
    request = tiny_request(dataset, steps=2)
    with room_for(30_000), pytest.raises(JobFailed) as failed:
        start(home, request).run(now)
    assert failed.value.code == "disk_full"
    assert start(home, request).run(now)["published"] == "tiny@1"


def test_an_event_is_recorded_whole_or_not_at_all(home: Path) -> None:
    """A line for which the disk had no room leaves no half of itself before the next one."""
    folder = JobFolder(home, JOB)
    folder.open_events()
    folder.append("first")
    with room_for(folder.events_file.stat().st_size + 20):
        folder.append("second")
    folder.append("third")
    assert [event.kind for event in folder.events()] == ["first", "third"]


def test_a_vanished_dataset_is_named(home: Path, dataset: str) -> None:
    """A dataset deleted under a queued job fails it with a code of its own."""
    job = start(home, tiny_request(dataset))
    (home / "datasets").unlink()
    with pytest.raises(JobFailed) as failed:
        job.run(now)
    assert failed.value.code == "dataset_not_found"


def test_a_job_that_kills_its_worker_fails_in_the_end(home: Path, dataset: str) -> None:
    """After five deaths without a further checkpoint the job no longer blocks the queue."""

    class Killed(BaseException):
        pass

    def kill(name: str, _work: Callable[[], Any]) -> Any:
        raise Killed

    for _ in range(5):
        with pytest.raises(Killed):
            start(home, tiny_request(dataset)).run(kill)
    with pytest.raises(JobFailed) as failed:
        start(home, tiny_request(dataset)).run(kill)
    assert failed.value.code == "worker_died"
    start(home, tiny_request(dataset)).run(now)  # resumed by a person


def test_minutes_become_steps_once(home: Path, dataset: str) -> None:
    """The number of steps is measured before the training and kept when it is resumed."""
    request = tiny_request(dataset, steps=None, minutes=0.04)
    with pytest.raises(Paused):
        start(home, request, lambda: "progress" in JobFolder(home, JOB).latest()).run(now)
    start(home, request).run(now)
    header = registry_of(home).resolve("tiny@1").header
    decided = header.card["recipe"]["training"]["steps"]
    assert decided == header.card["steps"] > 1
    assert JobFolder(home, JOB).latest()["progress"]["steps"] == decided


def test_minutes_count_the_pauses(
    home: Path, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU's worker leaves to the service between two steps is part of the time it has."""

    def pause(_job: TrainingJob) -> bool:
        time.sleep(0.2)
        return False

    class Planned(BaseException):
        pass

    def plan(name: str, work: Callable[[], Any]) -> Any:
        done = work()
        if name == "plan":
            raise Planned(done)

    monkeypatch.setattr(TrainingJob, "_pause_for_inference", pause)
    with pytest.raises(Planned) as planned:
        start(home, tiny_request(dataset, steps=None, minutes=0.5)).run(plan)
    assert 1 < planned.value.args[0] <= 30 / 0.2


def test_a_base_model_gives_weights_and_hyperparameters(home: Path, dataset: str) -> None:
    """A training from a base begins with its weights, and its version names it."""
    start(home, tiny_request(dataset)).run(now)
    tuned = tiny_request(
        dataset, name="tuned", base="tiny@1", steps=1, training={"learning_rate": 1e-9, "ema": 0}
    )
    start(home, tuned, job_id="f" * 32).run(now)
    for key, value in weights(home, "tuned@1").items():
        torch.testing.assert_close(value, weights(home, "tiny@1")[key], atol=1e-3, rtol=0)
    assert registry_of(home).resolve("tuned@1").lineage["base"] == "tiny@1"
    other = tuned.hyperparameters.model_copy(update={"generator": {"base_channels": 8}})
    with pytest.raises(InvalidRecipe, match="generator"):
        start(home, tuned.model_copy(update={"hyperparameters": other}))


def test_events_survive_a_line_cut_by_a_kill(tmp_path: Path) -> None:
    """Half a line is never shown, and its number goes to the next event."""
    folder = JobFolder(tmp_path, JOB)
    folder.open_events()
    folder.append("state", state="running")
    with folder.events_file.open("a") as file:
        file.write('{"event": "pro')
    assert [event.id for event in folder.events()] == [1]
    folder.open_events()
    folder.append("state", state="paused")
    assert [(event.id, event.data["state"]) for event in folder.events(after=1)] == [(2, "paused")]


def test_events_are_read_on_from_any_of_them(tmp_path: Path) -> None:
    """From the end of any event on come the same ones as above its id."""
    folder = JobFolder(tmp_path, JOB)
    assert list(folder.events()) == []
    folder.open_events()
    for step in range(5):
        folder.append("progress", step=step, figures={'a "quoted" name': 0.5})
        folder.append("sample", step=10 * step)
    events = list(folder.events())
    for event in events:
        assert list(folder.events(event.id, event.end)) == events[event.id :]
        assert list(folder.events(event.id)) == events[event.id :]
    assert folder.latest() == {event.kind: event.data for event in events}


def test_a_base_that_is_gone_names_no_other_models(home: Path, dataset: str) -> None:
    """A job whose base was deleted while it waited fails, without a list of everybody's models."""
    start(home, tiny_request(dataset)).run(now)
    start(home, tiny_request(dataset, name="others"), job_id="e" * 32).run(now)
    tuned = start(home, tiny_request(dataset, name="tuned", base="tiny@1"), job_id="f" * 32)
    registry_of(home).delete("tiny", 1)
    with pytest.raises(JobFailed, match=r"tiny@1, is there no more") as failed:
        tuned.run(now)
    assert failed.value.code == "model_not_found"
    assert "others" not in failed.value.detail


def test_unknown_datasets_are_refused(home: Path) -> None:
    """A request naming no dataset of this service is refused before it is queued."""
    with pytest.raises(DatasetNotFound):
        start(home, tiny_request("0" * 16))
