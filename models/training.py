"""The one training loop, for every family, the command line, the worker and notebooks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from models.beginning import build_objective, check_same_training, start_from
from models.data import open_samples
from models.distributed import any_rank, average_gradients, process_group
from models.errors import DivergedTraining
from models.families import FAMILIES
from models.files import remove_leftovers
from models.optimization import MovingAverage, Muon, adam, rate_factor, restore
from models.precision import autocast
from models.publication import publish
from models.recipe import Recipe
from models.reports import Reports
from models.sampling import Sample, batches
from models.state import load_state, save_state

STATE_FILE = "state.safetensors"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands: `figures` are the unweighted terms of the latest logged step."""

    step: int
    steps: int
    steps_per_s: float
    figures: dict[str, float]


def train(
    recipe: Recipe,
    folder: Path,
    *,
    data_root: Path,
    device: torch.device | None = None,
    features: Path | None = None,
    find_model: Callable[[str], Path] = Path,
    stop_after: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Progress], None] | None = None,
    show_bar: bool = False,
) -> dict[str, Path]:
    """Train a recipe, or go on with the training that `folder` holds, and return what it made.

    Stopped anywhere and called again, it ends on the same CPU bit for bit where one uninterrupted
    call would have. Under torchrun, all ranks train together and rank 0 writes; the state has the
    random numbers of rank 0 alone, so that other ranks go on with others.

    Args:
        recipe: what to train.
        folder: receives the state, losses, samples and, under models/, the generators.
        data_root: what the recipe's paths are relative to.
        device: where to train; None takes CUDA when there is one.
        features: VGG16 weights for a recipe that names none.
        find_model: from a name in the recipe's [initial] table to a generator's file.
        stop_after: pause once this many steps are done in all.
        should_stop: asked after every step whether to pause there.
        on_progress: called every `log_every` steps, and at the first and the last.
        show_bar: draw a progress bar with rate and time left.

    Returns:
        The published generators' files, by the recipe's model keys; empty when paused.

    Raises:
        InvalidRecipe, InvalidDataset, MissingFeatures: before the first step.
        DivergedTraining: a loss is not finite; the last good state stays on disk.
        InvalidCheckpoint: the state in `folder` is damaged.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with process_group(device) as (rank, ranks):
        run = _Run(recipe, folder, data_root, device, features, find_model, rank, ranks)
        steps = recipe.training.steps
        stop = steps if stop_after is None else min(stop_after, steps)
        return run.go(stop, should_stop, on_progress, show_bar)


class _Run:
    """The state of a training and the steps that change it."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        data_root: Path,
        device: torch.device,
        features: Path | None,
        find_model: Callable[[str], Path],
        rank: int,
        ranks: int,
    ) -> None:
        self.recipe, self.folder, self.device = recipe, folder, device
        self.rank, self.ranks = rank, ranks
        self.config = config = recipe.training
        torch.manual_seed(recipe.seed)
        self.objective = build_objective(recipe, data_root, features).to(device)
        resuming = (folder / STATE_FILE).exists()
        if not resuming:
            start_from(recipe, self.objective, find_model)
        family = FAMILIES[recipe.family]
        scale = family.scale(recipe.generator_config())
        self.samples = open_samples(recipe.data, data_root, recipe.seed, scale)
        if config.channels_last:
            self.objective.to(memory_format=torch.channels_last)
        self.ema = (
            AveragedModel(self.objective.generators, multi_avg_fn=MovingAverage(config.ema))
            if config.ema
            else None
        )
        optimizer = Muon if config.optimizer == "muon" else adam
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "generators": optimizer(self.objective.generators, config.learning_rate, config.betas),
        }
        if self.objective.discriminators:
            rate = config.discriminator_learning_rate or config.learning_rate
            self.optimizers["discriminators"] = adam(
                self.objective.discriminators, rate, config.betas
            )
        self.rates = {name: o.param_groups[0]["lr"] for name, o in self.optimizers.items()}
        self.step, self.seconds = 0, 0.0
        # Each rank sees other samples, so it needs other noise too.
        torch.manual_seed(recipe.seed + 7919 * rank)
        if resuming:
            self.restore()
        self.precision = autocast(config.precision, device)
        if config.compile:
            for network in (*self.networks("generators"), *self.networks("discriminators")):
                network.compile()

    def networks(self, kind: Literal["generators", "discriminators"]) -> list[nn.Module]:
        """The generators or the discriminators."""
        return list(getattr(self.objective, kind).values())

    def go(
        self,
        stop: int,
        should_stop: Callable[[], bool],
        on_progress: Callable[[Progress], None] | None,
        show_bar: bool,
    ) -> dict[str, Path]:
        """Train up to step `stop`, leaving a state there; publish at the recipe's last step."""
        config, first = self.config, self.step
        if self.rank == 0:
            remove_leftovers(self.folder / STATE_FILE)
        stream = batches(
            self.samples, config.batch, first, stop, config.workers, self.rank, self.ranks
        )
        self.objective.train()
        started, earlier_s = time.monotonic(), self.seconds
        with (
            Reports(self.folder, first) if self.rank == 0 else nullcontext() as reports,
            tqdm(
                initial=first,
                total=config.steps,
                unit="step",
                disable=not show_bar or self.rank > 0,
                mininterval=2.0,
            ) as bar,
        ):
            for batch in stream:
                figures = self.advance(
                    {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
                )
                self.seconds = earlier_s + time.monotonic() - started
                bar.update()
                done = any_rank(should_stop(), self.device) or self.step == stop
                if figures:
                    bar.set_postfix({k: f"{v:.3g}" for k, v in figures.items()}, refresh=False)
                if figures and on_progress:
                    rate = (self.step - first) / (time.monotonic() - started)
                    on_progress(Progress(self.step, config.steps, rate, figures))
                if reports:
                    self.report(reports, figures, done)
                if done:
                    break
        if self.step < config.steps or self.rank > 0:
            return {}
        facts = {"steps": self.step, "hours": round(self.seconds / 3600, 2)}
        return publish(self.recipe, self.objective, self.published(), self.folder, facts)

    def report(self, reports: Reports, figures: dict[str, float], done: bool) -> None:
        """Write what is due at this step."""
        if figures:
            reports.log(self.step, figures)
        if done or self.step % self.config.checkpoint_every == 0:
            self.save()
        if done or self.step % self.config.sample_every == 0:
            reports.sample(self.step, self.preview())

    def advance(self, batch: Sample) -> dict[str, float]:
        """One step of the generators, then one of the discriminators; figures when due."""
        objective = self.objective
        factor = rate_factor(self.config, self.step)
        for name, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["lr"] = self.rates[name] * factor
        objective.discriminators.requires_grad_(False)
        with self.precision:
            terms, fakes = objective.generator_step(batch)
        total = torch.stack([objective.weights[k] * v.float() for k, v in terms.items()]).sum()
        self.descend("generators", total)
        if self.ema:
            self.ema.update_parameters(objective.generators)
        objective.discriminators.requires_grad_(True)
        judged: dict[str, Tensor] = {}
        if objective.discriminators:
            fakes = {name: fake.float() for name, fake in fakes.items()}
            with self.precision:
                judged = objective.discriminator_step(batch, fakes)
            self.descend("discriminators", torch.stack([v.float() for v in judged.values()]).sum())
        self.step += 1
        if self.step % self.config.log_every and self.step not in (1, self.config.steps):
            return {}
        figures = {f"generator/{k}": float(v.detach()) for k, v in terms.items()}
        figures |= {f"discriminator/{k}": float(v.detach()) for k, v in judged.items()}
        broken = [name for name, value in figures.items() if not math.isfinite(value)]
        if broken:
            raise DivergedTraining(f"{', '.join(broken)} stopped being finite at step {self.step}")
        return figures | objective.figures(batch, fakes)

    def descend(self, kind: Literal["generators", "discriminators"], loss: Tensor) -> None:
        """One optimizer step down the mean gradient of all ranks."""
        optimizer = self.optimizers[kind]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.ranks > 1:
            average_gradients(getattr(self.objective, kind))
        optimizer.step()

    def published(self) -> nn.ModuleDict:
        """The generators as they are published: averaged, if the recipe asks for it."""
        return cast(nn.ModuleDict, self.ema.module if self.ema else self.objective.generators)

    @torch.no_grad()
    def preview(self) -> list[Tensor]:
        """Columns of the sample grid, for the first samples of the data."""
        count = min(4, max(2, self.config.batch))
        drawn = [self.samples[k] for k in range(count)]
        batch = {k: torch.stack([d[k] for d in drawn]).to(self.device) for k in drawn[0]}
        generators = self.published()
        generators.eval()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # training must not depend on when samples are due
            columns = self.objective.preview(dict(generators.items()), batch)
        self.objective.train()
        return columns

    def save(self) -> None:
        """Write everything the next step depends on; raises DivergedTraining if it is broken."""
        if not all(value.isfinite().all() for value in self.objective.parameters()):
            raise DivergedTraining(f"a weight stopped being finite by step {self.step}")
        cuda = self.device.type == "cuda"
        save_state(
            self.folder / STATE_FILE,
            {
                "recipe": self.recipe.model_dump(mode="json"),
                "step": self.step,
                "seconds": self.seconds,
                "networks": {kind: part.state_dict() for kind, part in self._parts().items()},
                "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
                "ema": self.ema.state_dict() if self.ema else None,
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state(self.device) if cuda else None,
            },
        )

    def restore(self) -> None:
        """Take up the state in the folder; raises InvalidRecipe when it is another training's."""
        state = load_state(self.folder / STATE_FILE)
        check_same_training(self.recipe, state["recipe"])
        for kind, part in self._parts().items():
            part.load_state_dict(state["networks"][kind])
        for name, optimizer in self.optimizers.items():
            restore(optimizer, state["optimizers"][name])
        if self.ema and state["ema"]:
            self.ema.load_state_dict(state["ema"])
        elif self.ema:  # it was not averaged so far
            self.ema.module.load_state_dict(self.objective.generators.state_dict())
        self.step, self.seconds = state["step"], state["seconds"]
        if self.rank > 0:  # the file has rank 0's
            torch.manual_seed(self.recipe.seed + 7919 * self.rank + self.step)
            return
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self.device)

    def _parts(self) -> dict[str, nn.Module]:
        objective = self.objective
        return {
            "generators": objective.generators,
            "discriminators": objective.discriminators,
            "memory": objective.memory,
        }
