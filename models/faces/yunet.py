"""YuNet (Wu et al. 2023) from an ONNX file that its users bring along, run by OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from models import images
from models.faces.detection import LOWEST, Box, Detector, Face
from models.images import Pixels
from models.openvino_core import new_core

_STRIDES_PX = (8, 16, 32)
_SMALL_PX = 320  # longer side of a second look: the network was trained for faces up to 300 pixels


class YuNet(Detector):
    """Anchor-free: each cell of three grids may hold one face.

    The file's input is (1, 3, H, W) BGR in 0..255 with sides that are multiples of 32; its outputs
    are cls, obj, bbox and kps for each stride, with H * W / stride**2 rows.
    """

    def __init__(self, path: Path) -> None:
        self._compiled = new_core().compile_model(str(path), "CPU")

    def look(self, rgb: Pixels) -> list[Face]:
        height, width = rgb.shape[:2]
        scale = _SMALL_PX / max(height, width)
        faces = self._look(rgb, 1.0)
        if scale < 1:
            reduced = images.resize(rgb, round(height * scale) or 1, round(width * scale) or 1)
            faces += self._look(reduced, scale)
        return faces

    def _look(self, rgb: Pixels, scale: float) -> list[Face]:
        """Return the faces of a picture that was reduced by `scale`, in pixels before that."""
        from torchvision.ops import nms

        height, width = rgb.shape[:2]
        framed = np.pad(rgb, ((0, -height % 32), (0, -width % 32), (0, 0)))
        planes = framed[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)
        output = self._compiled(planes)
        found = np.concatenate([_decoded(output, s, framed.shape[1] // s) for s in _STRIDES_PX])
        found = found[found[:, 0] > LOWEST]
        boxes = torch.from_numpy(found[:, 1:5])
        kept = nms(boxes, torch.from_numpy(found[:, 0]), 0.4)
        return [
            Face(cast("Box", tuple(row[1:5].tolist())), row[5:].reshape(5, 2), float(row[0]))
            for row in (found[kept.numpy()] / [1, *[scale] * 14])
        ]


def _decoded(output: Any, stride_px: int, columns: int) -> NDArray[np.float64]:
    """Return one grid's (cells, 15): confidence, box, and x and y of five landmarks in pixels."""
    cls, obj, box, points = (
        output[f"{name}_{stride_px}"][0].astype(np.float64)
        for name in ("cls", "obj", "bbox", "kps")
    )
    cells = np.arange(len(box))
    corner = np.stack((cells % columns, cells // columns), axis=1).astype(np.float64)
    confidence = np.sqrt(cls.clip(0, 1) * obj.clip(0, 1))
    centre, half = corner + box[:, :2], np.exp(box[:, 2:]) / 2
    places = (centre - half, centre + half, points + np.tile(corner, 5))
    return np.concatenate((confidence, *(place * stride_px for place in places)), axis=1)
