"""What every model family promises, so that callers never ask for one by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

if TYPE_CHECKING:
    from models.objective import Objective


class Task(StrEnum):
    """What an endpoint does; a family serves exactly one task."""

    TRANSLATE = "translate"
    UPSCALE = "upscale"
    STYLIZE = "stylize"
    ANONYMIZE = "anonymize"


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Which input sizes a generator takes, and what a tile of a larger picture must bring along.

    Attributes:
        multiple_of: height and width must be multiples of this.
        minimum: smallest height and width.
        halo: input pixels of context on each side that make a tile's answer equal the whole
            picture's; exact for a network without normalisation over space. With
            `whole_image_statistics` it is exact once those statistics are frozen.
        whole_image_statistics: the network normalises by the statistics of the whole picture
            (InstanceNorm), so tiles must share them.
    """

    multiple_of: int = 1
    minimum: int = 1
    halo: int = 0
    whole_image_statistics: bool = False

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Return the smallest allowed (height, width) that holds the given one."""

        def up(side: int) -> int:
            side = max(side, self.minimum)
            return -(-side // self.multiple_of) * self.multiple_of

        return up(height), up(width)

    def pad(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Mirror pixels (H, W, 3) at right and bottom up to an allowed size."""
        height, width = rgb.shape[:2]
        to_height, to_width = self.padded(height, width)
        margins = ((0, to_height - height), (0, to_width - width), (0, 0))
        return np.pad(rgb, margins, mode="reflect")


def without_margins(answer: Tensor, rgb: NDArray[np.uint8], scale: int) -> Tensor:
    """Return (..., scale * H, scale * W), the part of an answer to padded (H, W, 3) that counts."""
    height, width = rgb.shape[:2]
    return answer[..., : height * scale, : width * scale]


class Config(BaseModel):
    """Hyperparameters: frozen, and refusing names they do not know and numbers JSON has not."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def unused(self) -> set[str]:
        """Return the hyperparameters that mean nothing beside the others."""
        return set()


def channels(config: Config) -> tuple[int, int]:
    """Return how many channels a generator takes and gives: 3 where its family has no choice."""
    return getattr(config, "channels_in", 3), getattr(config, "channels_out", 3)


WEIGHTLESS = {"view_px", "clip", "undertone_px", "dropout"}
"""Hyperparameters of generators that change what weights do, but not which weights there are."""


def differences(one: Config, other: Config) -> list[str]:
    """Return the hyperparameters whose difference keeps weights of one from fitting the other."""
    if type(one) is not type(other):
        return ["family"]
    mine, its = (config.model_dump(exclude=WEIGHTLESS | config.unused()) for config in (one, other))
    return sorted(key for key in mine.keys() | its.keys() if mine.get(key) != its.get(key))


def same_network(one: Config, other: Config) -> bool:
    """Tell whether weights of one fit the other."""
    return not differences(one, other)


def is_smaller(one: Config, other: Config, dimension: Literal["base_channels", "blocks"]) -> bool:
    """Tell whether `one` has less of `dimension` than `other`, and is the same otherwise."""
    size = getattr(other, dimension, 0)
    if getattr(one, dimension, size) >= size:
        return False
    return same_network(one.model_copy(update={dimension: size}), other)


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of model.

    Every generator maps (B, C, H, W) float in [-1, 1] to (B, D, scale * H, scale * W) in about
    [-1, 1] (answers are clamped when they become pixels), for C and D of `channels` and for H and W
    that follow `size_rule`. In evaluation mode the answer for one image never depends on the others
    in the batch.

    Attributes:
        id: the folder's name under `models/families`.
        task: the endpoint that serves it.
        generator_config: its hyperparameters, stored in every checkpoint's header.
        build_generator: config -> freshly initialised generator.
        size_rule: config -> the sizes it takes.
        objective: name of the training objective's class, in the folder's module `objective`.
        scale: config -> output side over input side.
        exact: config -> whether another machine must be able to make the same of an answer as this
            one, so that bfloat16 will not do.
    """

    id: str
    task: Task
    generator_config: type[Config]
    build_generator: Callable[[Any], nn.Module]
    size_rule: Callable[[Any], SizeRule]
    objective: str
    scale: Callable[[Any], int] = lambda _config: 1
    exact: Callable[[Any], bool] = lambda _config: False

    def load_objective(self) -> type[Objective]:
        """Import and return the training objective: only here, as serving imports no losses."""
        module = import_module(f"models.families.{self.id}.objective")
        return cast("type[Objective]", getattr(module, self.objective))
