"""Hyperparameters of the upscalers, and what follows from them for the pictures they take."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from models.blocks import ValueRange
from models.family import Config, SizeRule


class SRConfig(Config):
    """Hyperparameters of the generators.

    Attributes:
        architecture: "msrresnet" has no BatchNorm, 3 x 3 kernels and a bilinear skip;
            "srresnet" is SRGAN's, with BatchNorm unless `batch_norm` is false; "rrdb" is ESRGAN's
            and "compact" Real-ESRGAN's small one.
        channels: of the features; of "rrdb", those between its dense blocks.
        blocks: residual blocks, of "rrdb" each of three dense blocks, of "compact" convolutions.
        growth: of "rrdb", the channels that a convolution of a dense block adds.
        unshuffle: of "rrdb", the side of the squares of pixels that become channels first.
        value_range: what the network computes in.
        output: of "srresnet": "tanh" bounds the answer, "linear" leaves it free (the paper's text).
    """

    architecture: Literal["msrresnet", "srresnet", "rrdb", "compact"] = "msrresnet"
    channels: int = Field(64, ge=1, le=1024)
    blocks: int = Field(16, ge=1, le=256)
    growth: int = Field(32, ge=1, le=1024)
    scale: Literal[2, 4] = 4
    unshuffle: Literal[1, 2] = 1
    batch_norm: bool = True
    value_range: ValueRange = "unit"
    output: Literal["linear", "tanh"] = "linear"

    @model_validator(mode="after")
    def _check_output(self) -> SRConfig:
        if self.architecture != "srresnet" and self.output != "linear":
            raise ValueError(f"output: that of {self.architecture} is linear")
        return self

    def unused(self) -> set[str]:
        used = {"srresnet": {"batch_norm"}, "rrdb": {"growth", "unshuffle"}}
        return {"batch_norm", "growth", "unshuffle"} - used.get(self.architecture, set())


_RRDB_HALO = 32
"""Of the 350 pixels that 23 blocks could see. Real-ESRGAN's own tiles bring 10, and after 900 steps
of training what lay beyond 12 changed answers by less than 0.001 levels."""


def size_rule(config: SRConfig) -> SizeRule:
    """Any size; of "rrdb", multiples of `unshuffle`.

    The halo sums the kernel radii at input resolution, rounded up; of "rrdb" up to `_RRDB_HALO`.
    """
    match config.architecture:
        case "msrresnet":
            return SizeRule(halo=2 * config.blocks + 4)
        case "srresnet":
            return SizeRule(halo=2 * config.blocks + 12)
        case "compact":
            return SizeRule(halo=config.blocks + 2)
        case "rrdb":
            side = config.unshuffle
            return SizeRule(multiple_of=side, halo=side * min(15 * config.blocks + 4, _RRDB_HALO))


def scale(config: SRConfig) -> int:
    """Output side over input side."""
    return config.scale
