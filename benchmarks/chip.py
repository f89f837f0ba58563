"""What the networks do on the device itself, without a service and without stored pictures.

For one model of each family: the answers of the service's torch engine, in bfloat16 and float32,
one at a time and in the best batch; then the steps of its recipe's training, on pictures made for
it. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from app.engines import TorchRunner, probe_picture
from app.installation import choose_device, open_registry
from app.logs import configure_logs
from benchmarks.common import ENDPOINTS, ROOT, add_options, announce, machine, photo, prepare
from benchmarks.report import table_head, table_line
from models.checkpoint import load_generator
from models.family import Task
from models.features import VGG16
from models.recipe import Recipe, load_recipe
from models.training import Progress, train

_BATCHES = (1, 2, 4, 8, 16, 32)
_PHOTOS, _PHOTO_PX = 16, 320
_WARM_CALLS = 3
_WARM_SHARE = 0.4  # of the steps
_ANSWERS = ("model", "px", "precision", "batch 1", "best batch", "pictures/s", "memory")
_STEPS = ("recipe", "crop", "batch", "steps/s", "pictures/s", "TFLOP/s", "of the peak")


def answers(
    name: str, file: Path, side_px: int, device: torch.device, calls: int
) -> Iterator[dict[str, str | int | float]]:
    """Time a model's answers in both precisions; the copies to the device and back count."""
    loaded = load_generator(file)
    side_px //= 2 if loaded.family.task is Task.UPSCALE else 1
    picture = probe_picture(loaded, side_px)
    for dtype in (torch.bfloat16, torch.float32):
        runner = TorchRunner(loaded.module, device, dtype)
        seconds: dict[int, float] = {}
        memory: dict[int, int] = {}
        for batch in _BATCHES:
            stack = picture.repeat(batch, 1, 1, 1)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            seconds[batch] = _median_s(runner, stack, calls)
            if device.type == "cuda":
                memory[batch] = torch.cuda.max_memory_allocated(device) // 2**20
        best = max(_BATCHES, key=lambda batch: batch / seconds[batch])
        yield {
            "model": name,
            "px": side_px,
            "precision": runner.dtype,
            "batch_1_ms": round(1000 * seconds[1], 2),
            "best_batch": best,
            "pictures_per_s": round(best / seconds[best], 1),
            "memory_mib": memory.get(best, 0),
        }


def _median_s(runner: TorchRunner, batch: torch.Tensor, calls: int) -> float:
    times = []
    for _ in range(_WARM_CALLS + calls):
        started = time.perf_counter()
        runner.run(batch)  # ends with a copy, so the device is done
        times.append(time.perf_counter() - started)
    return median(times[_WARM_CALLS:])


def steps(
    name: str, folder: Path, device: torch.device, count: int, peak_tflops: float | None
) -> dict[str, str | int | float]:
    """Time a recipe's training steps, data loading and all, and count their operations."""
    warm = int(count * _WARM_SHARE)
    recipe = _made_up(name, folder, log_every=max(1, warm // 2))
    marks: list[tuple[int, float]] = []

    def mark(progress: Progress) -> None:
        marks.append((progress.step, time.perf_counter()))

    def run(run: str, stop: int, watch: Callable[[Progress], None] | None = None) -> None:
        vgg16 = folder / "vgg16.safetensors"
        train(
            recipe,
            folder / f"{name}-{run}",
            data_root=folder,
            device=device,
            features=vgg16,
            stop_after=stop,
            on_progress=watch,
        )

    run("timed", count, mark)
    kept = [(step, at) for step, at in marks if step >= warm]
    rate = (kept[-1][0] - kept[0][0]) / (kept[-1][1] - kept[0][1])
    counted = []
    for stop in (1, 2):  # each draws a sample at its end
        with FlopCounterMode(display=False) as counter:
            run(f"counted-{stop}", stop)
        counted.append(counter.get_total_flops())
    tflops = (counted[1] - counted[0]) * rate / 1e12
    row = {
        "recipe": name,
        "crop_px": recipe.data.crop_px,
        "batch": recipe.training.batch,
        "steps_per_s": round(rate, 2),
        "pictures_per_s": round(rate * recipe.training.batch, 1),
        "tflops": round(tflops, 3),
    }
    return row if peak_tflops is None else row | {"share_of_peak": round(tflops / peak_tflops, 4)}


def _write_data(folder: Path) -> None:
    """Write what the recipes train on, and VGG16 with random weights."""
    (folder / "photos").mkdir()
    for number in range(_PHOTOS):
        (folder / f"photos/{number}.jpg").write_bytes(photo(_PHOTO_PX))
    save_file(VGG16(("relu5_3",)).state_dict(), folder / "vgg16.safetensors")


def _made_up(name: str, folder: Path, log_every: int) -> Recipe:
    """Return the recipe on the pictures in `folder`/photos."""
    path = ROOT / "recipes" / f"{name}.toml"
    kind = load_recipe(path).data.kind
    folders = {"paired": ("train", "targets"), "unpaired": ("a", "b")}.get(kind, ("train",))
    changes = [f'data.{key}=["photos"]' for key in folders]
    changes += ['data.style="photos/0.jpg"'] * (kind == "content")
    changes += [f"training.{key}=1000000" for key in ("steps", "sample_every", "checkpoint_every")]
    recipe = load_recipe(path, [*changes, f"training.log_every={log_every}", "training.workers=2"])
    return recipe.model_copy(update={"initial": {}})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.chip", description=__doc__)
    add_options(parser)
    parser.add_argument("--models", nargs="*", choices=ENDPOINTS, default=list(ENDPOINTS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512], help="as in serving")
    parser.add_argument(
        "--recipes", nargs="*", default=list(ENDPOINTS), help="whose training is timed"
    )
    parser.add_argument("--calls", type=int, default=10, help="timed answers of a batch")
    parser.add_argument("--steps", type=int, default=100, help="of a training, 60 %% of them timed")
    parser.add_argument("--peak", type=float, help="of the chip in bfloat16, TFLOP/s")
    options = parser.parse_args(arguments)
    configure_logs("warning")
    rows: list[dict[str, str | int | float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = prepare(folder, options.models, options.device, random=options.random)
        device = choose_device(settings.device)
        facts = machine(str(device))
        announce(facts)
        print(table_head(_ANSWERS), flush=True)
        for model in options.models:
            file = open_registry(settings).resolve(model).path
            for side_px in options.sizes:
                for row in answers(model, file, side_px, device, options.calls):
                    print(table_line(row.values()), flush=True)
                    rows.append(row)
        print()
        print(table_head(_STEPS if options.peak else _STEPS[:-1]), flush=True)
        _write_data(folder)
        for recipe in options.recipes:
            row = steps(recipe, folder, device, options.steps, options.peak)
            print(table_line(row.values()), flush=True)
            rows.append(row)
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
