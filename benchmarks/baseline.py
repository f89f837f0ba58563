"""The server one writes first: a plain FastAPI handler around eager float32 torch.

The handler is a `def`, which FastAPI runs in its thread pool. Decoding, encoding and padding are
the service's own, so that what differs is everything around them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from torch import Tensor

from models import images
from models.checkpoint import load_generator
from models.family import SizeRule, without_margins
from models.images import Format, Limits, Picture, Pixels
from models.views import View, view_of


def create_app(files: Mapping[str, Path], device: torch.device) -> FastAPI:
    """Return an app that answers `POST /{name}` with the network loaded from `files[name]`."""
    models = {name: load_generator(path) for name, path in files.items()}
    for model in models.values():
        model.module.to(device)
    app = FastAPI()

    @app.post("/{name}")
    def answer(name: str, data: Body, format: Format = "jpeg") -> Response:  # noqa: A002
        model = models[name]
        picture = images.decode(data, Limits())
        view = view_of(model.config)
        seen = view.look(picture.rgb)
        batch = to_batch(seen, view, model.family.size_rule(model.config))
        with torch.inference_mode():
            made = model.module(batch.to(device))
        answer = without_margins(made[0], seen, model.family.scale(model.config))
        rgb = view.to_rgb(answer, seen, picture.rgb)
        content = images.encode(Picture(rgb, None, picture.format), format)
        return Response(content, media_type=f"image/{format}")

    return app


async def _read(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_read)]


def to_batch(seen: Pixels, view: View, rule: SizeRule) -> Tensor:
    """Turn what a view shows, uint8 (H, W, 3), into a batch of one, mirrored to fit `rule`."""
    return view.to_tensor(rule.pad(seen))[None]


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", help="NAME=FILE.safetensors")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pairs = (file.split("=", 1) for file in options.files)
    files = {name: Path(path) for name, path in pairs}
    app = create_app(files, torch.device(options.device))
    uvicorn.run(app, port=options.port, access_log=False)


if __name__ == "__main__":
    _main()
