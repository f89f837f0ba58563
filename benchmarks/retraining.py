"""What a training costs the requests that are served meanwhile, and what they cost it.

One client asks for 256 px translations: first alone, then while the service's own worker trains a
pix2pix model at 256 px. The training's speed is taken alone and under these requests.
See docs/performance.md.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
import zipfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.installation import choose_device
from app.logs import configure_logs
from benchmarks.common import ENDPOINTS, add_options, announce, machine, photo, prepare, serve

_PAIRS = 16
_LONG = 1_000_000
_PATIENCE_S = 300


def ask(client: httpx.Client, path: str, data: bytes, seconds: float) -> list[float]:
    """Send `data` again and again for so long; return the times in ms."""
    stop, times = time.monotonic() + seconds, []
    while (started := time.monotonic()) < stop:
        client.post(path, content=data, headers={"Content-Type": "image/jpeg"}).raise_for_status()
        times.append((time.monotonic() - started) * 1000)
    return times


def start_training(client: httpx.Client, data: bytes) -> str:
    """Upload pairs made of `data`, submit a pix2pix job at 256 px and return its path."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as pairs:
        for side in "AB":
            for number in range(_PAIRS):
                pairs.writestr(f"{side}/{number}.jpg", data)
    form = {"name": "pairs", "kind": "paired"}
    upload = {"file": ("pairs.zip", archive.getvalue())}
    dataset = client.post("/v1/datasets", files=upload, data=form).raise_for_status().json()
    request = {
        "family": "pix2pix",
        "dataset": dataset["id"],
        "name": "benchmark",
        "steps": _LONG,
        "hyperparameters": {"training": {"batch": 1, "log_every": 1}},
    }
    job = client.post("/v1/training-jobs", json=request).raise_for_status().json()
    return f"/v1/training-jobs/{job['id']}"


def steps(client: httpx.Client, job: str) -> int:
    """How many steps the job has done."""
    progress = client.get(job).raise_for_status().json()["progress"]
    return progress["step"] if progress else 0


def steps_per_s(client: httpx.Client, job: str, seconds: float) -> float:
    """Leave the training alone for so long and return its speed."""
    first, started = steps(client, job), time.monotonic()
    time.sleep(seconds)
    return (steps(client, job) - first) / (time.monotonic() - started)


def measure(client: httpx.Client, path: str, seconds: float) -> dict[str, Any]:
    """Run all arms against a service that is ready and has a worker."""
    data = photo(256)
    ask(client, path, data, seconds / 4)  # warm
    quiet = ask(client, path, data, seconds)
    job = start_training(client, data)
    deadline = time.monotonic() + _PATIENCE_S
    while steps(client, job) < 5:
        if time.monotonic() > deadline:
            raise RuntimeError("the training did not begin")
        time.sleep(0.5)
    alone = steps_per_s(client, job, seconds)
    first, started = steps(client, job), time.monotonic()
    busy = ask(client, path, data, seconds)
    beside = (steps(client, job) - first) / (time.monotonic() - started)
    client.post(f"{job}/cancel").raise_for_status()
    figures: dict[str, Any] = {"steps_per_s": {"alone": alone, "beside requests": beside}}
    for name, times in (("quiet", quiet), ("while training", busy)):
        p50_ms, p99_ms = np.percentile(times, [50, 99]).tolist()
        figures[name] = {"images": len(times), "p50_ms": p50_ms, "p99_ms": p99_ms}
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.retraining", description=__doc__)
    add_options(parser)
    parser.add_argument("--model", choices=ENDPOINTS, default="facades")
    parser.add_argument("--seconds", type=float, default=40, help="for each arm")
    options = parser.parse_args(arguments)
    configure_logs("warning")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = prepare(folder, [options.model], options.device, random=options.random)
        facts = machine(str(choose_device(settings.device))) | {"model": options.model}
        announce(facts)
        with closing(serve(settings, folder, worker=True)) as server:
            server.wait()
            base_url = f"http://127.0.0.1:{server.connection.port}"
            with httpx.Client(base_url=base_url, timeout=600) as client:
                figures = measure(client, ENDPOINTS[options.model], options.seconds)
    print("| 256 px requests | images | p50 ms | p99 ms |\n|---|---|---|---|")
    for arm in ("quiet", "while training"):
        row = figures[arm]
        print(f"| {arm} | {row['images']} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} |")
    speeds = figures["steps_per_s"]
    print(
        f"\ntraining: {speeds['alone']:.2f} steps/s alone, "
        f"{speeds['beside requests']:.2f} beside the requests"
    )
    if options.json:
        options.json.write_text(json.dumps(facts | figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
