"""Versions over HTTP and on the command line: listed, promoted, rolled back, deleted, followed."""

from __future__ import annotations

import asyncio
import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import app.catalog
import app.engines
import app.interpolations
import models.promotion_record
import tiny
from app.accounts import Account, on_account
from app.callers import OPERATOR
from app.cli import app as commands
from app.errors import QueueFull
from app.main import create_app
from app.opening import Served, open_between, open_version
from app.service import Service
from models.checkpoint import amend_card, load_generator, save_generator
from models.errors import InvalidCheckpoint
from models.registry import ModelVersion, Registry
from tiny import encoded, opened, photo, promote, publish_models, tiny_settings, until_ready

until = partial(tiny.until, timeout_s=60)  # a version is loaded and warmed up
NIGHT = "/v1/models/starry-night"
REFUSED = {"passed": False, "metric": "objective", "reason": "objective 3, serving 2", "tables": []}


@pytest.fixture
def home(tmp_path: Path, without_openvino: None) -> Path:
    """Two versions of a style, of which the second serves."""
    publish_models(tmp_path, ("starry-night", "starry-night"))
    return tmp_path


@pytest.fixture
def client(home: Path) -> Iterator[TestClient]:
    with TestClient(create_app(tiny_settings(home, reload_s=0.05))) as client:
        until_ready(client)
        yield client


@pytest.fixture
def registry(home: Path) -> Registry:
    """What another process has of the same folder."""
    return Registry(home, home / "no weights")


def publish(
    registry: Registry,
    home: Path,
    card: dict[str, Any] | None = None,
    change: Callable[[torch.nn.Module], object] | None = None,
) -> int:
    """Publish one more version of the style, with other weights or another card."""
    loaded = load_generator(registry.resolve("starry-night@1").path)
    if change:
        change(loaded.module)
    save_generator(home / "more.safetensors", loaded.module, loaded.header)
    amend_card(home / "more.safetensors", card or {})
    return registry.publish(home / "more.safetensors", "starry-night").version


def flat(module: torch.nn.Module) -> None:
    """Make a network answer one flat colour, whatever it sees."""
    for parameter in module.parameters():
        parameter.zero_()


def answering(client: TestClient) -> str:
    response = client.post("/v1/stylize?style=starry-night", content=encoded(photo(8, 8)))
    assert opened(response).size == (8, 8)
    label: str = response.headers["x-model"]
    return label


def test_versions_are_listed(client: TestClient, registry: Registry, home: Path) -> None:
    """Each version tells its hash, what it was made from, its figures, and whether it serves."""
    lineage = {"job": "j", "dataset": "d", "base": "starry-night@1", "code": "0.1.0"}
    version = publish(registry, home, {"lineage": lineage, "gate": REFUSED})
    listed = client.get(f"{NIGHT}/versions").json()
    assert [(v["version"], v["promoted"], v["serving"]) for v in listed] == [
        (1, False, False),
        (2, True, True),
        (3, False, False),
    ]
    assert listed[2]["sha256"] == registry.resolve(f"starry-night@{version}").sha256
    assert listed[2]["lineage"] == lineage
    assert listed[2]["gate"] == REFUSED
    assert (listed[0]["lineage"], listed[0]["gate"]) == ({}, None)
    assert client.get("/v1/models/nothing/versions").json()["code"] == "model_not_found"


def test_promote_and_roll_back(client: TestClient, registry: Registry) -> None:
    """The answer to a promotion comes when the version serves; a roll-back undoes it."""
    response = client.post(f"{NIGHT}/promote", json={"version": 1})
    assert (response.status_code, response.json()["version"]) == (200, 1)
    assert answering(client) == "starry-night@1"
    assert registry.resolve("starry-night").version == 1
    assert client.post(f"{NIGHT}/rollback").json()["version"] == 2
    assert answering(client) == "starry-night@2"
    client.post(f"{NIGHT}/promote", json={"version": 1})
    client.post(f"{NIGHT}/rollback")
    assert client.post(f"{NIGHT}/rollback").json()["code"] == "model_not_found"


