"""How `anamorph serve` bears many clients at a time: a closed loop over loopback.

Each client sends its next picture when it has its answer, and one that is refused comes back after
Retry-After. A process of its own asks /healthz meanwhile. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from app.installation import choose_device
from app.logs import configure_logs
from benchmarks.common import ENDPOINTS, add_options, announce, machine, photo, post, prepare, serve
from benchmarks.report import table_head

_HEALTH_INTERVAL_S = 0.01
COLUMNS = ("clients", "p50 ms", "p99 ms", "images/s", "refused", "failed", "healthz p99 ms")


@dataclass(slots=True)
class Client:
    """What one client saw: a time in ms for each picture answered, and counts of the others."""

    ms: list[float] = field(default_factory=list)
    refused: int = 0
    failed: int = 0

    def run(self, port: int, path: str, data: bytes, until: float) -> None:
        """Send `data` again and again until the clock `time.monotonic` says `until`."""
        with closing(HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
            while (started := time.monotonic()) < until:
                response, _ = post(connection, path, data)
                if response.status == 200:
                    self.ms.append((time.monotonic() - started) * 1000)
                elif response.status == 503:
                    self.refused += 1
                    retry_after_s = int(response.getheader("Retry-After", "1"))
                    time.sleep(max(0.0, min(retry_after_s, until - time.monotonic())))
                else:
                    self.failed += 1


@dataclass(frozen=True, slots=True)
class Row:
    """What `clients` saw together; the times are of pictures that were answered."""

    clients: int
    p50_ms: float
    p99_ms: float
    images_per_s: float
    refused: int
    failed: int
    healthz_p99_ms: float

    def line(self) -> str:
        """Return the row under COLUMNS."""
        times = f"{self.p50_ms:.1f} | {self.p99_ms:.1f} | {self.images_per_s:.2f}"
        counts = f"{self.refused} | {self.failed}"
        return f"| {self.clients} | {times} | {counts} | {self.healthz_p99_ms:.1f} |"


def healthz_ms(port: int, seconds: float) -> list[float]:
    """Ask /healthz at intervals for so long; return the times in ms."""
    stop = time.monotonic() + seconds
    times = []
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        while (started := time.monotonic()) < stop:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            times.append((time.monotonic() - started) * 1000)
            time.sleep(_HEALTH_INTERVAL_S)
    return times


def load(
    count: int, port: int, path: str, data: bytes, seconds: float, prober: ProcessPoolExecutor
) -> Row:
    """Let `count` clients send `data` for so long, each on a connection of its own."""
    clients = [Client() for _ in range(count)]
    probe = prober.submit(healthz_ms, port, seconds)
    started = time.monotonic()
    with ThreadPoolExecutor(count) as threads:
        runs = [threads.submit(c.run, port, path, data, started + seconds) for c in clients]
    elapsed_s = time.monotonic() - started
    for run in runs:
        run.result()  # raises what the thread raised
    times = [ms for client in clients for ms in client.ms]
    if not times:
        raise RuntimeError(f"none of {count} clients got an answer")
    return Row(
        clients=count,
        p50_ms=float(np.percentile(times, 50)),
        p99_ms=float(np.percentile(times, 99)),
        images_per_s=len(times) / elapsed_s,
        refused=sum(client.refused for client in clients),
        failed=sum(client.failed for client in clients),
        healthz_p99_ms=float(np.percentile(probe.result(), 99)),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.load", description=__doc__)
    add_options(parser)
    parser.add_argument("--model", choices=ENDPOINTS, default="starry-night")
    parser.add_argument("--size", type=int, default=256, help="of the input, in px")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=20, help="for each number of clients")
    options = parser.parse_args(arguments)
    configure_logs("warning")
    path, data = f"{ENDPOINTS[options.model]}&format=jpeg", photo(options.size)
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(1, spawn) as prober:
        folder = Path(name)
        settings = prepare(folder, [options.model], options.device, random=options.random)
        facts = machine(str(choose_device(settings.device))) | {"threads": settings.threads}
        what = {"model": options.model, "px": options.size, "random": options.random}
        announce(facts | what)
        with closing(serve(settings, folder)) as server:
            server.wait()
            port = server.connection.port
            prober.submit(healthz_ms, port, 0).result()  # the process is there when it counts
            load(max(options.clients), port, path, data, 1, prober)  # so are all batch sizes
            print(table_head(COLUMNS), flush=True)
            rows = []
            for count in options.clients:
                rows.append(load(count, port, path, data, options.seconds, prober))
                print(rows[-1].line(), flush=True)
    if options.json:
        found = {"machine": facts, **what, "seconds": options.seconds}
        found["rows"] = [asdict(row) for row in rows]
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
