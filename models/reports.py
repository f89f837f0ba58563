"""What a training leaves to look at: its losses as a table and a picture, samples, TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from models import images
from models.files import write_atomically


class Reports:
    """Writes below `folder`: losses.jsonl, losses.png, samples/*.png and tensorboard/.

    On resuming at `first_step`, rows of a run that got further before it was killed are dropped.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._losses = folder / "losses.jsonl"
        rows = [row for row in _rows(self._losses) if row["step"] <= first_step]
        table = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(self._losses, lambda target: target.write_text(table))
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Append one row of named figures."""
        with self._losses.open("a") as file:
            file.write(json.dumps({"step": step} | figures) + "\n")
        for name, figure in figures.items():
            self._board.add_scalar(name, figure, step)

    def sample(self, step: int, columns: list[Tensor]) -> None:
        """Write a grid whose rows are the batch and whose columns are (B, C, H, W) in [-1, 1]."""
        side = max(column.shape[-1] for column in columns)
        cells = [
            torch.nn.functional.interpolate(column.float().cpu(), size=(side, side)).expand(
                -1, 3, -1, -1
            )
            for column in columns
        ]
        rows = torch.stack(cells, dim=1).flatten(0, 1)
        grid = make_grid(rows, nrow=len(columns), padding=2)
        path = self._folder / "samples" / f"{step:06d}.png"
        png = images.encode(images.Picture(images.to_rgb(grid), None, "png"), "png")
        write_atomically(path, lambda target: target.write_bytes(png))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Flush, and draw the loss curves: also of a run that failed."""
        self._board.close()
        draw_curves(self._losses, self._folder / "losses.png")


def _rows(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # a line cut by a kill
            continue
    return rows


def draw_curves(losses: Path, target: Path) -> None:
    """Draw every figure of a losses.jsonl over the steps, one panel each."""
    from matplotlib.figure import Figure  # a second to import; only the end of a run needs it

    rows = _rows(losses)
    names = sorted({name for row in rows for name in row} - {"step"})
    if not names:
        return
    height = 1.6 * len(names) + 0.6
    figure = Figure(figsize=(8, height))
    panels = figure.subplots(len(names), sharex=True, squeeze=False).flat
    figure.subplots_adjust(left=0.12, right=0.98, top=1 - 0.1 / height, bottom=0.4 / height)
    for name, panel in zip(names, panels, strict=True):
        points = [(row["step"], row[name]) for row in rows if name in row]
        panel.plot(*zip(*points, strict=True), linewidth=0.8)
        panel.set_ylabel(name, fontsize=7)
        panel.tick_params(labelsize=7)
    figure.savefig(target, dpi=100)
