"""The thumbnails of the page, made by the models that ship: `python -m benchmarks.thumbnails DATA`.

DATA is the folder of docs/data.md, of which NOTICE beside the thumbnails names the photos. A
thumbnail is the photo on the left and what the model makes of it on the right; a painting fills it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from models import images
from models.evaluation.colour_protocols import grey_of
from models.images import Pixels

FOLDER = Path(__file__).parents[1] / "app" / "static" / "page"
_MADE_PX, _SIDE_PX, _QUALITY = 256, 192, 80
_SCENE = "photos/debian_photos/plasma_EveningGlow.jpg"
_PORTRAIT = "faces/synthetic_sd3_cc0/female_11.jpg"
_COVER = {"method": "solid", "passcode": "thumbnail", "format": "png"}


class Crop(NamedTuple):
    """A square of a photo: its left, top and side as shares of the photo's height."""

    file: str
    left: float
    top: float
    side: float


_PAINTED = Crop(_SCENE, 0.12, 0.0, 1.0)
_FACE = Crop(_PORTRAIT, 0.17, 0.1, 0.66)
_CROPS = {
    "photo2monet": _PAINTED,
    "monet2photo": Crop("monet_photo/testA/4ad8b366c1.jpg", 0.0, 0.0, 1.0),
    "colorize": _PAINTED,
    "srresnet-x4": Crop("photos/debian_photos/mate_LadyBird.jpg", 0.98, 0.35, 0.32),
    "srgan-x4": Crop("photos/debian_photos/mate_YellowFlower.jpg", 1.1, 0.5, 0.45),
    "facades": Crop("facades/test/101.jpg", 1.0, 0.0, 1.0),
    "horse2zebra": Crop("photos/bsds500_train/113044.jpg", 0.3, 0.0, 1.0),
    "zebra2horse": Crop("photos/bsds500_test/130066.jpg", 0.25, 0.05, 0.95),
}
_PATHS = {"stylize": ("/v1/stylize", "style"), "upscale": ("/v1/upscale", "model")}


def main() -> None:
    """Write a JPEG for each model that ships, for hiding and showing faces, and the list of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data: Path = parser.parse_args().data
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), device="cpu", worker=False)
        with TestClient(create_app(settings)) as client:
            while client.get("/readyz").status_code != HTTPStatus.OK:
                time.sleep(0.2)
            made = dict(_thumbnails(client, data))
    for name, pixels in made.items():
        file = FOLDER / "thumbnails" / f"{name}.jpg"
        small = images.Picture(images.resize(pixels, _SIDE_PX, _SIDE_PX), None, "jpeg")
        file.write_bytes(images.encode(small, "jpeg", _QUALITY))
    module = FOLDER / "thumbnails.js"
    head = module.read_text("utf-8").partition("export")[0]
    names = "".join(f'  "{name}",\n' for name in sorted(made))
    module.write_text(f"{head}export const THUMBNAILS = new Set([\n{names}]);\n", "utf-8")


def _thumbnails(client: TestClient, data: Path) -> Iterator[tuple[str, Pixels]]:
    for model in client.get("/v1/models").json():
        name, task = model["name"], model["task"]
        path, field = _PATHS.get(task, (f"/v1/{task}", "model"))
        if task == "stylize":
            yield name, _ask(client, path, _cut(data, _PAINTED), {field: name})
        elif task == "anonymize":
            before = _cut(data, _FACE)
            passcode = {} if name == "face-surroundings" else {"passcode": "sesame"}
            yield name, _beside(before, _ask(client, path, before, {field: name} | passcode))
        else:
            side = _MADE_PX // model["scale"]
            before = _cut(data, _CROPS[name], side)
            if name == "colorize":
                before = grey_of(before)
            after = _ask(client, path, before, {field: name})
            yield name, _beside(before.repeat(model["scale"], 0).repeat(model["scale"], 1), after)
    face = _cut(data, _FACE)
    covered = _ask(client, "/v1/anonymize", face, _COVER)
    yield "cover", _beside(face, covered)
    yield "restore", _beside(covered, face)


def _cut(data: Path, crop: Crop, side_px: int = _MADE_PX) -> Pixels:
    photo = images.decode((data / crop.file).read_bytes(), images.Limits()).rgb
    left, top, side = (round(share * photo.shape[0]) for share in crop[1:])
    return images.resize(photo[top : top + side, left : left + side], side_px, side_px)


def _ask(client: TestClient, path: str, photo: Pixels, fields: dict[str, str]) -> Pixels:
    """Return what the service makes of a photo, as (H, W, 3)."""
    png = images.encode(images.Picture(photo, None, "png"), "png")
    answer = client.post(path, files={"image": png}, data=fields).raise_for_status()
    return images.decode(answer.content, images.Limits()).rgb


def _beside(before: Pixels, after: Pixels) -> Pixels:
    """Return the left half of one and the right half of the other, with a white line between."""
    middle = _MADE_PX // 2
    line = np.full((_MADE_PX, 2, 3), 255, np.uint8)
    return np.concatenate((before[:, : middle - 1], line, after[:, middle + 1 :]), axis=1)


if __name__ == "__main__":
    main()
