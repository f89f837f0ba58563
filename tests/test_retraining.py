"""The whole loop of retraining, over HTTP, on real pictures."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.registry import Registry
from test_server import Server
from tiny import until

pytestmark = pytest.mark.long
PAIRS, STEPS = 64, 200


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with its worker, that has the shipped facades model only."""
    home = tmp_path / "home"
    registry = Registry(home)
    first = registry.publish(registry.resolve("facades").path, "facades")
    registry.promote("facades", first.version)
    server = Server(home, tmp_path / "log", worker=True)
    with server.ready(120):
        yield server


def zipped(shared: Path) -> bytes:
    """The first pairs of the facades' training part, as a client would pack them."""
    pictures = sorted((shared / "data" / "facades" / "train").glob("*.jpg"))[:PAIRS]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for picture in pictures:
            archive.write(picture, f"facades/{picture.name}")
    return buffer.getvalue()


@pytest.mark.timeout(900)
def test_facades_from_zip_to_rollback(server: Server, shared: Path) -> None:
    """64 facades, uploaded, train a model on; it passes, serves, and is taken back.

    Without its adversarial term the training lowers just what the comparison measures, L1.
    """
    client = server.client
    labels = next((shared / "data" / "facades" / "test").glob("*.jpg")).read_bytes()

    def serving() -> str:
        answer = client.post("/v1/translate", files={"image": labels}, data={"model": "facades"})
        return answer.raise_for_status().headers["X-Model"]

    before = serving()
    upload = {"file": ("facades.zip", zipped(shared))}
    form = {"name": "facades", "kind": "paired"}
    dataset = client.post("/v1/datasets", files=upload, data=form).raise_for_status().json()
    assert sum(dataset["counts"].values()) == PAIRS
    request = {
        "family": "pix2pix", "dataset": dataset["id"], "name": "facades", "base": "facades",
        "direction": "BtoA", "steps": STEPS, "auto_promote": True,
        "hyperparameters": {
            "objective": {"adversarial": 0.0},
            "training": {"batch": 1, "learning_rate": 5e-5, "ema": 0.98},
        },
    }  # fmt: skip
    job = client.post("/v1/training-jobs", json=request).raise_for_status().json()
    events = f"/v1/training-jobs/{job['id']}/events"
    lines = client.get(events, timeout=800).raise_for_status().text.splitlines()
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    done = json.loads(next(line for line in reversed(lines) if line.startswith("data: "))[6:])
    assert (done["state"], done["published"]) == ("succeeded", "facades@3"), done
    assert (done["verdict"]["metric"], done["promoted"]) == ("L1", True), done["verdict"]
    assert done["verdict"]["new"] < done["verdict"]["serving"]
    assert {"progress", "sample", "verdict", "published", "promoted"} <= set(kinds)
    until(lambda: serving() == done["published"])  # the server looks once a second
    client.post("/v1/models/facades/rollback").raise_for_status()
    assert serving() == before
