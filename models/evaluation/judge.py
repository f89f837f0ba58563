"""The face recogniser that judges anonymization, and that no generator was trained against."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import MissingFeatures
from models.faces.geometry import BOX
from models.images import Pixels

SAME_PERSON = 0.6
"""Distance below which its authors take two faces for one person (99.38 % on LFW)."""
NAME = "dlib's ResNet of 2017 (128 values, Euclidean distance, one person below 0.6)"


class Judge:
    """dlib's face recognition network, as the package face_recognition_models carries it.

    Raises MissingFeatures where that package or dlib is not installed (`pip install
    'anamorph[judge]'`).
    """

    def __init__(self) -> None:
        package = find_spec("face_recognition_models")
        try:
            import dlib
        except ImportError:
            package = None
        if package is None or not package.submodule_search_locations:
            raise MissingFeatures(
                "judging anonymized faces needs dlib and its weights: pip install 'anamorph[judge]'"
            )
        folder = Path(package.submodule_search_locations[0]) / "models"
        self._dlib: Any = dlib
        self._landmarks = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        self._network = dlib.face_recognition_model_v1(
            str(folder / "dlib_face_recognition_resnet_model_v1.dat")
        )

    def __call__(self, face: Pixels) -> NDArray[np.float64]:
        """Return the descriptor (128,) of an aligned face, uint8 (128, 128, 3)."""
        enlarged = self._dlib.resize_image(np.ascontiguousarray(face), 2.0)
        box = self._dlib.rectangle(*(round(2 * side) for side in BOX))
        chip = self._dlib.get_face_chip(enlarged, self._landmarks(enlarged, box), size=150)
        return np.asarray(self._network.compute_face_descriptor(chip))
