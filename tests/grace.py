"""Grace Hopper, and the requests that ask for another face and for hers."""

from __future__ import annotations

from io import BytesIO

import httpx
import numpy as np
from fastapi.testclient import TestClient
from matplotlib.cbook import get_sample_data
from PIL import Image

from app.faces.passcodes import Cost, Kdf
from tiny import assert_problem, encoded, opened

PASSCODE = "Grüße, 世界"
CHEAP = Cost(Kdf.ARGON2ID, memory_kib=8, passes=1, lanes=1)
FACE = (30, 17, 60, 56)
"""Of Grace Hopper at a sixth of the photo's size, left, top, right, bottom."""


def hopper(times: float = 6) -> Image.Image:
    """Grace Hopper, by the US Navy; 85 x 100 pixels, or larger."""
    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
        size = (round(512 / times), round(600 / times))
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


PNG = encoded(hopper())


def anonymize(client: TestClient, file: bytes = PNG, **fields: object) -> httpx.Response:
    """Send a form; `accept` is the header."""
    headers = {"Accept": str(fields.pop("accept", "*/*"))}
    return client.post("/v1/anonymize", files={"image": file}, data=fields, headers=headers)


def rgb(answer: httpx.Response | bytes | Image.Image) -> np.ndarray:
    if isinstance(answer, bytes):
        answer = Image.open(BytesIO(answer))
    elif not isinstance(answer, Image.Image):
        answer = opened(answer)
    return np.asarray(answer.convert("RGB")).astype(int)


def assert_refused(response: httpx.Response, status: int, code: str) -> None:
    """Fail unless the answer is that problem, without the passcode."""
    assert_problem(response, status, code)
    assert PASSCODE not in response.text


def restore(client: TestClient, file: bytes, passcode: str = PASSCODE, **fields) -> httpx.Response:
    return client.post("/v1/restore", files={"image": file}, data={"passcode": passcode, **fields})
