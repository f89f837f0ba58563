"""An anonymizer's figures: on people of whom there are several photos, and on held-out faces."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from models import images
from models.checkpoint import LoadedGenerator
from models.evaluation.data import FacesTest
from models.evaluation.face_protocols import (
    cut_tightly,
    passcode_table,
    portraits,
    reidentification_table,
)
from models.evaluation.judge import Judge
from models.evaluation.protocols import Table, row_of
from models.evaluation.tone_protocol import tone_table
from models.faces.alignment import LANDMARKS
from models.faces.detection import Detector, open_detector
from models.faces.samples import held_out
from models.families.anonymizer.conditions import (
    Asked,
    code_of,
    pack_identity,
    pack_surroundings,
)
from models.families.anonymizer.painter import FaceConfig
from models.images import Pixels
from models.pictures import Pictures, rgb_of
from models.recipe import FacesData


def face_tables(
    loaded: LoadedGenerator,
    root: Path,
    data: FacesData,
    test: FacesTest,
    limit: int | None,
    device: torch.device,
) -> list[Table]:
    """Measure who is known again, which tone faces have and, with passcodes, what comes back.

    `limit` is the number of people, of faces likewise. Raises MissingFeatures where the judge is
    not installed, InvalidDataset for a missing folder.
    """
    judge, detector = Judge(), open_detector(device)
    run = FaceRunner(loaded, device)
    pictures = Pictures(root, [test.people])
    named = [
        (path.stem.partition("_")[0], rgb_of(pictures[i])) for i, path in enumerate(pictures.paths)
    ]
    kept = sorted({person for person, _ in named})[:limit]
    photos = portraits([each for each in named if each[0] in kept], detector)
    name = row_of(loaded.header.name)
    config = run.config
    random = np.random.default_rng(1)
    if config.condition == "surroundings":

        def somebody(face: Pixels) -> Pixels:
            return run.paint(face, random.random(config.code_length) < 0.5)

        return [
            reidentification_table(test.people, photos, {name: somebody}, detector, judge),
            *_tone_tables(test, root, limit, detector, name, somebody),
        ]
    fixed = random.random(config.code_length) < 0.5

    def another_each_time(face: Pixels) -> Pixels:
        return run.change(face, random.random(config.code_length) < 0.5)

    changes = {
        f"{name}, a passcode a photo": another_each_time,
        f"{name}, one passcode": lambda face: run.change(face, fixed),
    }
    training = Pictures(root, data.train)
    unseen = held_out(len(training), data.held_out)[:limit]
    return [
        reidentification_table(test.people, photos, changes, detector, judge),
        *_tone_tables(test, root, limit, detector, name, another_each_time),
        passcode_table(
            f"held out of {', '.join(data.train)}",
            [rgb_of(training[index]) for index in unseen],
            name,
            run.change,
            partial(run.change, asked=Asked.OLD),
            config.code_length,
            judge,
        ),
    ]


def _tone_tables(
    test: FacesTest,
    root: Path,
    limit: int | None,
    detector: Detector,
    name: str,
    change: Callable[[Pixels], Pixels],
) -> list[Table]:
    """Return the tables of the portraits, if there are any to be judged."""
    if test.portraits is None:
        return []
    photos = Pictures(root, [test.portraits])
    judged = [rgb_of(photos[i]) for i in held_out(len(photos), test.portraits_every)[:limit]]
    whole = portraits([("", rgb) for rgb in judged], detector)
    tight = portraits([("", cut_tightly(photo)) for photo in whole], detector)
    title = f"held out of {test.portraits}"
    return [
        tone_table(where, [p.alignment.crop(p.rgb) for p in seen], name, change)
        for where, seen in ((title, whole), (f"{title}, cut a tenth beyond the face", tight))
        if seen
    ]


class FaceRunner:
    """Runs a face generator on single aligned faces."""

    def __init__(self, loaded: LoadedGenerator, device: torch.device) -> None:
        self.config = cast(FaceConfig, loaded.config)
        self._module, self._device = loaded.module.to(device), device

    def change(self, face: Pixels, bits: NDArray[np.bool_], asked: Asked = Asked.NEW) -> Pixels:
        """Return the face that the bits of a passcode make of one, uint8 (128, 128, 3).

        `Asked.OLD` is the face that they were used to hide.
        """
        return self._run(pack_identity(self._tensor(face), torch.from_numpy(bits)[None], asked))

    def paint(self, face: Pixels, bits: NDArray[np.bool_]) -> Pixels:
        """Return the face that bits drawn by chance make of the surroundings of one."""
        x, points = self._tensor(face), torch.from_numpy(LANDMARKS)[None]
        code = code_of(torch.from_numpy(bits)[None], x)
        return self._run(pack_surroundings(x, points, code))

    def _tensor(self, face: Pixels) -> torch.Tensor:
        return images.to_tensor(face)[None].to(self._device)

    @torch.no_grad()
    def _run(self, packed: torch.Tensor) -> Pixels:
        return images.to_rgb(self._module(packed.to(self._device))[0])
