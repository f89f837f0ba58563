"""What operators watch: metrics, and the dashboard and documents that name them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.callers import OPERATOR
from app.main import create_app
from app.retraining.jobs import Jobs
from conftest import ROOT
from tiny import tiny_settings
from tiny_jobs import add_pairs, tiny_request

OWN = r"\b(?:anamorph|process)_\w+"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    """The labels of every sample of /metrics, by name, once each kind of thing has happened."""
    home = tmp_path_factory.mktemp("home")
    app = create_app(tiny_settings(home))
    seconds = dict.fromkeys(("decode", "queue", "forward", "encode"), 0.1)
    app.state.service.metrics.observe("wave", seconds, 2)
    client = TestClient(app)
    assert client.get("/nowhere").status_code == 404
    families = text_string_to_metric_families(client.get("/metrics").text)
    app.state.jobs.close()
    found: dict[str, list[dict[str, str]]] = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def expressions() -> list[str]:
    dashboard = json.loads((ROOT / "ops" / "grafana.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_the_dashboard_shows_what_there_is(
    expression: str, samples: dict[str, list[dict[str, str]]]
) -> None:
    """Every expression names a metric that /metrics has, with the labels that it groups by."""
    names = re.findall(OWN, expression)
    assert names
    for name in names:
        assert name in samples, name
        labels = set().union(*samples[name])
        grouped = re.findall(r"by \(([^)]*)\)", expression)
        assert {label.strip() for by in grouped for label in by.split(",")} <= labels
    for label, value in re.findall(r'(\w+)="(\w+)"', expression):
        assert value in {labels.get(label) for labels in samples[names[0]]}


def test_the_dashboard_shows_each_subject() -> None:
    """Stages, models, status, queue, memory and jobs each have a panel."""
    text = "\n".join(expressions())
    for subject in ("(stage)", "(model)", "(status)", "queue_depth", "held_bytes", "(state)"):
        assert subject in text, subject


def test_jobs_are_counted_by_state(samples: dict[str, list[dict[str, str]]]) -> None:
    """Each state of a job has its number, 0 too."""
    states = {labels["state"] for labels in samples["anamorph_jobs"]}
    assert states == {"queued", "running", "succeeded", "failed", "cancelled"}


def test_jobs_that_ended_are_counted(tmp_path: Path) -> None:
    """A cancelled job is no longer queued, and counts as ended."""
    jobs = Jobs(tiny_settings(tmp_path))
    dataset = add_pairs(tmp_path)
    first, _ = (jobs.submit(tiny_request(dataset), OPERATOR) for _ in range(2))
    jobs.cancel(first.id)
    counts = jobs.count()
    jobs.close()
    assert counts == {"queued": 1, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 1}


def test_every_metric_is_documented(samples: dict[str, list[dict[str, str]]]) -> None:
    """docs/operations.md names every metric of ours, and none that is not there."""
    text = (ROOT / "docs" / "operations.md").read_text()
    named = set(re.findall(r"^\| `(anamorph_\w+)", text, re.MULTILINE))
    ours = {name for name in samples if re.match("anamorph_.*(?<!_created)$", name)}
    assert named == {re.sub("_(bucket|count|sum)$", "", name) for name in ours}
