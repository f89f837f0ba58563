"""The benchmarks run; what they measure here means nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.report import HEADER, Row, psnr_db
from conftest import ROOT

pytestmark = pytest.mark.long


def run(tmp_path: Path, module: str, *options: str) -> tuple[str, dict[str, Any]]:
    """Return what the benchmark printed and wrote, for networks with random weights."""
    file = tmp_path / "found.json"
    words = [sys.executable, "-m", f"benchmarks.{module}", "--random", "--device", "cpu"]
    done = subprocess.run(
        [*words, "--json", str(file), *options],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text())


def test_serving_times_every_arm(tmp_path: Path) -> None:
    """One command times forward, in-process, HTTP and baseline, and finds their answers alike."""
    names = ["facades", "starry-night"]
    options = ["--models", *names, "--sizes", "48", "--blocks", "1", "--calls", "1"]
    printed, found = run(tmp_path, "serving", *options)
    assert found["machine"].keys() >= {"cpu", "cores", "torch", "git", "device"}
    assert [row["model"] for row in found["rows"]] == names
    for row in found["rows"]:
        assert row["ms"].keys() == {"forward", "in_process", "http", "baseline"}
        assert all(ms > 0 for blocks in row["ms"].values() for ms in blocks)
        assert row["psnr_db"].keys() == {"forward", "http", "baseline"}
        assert row["void"] is (min(row["psnr_db"].values()) < 40)
        assert row["psnr_db"]["http"] > 60
        assert f"| {row['model']} ({row['family']}) |" in printed


def test_chip_times_answers_and_training_steps(tmp_path: Path) -> None:
    """The networks' own pace comes in both precisions, the trainings' with their operations."""
    options = ["--models", "starry-night", "--sizes", "16", "--calls", "1"]
    options += ["--recipes", "colorize-l1", "--steps", "4", "--peak", "1"]
    printed, found = run(tmp_path, "chip", *options)
    *answers, training = found["rows"]
    assert [row["precision"] for row in answers] == ["bfloat16", "float32"]
    assert all(row["batch_1_ms"] > 0 and row["pictures_per_s"] > 0 for row in answers)
    assert training["pictures_per_s"] == pytest.approx(8 * training["steps_per_s"], rel=0.1)
    assert training["share_of_peak"] == pytest.approx(training["tflops"], abs=1e-3)
    assert "| colorize-l1 | 192 | 8 |" in printed


def test_load_counts_every_request(tmp_path: Path) -> None:
    """The load benchmark answers every client and has /healthz asked meanwhile."""
    options = ["--model", "srresnet-x4", "--size", "16", "--clients", "1", "2", "--seconds", "0.5"]
    printed, found = run(tmp_path, "load", *options)
    assert [row["clients"] for row in found["rows"]] == [1, 2]
    for row in found["rows"]:
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["images_per_s"] > 0
        assert row["healthz_p99_ms"] > 0
        assert (row["refused"], row["failed"]) == (0, 0)
        assert f"| {row['clients']} |" in printed


def test_a_different_answer_voids_its_row() -> None:
    """A row shows no times when an arm's answer is below 40 dB of the in-process one."""
    ms = {"forward": [1.0, 2.0, 9.0], "in_process": [3.0, 4.0, 5.0]}
    ms |= {"http": [4.0, 6.0, 6.0], "baseline": [8.0, 18.0, 6.0]}
    psnr = {"forward": 99.0, "http": 99.0, "baseline": 41.0}
    row = Row("udnie", "style", 256, 256, "torch bfloat16", psnr, ms)
    times = "2.0 | 4.0 | 6.0 | 8.0 | 1.0 | 2.00"
    assert row.line() == f"| udnie (style) | 256 → 256 | torch bfloat16 | {times} | 41 dB |"
    psnr["baseline"] = 39.0
    assert row.void
    assert row.line().count("void") == 6
    assert len({text.count("|") for text in (row.line(), *HEADER.splitlines())}) == 1


def test_psnr_compares_pictures() -> None:
    """Pictures one level apart are 48 dB apart, equal ones 99, those of different sizes 0."""
    picture = np.full((4, 5, 3), 100, np.uint8)
    assert round(psnr_db(picture, picture + np.uint8(1)), 1) == 48.1
    assert psnr_db(picture, picture) == 99
    assert psnr_db(picture, picture[1:]) == 0
