"""MTCNN (Zhang et al. 2016) with the networks and weights of facenet-pytorch.

Its own `detect` reduces the whole picture anew for each size of faces, cuts out candidates one by
one and fails on candidates outside the picture; the cascade here does neither and costs a third.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.faces.detection import LOWEST, MIN_FACE_PX, Box, Detector, Face
from models.images import Pixels

_CELL_PX, _STRIDE_PX = 12, 2  # what the proposing network sees at a time
_STEP = 0.709  # from one size of faces to the next
_PROPOSED, _REFINED = 0.6, 0.7  # confidences that pass the first two networks
_BORDER_PX = 32  # of grey around the picture, so that faces which its border cuts are found
_BATCH = 128


class MTCNN(Detector):
    """Three networks: one proposes boxes, one refines them, one adds landmarks."""

    def __init__(self, device: torch.device) -> None:
        from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
        from torchvision.ops import nms, roi_align

        self._device = device
        self._nms, self._roi_align = nms, roi_align
        self._propose, self._refine, self._output = (
            cast("nn.Module", network().eval().requires_grad_(False).to(device))
            for network in (PNet, RNet, ONet)
        )

    @torch.inference_mode()
    def look(self, rgb: Pixels) -> list[Face]:
        pixels = torch.from_numpy(rgb).to(self._device).permute(2, 0, 1)[None].float()
        picture = nn.functional.pad((pixels - 127.5) / 128, [_BORDER_PX] * 4)
        boxes = self._proposals(picture)
        boxes, scores, _ = self._judged(self._refine, picture, boxes, 24, _REFINED)
        boxes = boxes[self._nms(boxes, scores, 0.7)]
        boxes, scores, landmarks = self._judged(self._output, picture, boxes, 48, LOWEST)
        kept = self._nms(boxes, scores, 0.7)
        return [
            Face(cast("Box", tuple(box)), np.array(points), score)
            for box, points, score in zip(
                (boxes[kept] - _BORDER_PX).double().tolist(),
                (landmarks[kept] - _BORDER_PX).double().tolist(),
                scores[kept].double().tolist(),
                strict=True,
            )
        ]

    def _proposals(self, picture: Tensor) -> Tensor:
        """Return boxes (N, 4) that may hold faces of any size from MIN_FACE_PX."""
        height, width = picture.shape[2:]
        scale = _CELL_PX / MIN_FACE_PX
        levels: list[Tensor] = []
        found = [torch.zeros(0, 5, device=self._device)]
        while min(height, width) * scale >= _CELL_PX:
            size = (int(height * scale) + 1, int(width * scale) + 1)
            source = levels[-2] if len(levels) > 1 else picture  # twice as large
            levels.append(nn.functional.interpolate(source, size, mode="area"))
            found.append(self._proposals_of(levels[-1], scale))
            scale *= _STEP
        boxes = torch.cat(found)
        return boxes[self._nms(boxes[:, :4], boxes[:, 4], 0.7), :4]

    def _proposals_of(self, level: Tensor, scale: float) -> Tensor:
        """Return boxes (N, 5) and confidences of one size of faces."""
        shifts, scores = self._propose(level)
        rows, columns = (scores[0, 1] >= _PROPOSED).nonzero().unbind(1)
        corner = torch.stack((columns, rows), dim=1) * _STRIDE_PX
        boxes = torch.cat((corner, corner + _CELL_PX), dim=1) / scale
        boxes = boxes + shifts[0, :, rows, columns].T * (_CELL_PX / scale)
        found = torch.cat((boxes, scores[0, 1, rows, columns, None]), dim=1)
        return found[self._nms(found[:, :4], found[:, 4], 0.5)]

    def _judged(
        self, network: nn.Module, picture: Tensor, boxes: Tensor, size_px: int, threshold: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the boxes (N, 4) that pass, corrected, with scores (N,) and landmarks (N, 5, 2).

        Landmarks are there if the network has any.
        """
        if not len(boxes):
            return boxes, boxes[:, 0], boxes.new_zeros(0, 5, 2)
        boxes = _squares(boxes)
        answers = [
            self._answers(network, picture, part, size_px) for part in torch.split(boxes, _BATCH)
        ]
        shifts, scores, landmarks = (torch.cat(column) for column in zip(*answers, strict=True))
        passed = scores > threshold
        boxes, shifts, landmarks = boxes[passed], shifts[passed], landmarks[passed]
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        points = (
            landmarks.view(len(landmarks), 2, landmarks.shape[1] // 2).mT * sides[:, None, :2]
            + boxes[:, None, :2]
        )
        return boxes + shifts * sides, scores[passed], points

    def _answers(
        self, network: nn.Module, picture: Tensor, boxes: Tensor, size_px: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        crops = self._roi_align(picture, [boxes], size_px, aligned=True)
        shifts, *landmarks, scores = cast("tuple[Any, ...]", network(crops))
        return shifts, scores[:, 1], landmarks[0] if landmarks else shifts[:, :0]


def _squares(boxes: Tensor) -> Tensor:
    """Enlarge boxes (N, 4) to squares with the same centres."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True) / 2
    return torch.cat((centres - halves, centres + halves), dim=1)