def test_a_full_disk(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promotion that the disk has no room to record is a 507, and changes nothing."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(models.promotion_record, "write_atomically", full)
        response = client.post(f"{NIGHT}/promote", json={"version": 1})
    assert (response.status_code, response.json()["code"]) == (507, "storage_full")
    assert answering(client) == "starry-night@2"


def test_two_roll_backs_at_once(client: TestClient, registry: Registry, home: Path) -> None:
    """Of two at the same time each answers with the version that it brought back."""
    registry.promote("starry-night", publish(registry, home))
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda _: client.post(f"{NIGHT}/rollback").json()["version"], range(2))
    assert sorted(answers) == [1, 2]
    assert registry.resolve("starry-night").version == 1
    assert answering(client) == "starry-night@1"


def test_only_the_serving_version_answers(client: TestClient) -> None:
    """A request for another version is a 404 that names the one that serves."""
    response = client.post("/v1/stylize?style=starry-night@1", content=encoded(photo(8, 8)))
    assert (response.status_code, response.json()["code"]) == (404, "model_not_found")
    assert "starry-night@2" in response.json()["detail"]


def test_what_did_not_pass_the_gate_is_refused(
    client: TestClient, registry: Registry, home: Path
) -> None:
    """A version whose card holds a failed comparison is refused with its figures, unless forced."""
    version = publish(registry, home, {"gate": REFUSED})
    response = client.post(f"{NIGHT}/promote", json={"version": version})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (409, "gate_refused")
    assert "objective 3, serving 2" in problem["detail"]
    assert problem["verdict"] == REFUSED
    assert answering(client) == "starry-night@2"
    forced = client.post(f"{NIGHT}/promote", json={"version": version, "force": True})
    assert forced.json()["version"] == version
    assert answering(client) == f"starry-night@{version}"


@pytest.mark.parametrize(
    ("body", "status"),
    [({"version": 9}, 404), ({"version": 0}, 422), ({}, 422), ({"version": 1, "farce": 1}, 422)],
)
def test_mistaken_promotions(client: TestClient, body: dict[str, Any], status: int) -> None:
    """A version that is not there and a body that is not understood change nothing."""
    assert client.post(f"{NIGHT}/promote", json=body).status_code == status
    assert answering(client) == "starry-night@2"


def test_delete(client: TestClient, registry: Registry) -> None:
    """A version is deleted once, and not while it serves and there are others."""
    refused = client.delete(f"{NIGHT}/versions/2")
    assert (refused.status_code, refused.json()["code"]) == (409, "model_protected")
    assert client.delete(f"{NIGHT}/versions/1").status_code == 204
    assert client.delete(f"{NIGHT}/versions/1").status_code == 404
    assert [version.version for version in registry.list()] == [2]


def test_a_name_is_given_up(client: TestClient, registry: Registry) -> None:
    """With its last version a name is served no longer, without a restart."""
    for version in (1, 2):
        assert client.delete(f"{NIGHT}/versions/{version}").status_code == 204
    assert client.get(NIGHT).status_code == 404
    assert "starry-night" not in registry.promotions()
    assert client.get("/readyz").json()["failed"] == {}


def test_a_version_that_fails_never_serves(
    client: TestClient, registry: Registry, home: Path
) -> None:
    """One that is damaged or answers a flat colour is refused; what serves stays."""
    version = publish(registry, home, change=flat)
    response = client.post(f"{NIGHT}/promote", json={"version": version, "force": True})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_checkpoint")
    assert "flat colour" in response.json()["detail"]
    damaged = publish(registry, home)
    path = registry.resolve(f"starry-night@{damaged}").path
    path.write_bytes(path.read_bytes()[:-64])
    assert client.post(f"{NIGHT}/promote", json={"version": damaged}).status_code == 422
    assert answering(client) == "starry-night@2"
    assert registry.resolve("starry-night").version == 2


def test_other_processes_are_followed(client: TestClient, registry: Registry, home: Path) -> None:
    """What another process promotes serves soon: other versions, new names, and no longer old ones.

    A version that fails is told at /readyz, and the one before goes on serving and stays.
    """
    registry.promote("starry-night", 1)
    until(lambda: answering(client) == "starry-night@1")
    bad = publish(registry, home, change=flat)
    registry.promote("starry-night", bad)
    until(lambda: client.get("/readyz").json()["failed"] == {"starry-night": "InvalidCheckpoint"})
    assert answering(client) == "starry-night@1"
    assert client.delete(f"{NIGHT}/versions/1").json()["code"] == "model_protected"
    registry.rollback("starry-night")
    until(lambda: client.get("/readyz").json()["failed"] == {})
    publish_models(home, ("facades",))
    until(lambda: client.get("/v1/models/facades").status_code == 200)
    shutil.rmtree(home / "models" / "starry-night")
    until(lambda: client.get(NIGHT).status_code == 404)
    assert [model["name"] for model in client.get("/v1/models").json()] == ["facades"]


