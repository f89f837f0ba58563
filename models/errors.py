"""The errors of `models`, one tree; `app.error_codes` gives each leaf a status and a stable code.

AnamorphError
|-- ImageError                 upload bytes -> RGB array
|   |-- UnsupportedImage       the content is none of the accepted formats
|   |-- CorruptImage           an accepted format that does not decode
|   `-- ImageTooLarge          refused by its header, before any pixel is decoded
|-- ModelError                 file -> generator
|   |-- UnknownLayout          the keys of a foreign checkpoint are not understood
|   |-- InvalidCheckpoint      a file that is damaged, or is not what its header says
|   |-- ModelNotFound          no such name or version
|   |-- ModelProtected         a version that must stay: shipped, promoted or serving
|   `-- GateRefused            a version that did not pass the gate
`-- TrainingError              recipe + data -> generator
    |-- InvalidRecipe          a recipe that contradicts itself or its family
    |-- InvalidDataset         a folder without usable images
    |-- MissingFeatures        a loss or figure needs weights of VGG16 that are not there
    `-- DivergedTraining       a loss that is no longer finite
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class AnamorphError(Exception):
    """Base of every error that is about the caller's input; its text is safe to show."""


class ImageError(AnamorphError):
    """An uploaded image cannot be used."""


class UnsupportedImage(ImageError):
    """The content is none of the accepted formats."""


class CorruptImage(ImageError):
    """The content is an accepted format but does not decode."""


class ImageTooLarge(ImageError):
    """The image, or the answer it would lead to, is beyond a limit; the text names the limit."""


class ModelError(AnamorphError):
    """A generator cannot be had from a file or a name."""


class UnknownLayout(ModelError):
    """A foreign checkpoint whose architecture cannot be inferred; names the keys not understood."""


class InvalidCheckpoint(ModelError):
    """A file that is damaged or does not hold what its header says."""


class ModelNotFound(ModelError):
    """No model of that name, or no such version of it."""


class ModelProtected(ModelError):
    """A version that ships with the project, is promoted or serves, and so cannot be deleted."""


class GateRefused(ModelError):
    """A version that did not pass the gate, and nobody forces it.

    `verdict` is the comparison with the serving version, as the card holds it.
    """

    def __init__(self, message: str, verdict: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.verdict = dict(verdict or {})


class TrainingError(AnamorphError):
    """A training cannot start or go on."""


class InvalidRecipe(TrainingError):
    """A recipe that contradicts itself or its family.

    `faults` are texts of the form "table.key: what is wrong", as far as keys are at fault.
    """

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults) or (message,)


class InvalidDataset(TrainingError):
    """A folder that holds no usable images of the kind asked for."""


class MissingFeatures(TrainingError):
    """Weights that a loss or a figure looks through, VGG16's for example, are not at hand."""


class DivergedTraining(TrainingError):
    """A loss stopped being finite; the last checkpoint is kept."""
