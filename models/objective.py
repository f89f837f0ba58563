"""What a family adds to the one training loop: named generator and discriminator terms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from models.family import Config

Batch = Mapping[str, Tensor]
Terms = dict[str, Tensor]


class GeneratorStep(NamedTuple):
    """Unweighted named terms, and the detached pictures the discriminators judge next."""

    terms: Terms
    fakes: dict[str, Tensor]


class Objective(nn.Module):
    """The networks of a training and the terms that train them.

    Subclasses fill `generators`, `discriminators` (which may stay empty) and `memory`, which holds
    whatever else must survive a restart, such as image pools. Checkpoints carry these three.

    Attributes:
        config_type: hyperparameters of the objective, the recipe's [objective] table.
        data_kinds: the kinds of dataset whose batches it takes.
        weights: factor of each generator term in the generator's loss.
        conventions: facts a checkpoint must record, such as the feature network's input scale.
        frozen: key of a generator that is not trained and not published, if there is one.
    """

    config_type: ClassVar[type[Config]]
    data_kinds: ClassVar[tuple[str, ...]]

    weights: Mapping[str, float]
    conventions: Mapping[str, Any]
    frozen: str | None

    def __init__(self) -> None:
        super().__init__()
        self.generators = nn.ModuleDict()
        self.discriminators = nn.ModuleDict()
        self.memory = nn.ModuleDict()
        self.weights = {}
        self.conventions = {}
        self.frozen = None

    @classmethod
    def check(
        cls, generator: Config, config: Config, data: Config, initial: Collection[str]
    ) -> None:
        """Raise ValueError where parts of a recipe, each right by itself, do not fit together.

        `initial` has the keys of the generators that begin as another model.
        """

    @classmethod
    def build(
        cls, generator: Config, config: Config, features: Path | None, style: Tensor | None
    ) -> Objective:
        """Return the objective for one generator configuration.

        `features` names VGG16's weights (None: torchvision's download); `style` is the (1, 3, H, W)
        style image in [-1, 1] of a recipe that has one.
        """
        raise NotImplementedError

    def adopt(self, key: str, config: Config, weights: Mapping[str, Tensor]) -> bool:
        """Take over, as a part of the generator `key`, a model with another configuration.

        Returns whether it is one that fits; by default, none is.
        """
        return False

    def generator_step(self, batch: Batch) -> GeneratorStep:
        """Return the terms to minimise over the generators."""
        raise NotImplementedError

    def discriminator_step(self, batch: Batch, fakes: Mapping[str, Tensor]) -> Terms:
        """Return the terms to minimise over the discriminators; each counts once."""
        raise NotImplementedError

    def preview(self, generators: Mapping[str, nn.Module], batch: Batch) -> list[Tensor]:
        """Return the columns of a sample grid, (B, 3, H, W) each: inputs, answers, targets."""
        raise NotImplementedError

    def figures(self, batch: Batch, fakes: Mapping[str, Tensor]) -> dict[str, float]:
        """Return figures to log beside the losses, none by default."""
        return {}
