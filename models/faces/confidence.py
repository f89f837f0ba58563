"""How sure MTCNN is that an aligned face is one (Zhang et al. 2016): frozen, for training."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from models.faces.geometry import BOX, FACE_PX
from models.faces.windows import window_of

_REFINE_PX, _OUTPUT_PX = 24, 48  # what the cascade's second and third networks see
_JITTER = 0.08  # of the box: proposals never lie exactly
_BORDER_PX = 35  # how far a picture's border reaches into the square at most


class FaceConfidence(nn.Module):
    """(B, 3, 128, 128) aligned faces in [-1, 1] -> (2 B,) probabilities of the last two networks.

    They see the square around the face's box, moved and scaled at random, and around every second
    face a picture's borders, beyond which a detector sees grey. The weights come with
    facenet-pytorch; gradients flow to the face.
    """

    def __init__(self) -> None:
        super().__init__()
        from facenet_pytorch.models.mtcnn import ONet, RNet

        self.refine, self.output = cast("nn.Module", RNet()), cast("nn.Module", ONet())
        self.requires_grad_(False)
        self.eval()

    def forward(self, faces: Tensor) -> Tensor:
        count, device = len(faces), faces.device
        left, top, right, bottom = BOX
        side = max(right - left, bottom - top)
        shift = (torch.rand(count, 2, device=device) * 2 - 1) * _JITTER
        half = side * (1 + (torch.rand(count, device=device) * 2 - 1) * _JITTER) / FACE_PX
        x = (left + right + side * shift[:, 0]) / FACE_PX - 1
        y = (top + bottom + side * shift[:, 1]) / FACE_PX - 1
        zero = torch.zeros_like(half)
        window = torch.stack((half, zero, x, zero, half, y), dim=1).view(count, 2, 3)
        seen = window_of(_bordered(faces.float()), window, 2 * _OUTPUT_PX, "border")
        confidences = [
            network(nn.functional.adaptive_avg_pool2d(seen, side_px))[-1][:, 1]
            for network, side_px in ((self.refine, _REFINE_PX), (self.output, _OUTPUT_PX))
        ]
        return torch.cat(confidences)


def _bordered(faces: Tensor) -> Tensor:
    """Show every second face as in a tight portrait, whose borders are drawn at random."""
    count, _, height, width = faces.shape
    some = torch.arange(count, device=faces.device) % 2 == 1
    drawn = torch.rand(4, count, 1, device=faces.device)
    left, right, top, bottom = drawn * _BORDER_PX * some[:, None]
    y, x = (torch.arange(side, device=faces.device) for side in (height, width))
    across = (x >= left) & (x < width - right)
    down = (y >= top) & (y < height - bottom)
    inside = down[:, None, :, None] & across[:, None, None, :]
    return torch.where(inside, faces, 0.0)
