"""What a finished training leaves: each generator's file, with its card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.checkpoint import Header, save_generator
from models.objective import Objective
from models.recipe import Recipe


def publish(
    recipe: Recipe,
    objective: Objective,
    generators: nn.ModuleDict,
    folder: Path,
    facts: Mapping[str, Any],
) -> dict[str, Path]:
    """Write each trained generator under its model's name, in half precision; return the files.

    What is measured and served is this file, so its rounding is part of every figure.

    Args:
        recipe: names the models; goes into their cards.
        objective: its conventions go into the cards too.
        generators: by the recipe's model keys.
        folder: the run's; the files go to its models/.
        facts: further entries of the cards.
    """
    made = {}
    for key, generator in generators.items():
        if key == objective.frozen:
            continue
        name = recipe.models[key]
        card = recipe.card | {
            "recipe": recipe.model_dump(mode="json", exclude={"card"}),
            "conventions": dict(objective.conventions),
            "device": describe_device(next(generator.parameters()).device),
            **facts,
        }
        hyperparameters = recipe.generator_config().model_dump(mode="json")
        header = Header(family=recipe.family, generator=hyperparameters, name=name, card=card)
        made[key] = folder / "models" / f"{name}.safetensors"
        save_generator(made[key], generator, header, torch.float16)
    return made


def describe_device(device: torch.device) -> str:
    """Return what a training ran on, for its card: "NVIDIA H200", "CPU (AVX512), 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"CPU ({capability}), {threads} thread{'s' * (threads > 1)}"