@pytest.mark.usefixtures("without_openvino")
def test_what_failed_for_the_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that did not load as files or memory were short serves once there is enough."""
    monkeypatch.setattr(app.catalog, "_AGAIN_S", 0.1)
    publish_models(tmp_path, ("starry-night",))
    short = iter((OSError(errno.EMFILE, "too many open files"), MemoryError()))

    def opening(*arguments: Any) -> Served:
        if error := next(short, None):
            raise error
        return open_version(*arguments)

    monkeypatch.setattr(app.catalog, "open_version", opening)
    with TestClient(create_app(tiny_settings(tmp_path, reload_s=0.1))) as client:
        until(lambda: client.get(NIGHT).status_code == 200)
        assert client.get("/readyz").json()["failed"] == {}


def test_what_fails_for_good_after_a_moment_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that did not load for the moment, and then as it is damaged, stays in `failed`."""
    monkeypatch.setattr(app.catalog, "_AGAIN_S", 0.1)
    publish_models(tmp_path, ("starry-night",))
    faults = iter((MemoryError(),))

    def opening(*_: Any) -> Served:
        raise next(faults, InvalidCheckpoint("damaged"))

    monkeypatch.setattr(app.catalog, "open_version", opening)

    async def scenario() -> None:
        service = Service(tiny_settings(tmp_path))
        service.start(load=False)
        told = []
        for _ in range(4):
            await service.catalog.load()
            told.append(service.catalog.failed["starry-night"])
            await asyncio.sleep(0.2)
        assert told == ["MemoryError", *["InvalidCheckpoint"] * 3]
        await service.close()

    asyncio.run(scenario())


