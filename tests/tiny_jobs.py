"""Requests for trainings so small that a job takes seconds, and the datasets they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.datasets.store import DatasetStore
from app.schemas.training import Hyperparameters, TrainingRequest
from app.settings import Settings
from tiny_training import write_data


def training_settings(home: Path, **overrides: Any) -> Settings:
    """Return settings for the CPU, one thread and no models but those in `home`."""
    return Settings(
        home=home,
        shipped_weights=home / "no weights",
        device="cpu",
        threads=1,
        worker_threads=1,
        worker_niceness=0,
        **overrides,
    )


def add_pairs(home: Path, count: int = 8) -> str:
    """Store `count` tiny pairs as a dataset of `home`, and return its id."""
    source = home / f"uploaded-{count}"
    write_data(source, count)
    dataset, _ = DatasetStore(home).add(source / "pairs", "pairs", "paired")
    return dataset.id


def tiny_request(
    dataset: str,
    *,
    name: str = "tiny",
    steps: int | None = 6,
    objective: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    **fields: Any,
) -> TrainingRequest:
    """Return a request for a pix2pix of a few thousand weights."""
    every = {"log_every": 1, "sample_every": 4, "checkpoint_every": 2, "precision": "float32"}
    return TrainingRequest(
        family="pix2pix",
        dataset=dataset,
        name=name,
        steps=steps,
        hyperparameters=Hyperparameters(
            generator={"base_channels": 4, "depth": 5},
            objective={"patch_layers": 1, "patch_channels": 8} | (objective or {}),
            data={"load_px": 36, "crop_px": 32},
            training={"batch": 1} | every | (training or {}),
        ),
        **fields,
    )
