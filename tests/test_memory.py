"""The memory foreseen for a picture is what it takes, so that `max_memory_bytes` holds."""

import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import get_args

import numpy as np
import pytest

from app.http.responses import PICTURE, with_picture
from app.memory import encoding_bytes, generating_bytes
from app.schemas.edits import EditAnswer, EditedImage
from models.images import Format, Picture, canvas, encode
from peaks import forget_peak, takes_at_most

SIDE_PX = 1448


def encode_noise(answer_format: Format, transparent: bool) -> None:
    """Fail if noise, the worst that a network could make, takes more than is foreseen for it."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 4), np.uint8)
    rgb = canvas(SIDE_PX, SIDE_PX)
    rgb[...] = noise[..., :3]
    picture = Picture(rgb, noise[..., 3] if transparent else None, answer_format)
    encode(Picture(rgb[:64, :64].copy(), None, answer_format), answer_format)  # loads the encoder
    foreseen = encoding_bytes(SIDE_PX**2, answer_format, transparent=transparent)
    takes_at_most(lambda: encode(picture, answer_format), megabytes=foreseen / 2**20, seconds=60)


@pytest.mark.parametrize("transparent", [False, True], ids=["opaque", "transparent"])
@pytest.mark.parametrize("answer_format", get_args(Format))
def test_encoding_takes_no_more_than_foreseen(answer_format: Format, transparent: bool) -> None:
    """Noise is encoded within the memory foreseen for it, in a process that does nothing else."""
    forget_peak()  # skips here, where a skip can be told
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        alone.submit(encode_noise, answer_format, transparent).result()


def test_a_reduced_answer_takes_more() -> None:
    """What a network makes only to be reduced counts in full, beside the smaller answer."""
    whole = generating_bytes(100, 1600, 1600, "jpeg", transparent=False)
    assert generating_bytes(100, 1600, 400, "jpeg", transparent=False) > whole


def test_json_holds_a_picture_once() -> None:
    """A picture goes into a JSON answer without further copies of its base64."""
    picture = bytes(3_000_000)
    told = EditAnswer(
        created=1, data=[EditedImage(b64_json=PICTURE)], output_format="png", size="1x1"
    )
    tracemalloc.start()
    answer = with_picture(told, picture)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert EditAnswer.model_validate_json(answer).data[0].b64_json == "A" * 4_000_000
    assert peak_bytes < 2.1 * len(answer)