def test_what_failed_for_the_moment_may_be_given_up(
    client: TestClient, registry: Registry, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rolled back, a version that did not load for the moment is told no more; a next one comes."""
    serves = registry.resolve("starry-night").version
    short, further = publish(registry, home), publish(registry, home)

    def opening(version: ModelVersion, *arguments: Any) -> Served:
        if version.version == short:
            raise MemoryError
        return open_version(version, *arguments)

    monkeypatch.setattr(app.catalog, "open_version", opening)
    registry.promote("starry-night", short)
    until(lambda: client.get("/readyz").json()["failed"] == {"starry-night": "MemoryError"})
    assert answering(client) == f"starry-night@{serves}"
    registry.rollback("starry-night")
    until(lambda: client.get("/readyz").json()["failed"] == {})
    registry.promote("starry-night", short)
    until(lambda: client.get("/readyz").json()["failed"] == {"starry-night": "MemoryError"})
    registry.promote("starry-night", further)
    until(lambda: answering(client) == f"starry-night@{further}")


@pytest.mark.usefixtures("without_openvino")
def test_interpolations_follow(tmp_path: Path) -> None:
    """After a switch `detail` interpolates from the new network, not from what it made before."""
    publish_models(tmp_path, ("srresnet-x4", "srgan-x4", "srgan-x4"))
    with TestClient(create_app(tiny_settings(tmp_path))) as client:
        until_ready(client)

        def half() -> Any:
            return client.post("/v1/upscale?detail=0.5", content=encoded(photo(8, 8)))

        before = half()
        client.post("/v1/models/srgan-x4/promote", json={"version": 1})
        after = half()
        kept = client.app.state.service.catalog._interpolations._tasks  # type: ignore[attr-defined]
        assert [key[1] for key in kept] == ["srgan-x4@1"]
    assert before.headers["x-model"] == "srresnet-x4@1, srgan-x4@2"
    assert after.headers["x-model"] == "srresnet-x4@1, srgan-x4@1"
    assert before.content != after.content


@pytest.mark.usefixtures("without_openvino")
def test_a_network_of_a_detail_is_made_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for a `detail` waits for its network no longer than the deadline."""
    publish_models(tmp_path, ("srresnet-x4", "srgan-x4"))
    gate = threading.Event()

    def slowly(*arguments: Any) -> Served:
        gate.wait(30)
        return open_between(*arguments)

    monkeypatch.setattr(app.interpolations, "open_between", slowly)
    with TestClient(create_app(tiny_settings(tmp_path, deadline_s=1))) as client:
        until_ready(client)
        query = "/v1/upscale?detail=0.5"
        late = client.post(query, content=encoded(photo(8, 8)))
        gate.set()
        until(lambda: client.post(query, content=encoded(photo(8, 8))).status_code == 200)
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")


@pytest.mark.usefixtures("without_openvino")
def test_details_being_made_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than four networks of other details are being made for one account, in turn.

    Whatever else it asks for between.
    """
    publish_models(tmp_path, ("srresnet-x4", "srgan-x4"))
    gate = threading.Event()
    made: list[float] = []

    def slowly(*arguments: Any) -> Served:
        made.append(arguments[2])
        gate.wait(60)
        return open_between(*arguments)

    monkeypatch.setattr(app.interpolations, "open_between", slowly)

    async def scenario() -> None:
        service = Service(tiny_settings(tmp_path))
        service.start(load=False)
        await service.catalog.load()

        def ask(detail: float) -> asyncio.Task[Served]:
            return asyncio.create_task(service.catalog.upscaler(4, detail, None, OPERATOR))

        gate.set()
        await ask(0.5)
        gate.clear()
        first = [ask(detail) for detail in (0.1, 0.2, 0.29)]  # the nearest step is 0.3
        await ask(0.5)  # which is there, and was asked for last
        fourth = ask(0.4)
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(5):
                with pytest.raises(QueueFull):
                    await ask(0.6)
                with on_account(Account("another")):
                    anothers = ask(0.7)
                await asyncio.sleep(0)
        finally:
            gate.set()
        await asyncio.gather(*first, fourth, anothers, ask(0.1))
        assert (await ask(0.6)).label
        await service.close()

    asyncio.run(scenario())
    assert made == [0.5, 0.1, 0.7, 0.2, 0.3, 0.4, 0.6]


@pytest.mark.usefixtures("without_openvino")
def test_a_new_name_takes_no_place(tmp_path: Path) -> None:
    """`detail` is that of the pair that ships, beside another sharp upscaler, if none is named."""
    names = ("srresnet-x4", "srgan-x4")
    publish_models(tmp_path, names)
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    for name in names:
        made = tmp_path / "models" / name / "1.safetensors"
        shutil.copyfile(made, shipped / f"{name}.safetensors")
    promote(tmp_path, Path(shutil.copyfile(made, tmp_path / "mine.safetensors")))
    settings = tiny_settings(tmp_path).model_copy(update={"shipped_weights": shipped})
    with TestClient(create_app(settings)) as client:
        until_ready(client)

        def sharpest(query: str) -> str:
            answer = client.post(f"/v1/upscale?detail=1{query}", content=encoded(photo(8, 8)))
            label: str = answer.headers["x-model"]
            return label

        assert sharpest("") == sharpest("&model=srresnet-x4") == "srgan-x4@1"
        assert sharpest("&model=mine") == "mine@1"


def test_the_commands(home: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """`anamorph models versions, promote, rollback` and `delete` do the same without a server."""
    monkeypatch.setenv("ANAMORPH_HOME", str(home))
    monkeypatch.setenv("ANAMORPH_SHIPPED_WEIGHTS", str(home / "no weights"))

    def anamorph(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(commands, ["models", *arguments])
        return result.exit_code, result.output

    refused = str(publish(registry, home, {"lineage": {"dataset": "abc"}, "gate": REFUSED}))
    _, listed = anamorph("versions", "starry-night")
    assert "* starry-night@2" in listed
    assert "dataset: abc" in listed
    assert "refused: objective 3" in listed
    assert anamorph("promote", "starry-night", "1") == (0, "starry-night@1 serves\n")
    assert anamorph("rollback", "starry-night") == (0, "starry-night@2 serves\n")
    code, text = anamorph("promote", "starry-night", refused)
    assert (code, "objective 3, serving 2" in text) == (1, True)
    assert anamorph("promote", "starry-night", refused, "--force")[0] == 0
    broken = str(publish(registry, home, change=flat))
    assert "flat colour" in anamorph("promote", "starry-night", broken, "--force")[1]
    assert (
        anamorph("import", str(registry.resolve(f"starry-night@{broken}").path), "--name", "new")[0]
        == 1
    )
    assert "new" not in anamorph("list")[1]
    assert registry.resolve("starry-night").version == int(refused)
    assert anamorph("delete", "starry-night", refused)[0] == 1
    assert anamorph("delete", "starry-night", "1") == (0, "starry-night@1 is deleted\n")
