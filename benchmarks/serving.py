"""What serving adds to a forward pass, and what it saves against a plain FastAPI handler.

Four arms answer the same picture with the same model: the engine alone, the request flow in this
process, `anamorph serve` over loopback, and benchmarks/baseline.py over loopback. See
docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import numpy as np

from app import inference
from app.callers import OPERATOR
from app.inference import Plan
from app.installation import open_registry
from app.logs import configure_logs
from app.opening import Served
from app.service import Service
from benchmarks.baseline import to_batch
from benchmarks.common import (
    ENDPOINTS,
    Process,
    add_options,
    announce,
    machine,
    photo,
    post,
    prepare,
    serve,
)
from benchmarks.report import HEADER, Row, psnr_db
from models import images
from models.family import Task, without_margins
from models.images import Format, Limits


class Bench:
    """One model, one picture, four ways to an answer."""

    def __init__(
        self,
        service: Service,
        model: Served,
        side_px: int,
        http: HTTPConnection,
        baseline: HTTPConnection,
    ) -> None:
        self._service, self._model, self._side_px = service, model, side_px
        self._http, self._baseline = http, baseline
        self._data = photo(side_px)
        self._rgb = images.decode(self._data, Limits()).rgb
        self._seen = model.view.look(self._rgb)
        self._batch = to_batch(self._seen, model.view, model.rule)

    async def run(self, blocks: int, calls: int) -> Row:
        """Compare the arms' answers, then time them."""
        engine = self._model.engine
        return Row(
            model=self._model.version.name,
            family=self._model.family.id,
            input_px=self._side_px,
            output_px=self._side_px * self._model.scale,
            engine=f"{engine.backend} {engine.dtype}",
            psnr_db=await self._compare(),
            ms=await self._time(blocks, calls),
        )

    async def _forward(self) -> None:
        self._model.engine(self._batch)

    async def _in_process(self, kind: Format) -> bytes:
        plan = Plan(self._model, self._model.scale, None, kind, None)
        return (await inference.run(self._service, self._data, plan)).data

    async def _request(self, connection: HTTPConnection, path: str) -> bytes:
        response, content = post(connection, path, self._data)
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {content.decode(errors='replace')}")
        return content

    def _encoded(self, kind: Format) -> dict[str, Callable[[], Awaitable[bytes]]]:
        name = self._model.version.name
        return {
            "in_process": partial(self._in_process, kind),
            "http": partial(self._request, self._http, f"{ENDPOINTS[name]}&format={kind}"),
            "baseline": partial(self._request, self._baseline, f"/{name}?format={kind}"),
        }

    def _disconnect(self) -> None:
        """Leave it to the next request to connect: a server closes what idles for some seconds."""
        self._http.close()
        self._baseline.close()

    async def _compare(self) -> dict[str, float]:
        """Hold lossless answers against the in-process one: JPEG would add its own differences."""
        model = self._model
        answer = without_margins(model.engine(self._batch)[0], self._seen, model.scale)
        forward = model.view.to_rgb(answer, self._seen, self._rgb)
        answers = {"forward": forward}
        for name, arm in self._encoded("png").items():
            self._disconnect()
            answers[name] = images.decode(await arm(), Limits()).rgb
        reference = answers.pop("in_process")
        return {name: psnr_db(answer, reference) for name, answer in answers.items()}

    async def _time(self, blocks: int, calls: int) -> dict[str, list[float]]:
        """Return each arm's median of each block; a block has all arms, in random order."""
        arms: dict[str, Callable[[], Awaitable[object]]] = {"forward": self._forward}
        arms |= self._encoded("jpeg")
        medians: dict[str, list[float]] = {name: [] for name in arms}
        order = np.random.default_rng(0)
        for _ in range(blocks):
            for name in order.permutation(list(arms)):
                # The untimed call connects, fills the caches and outlasts the threads that spin on
                # for a while after the arm before.
                self._disconnect()
                await arms[name]()
                times = [await _ms(arms[name]) for _ in range(calls)]
                medians[name].append(median(times))
        return medians


async def _ms(arm: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await arm()
    return (time.perf_counter() - started) * 1000


async def measure(
    service: Service,
    options: argparse.Namespace,
    http: HTTPConnection,
    baseline: HTTPConnection,
) -> list[Row]:
    """Print the table while it is measured, and return its rows."""
    service.start(load=False)
    rows = []
    try:
        print(HEADER, flush=True)
        for name in options.models:
            await service.catalog.load(name=name)
            model = service.catalog.get(name, OPERATOR)
            for size_px in options.sizes:
                side_px = size_px // 2 if model.family.task is Task.UPSCALE else size_px
                bench = Bench(service, model, side_px, http, baseline)
                rows.append(await bench.run(options.blocks, options.calls))
                print(rows[-1].line(), flush=True)
    finally:
        await service.close()
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__)
    add_options(parser)
    parser.add_argument("--models", nargs="+", choices=ENDPOINTS, default=list(ENDPOINTS))
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[256, 512], help="in px; upscalers take half"
    )
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--calls", type=int, default=3, help="timed calls of an arm in a block")
    options = parser.parse_args(arguments)
    configure_logs("warning")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = prepare(folder, options.models, options.device, random=options.random)
        service = Service(settings)
        registry = open_registry(settings)
        files = [f"{model}={registry.resolve(model).path}" for model in options.models]
        plain = ["benchmarks.baseline", *files, "--device", str(service.device)]
        plain += ["--threads", str(settings.threads)]
        facts = machine(str(service.device)) | {"threads": settings.threads}
        announce(facts)
        with (
            closing(serve(settings, folder)) as ours,
            closing(Process(plain, "/docs", folder / "baseline.log", {})) as baseline,
        ):
            ours.wait()
            baseline.wait()
            rows = asyncio.run(measure(service, options, ours.connection, baseline.connection))
    print(
        "\nmilliseconds, medians over blocks;", "random" if options.random else "shipped", "weights"
    )
    if options.json:
        run = {"blocks": options.blocks, "calls": options.calls, "random": options.random}
        found = [asdict(row) | row.summary() | {"void": row.void} for row in rows]
        options.json.write_text(json.dumps({"machine": facts, **run, "rows": found}, indent=1))


if __name__ == "__main__":
    main()
