"""What the face generators are given beside or instead of a face, as planes of one tensor."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

from models.faces.geometry import CENTRE_PX, FACE_PX, RADII_PX

_LANDMARK_PX = 3.0  # standard deviation of a landmark's spot
_REACH = 1.9


class Asked(Enum):
    """What a generator with a passcode is to do: paint a new face and hide the old one in it.

    `PAINTED` is the new face with nothing in it, `OLD` the one that was hidden.
    """

    NEW = 1.0
    PAINTED = 0.0
    OLD = -1.0


def pack_identity(faces: Tensor, bits: Tensor, asked: Asked = Asked.NEW) -> Tensor:
    """Join faces, the bits of their passcodes and what is asked for: (B, 3 + N + 1, H, W).

    Args:
        faces: (B, 3, H, W) in [-1, 1].
        bits: (B, N) bools.
        asked: the same of all.
    """
    plane = torch.full_like(faces[:, :1], asked.value)
    return torch.cat((faces, _planes(code_of(bits, faces), faces), plane), dim=1)


def code_of(bits: Tensor, faces: Tensor) -> Tensor:
    """(B, N) bools -> a code of `faces`' type, a sign for each bit.

    It is longer than the codes of people, so that faces of nobody lie further from the mean face
    and from each other (a truncation above 1, Karras et al. 2019).
    """
    return (bits.to(faces) * 2 - 1) * _REACH


def pack_surroundings(faces: Tensor, landmarks: Tensor, code: Tensor) -> Tensor:
    """Join what surrounds aligned faces, a mask, landmarks and code: (B, 9 + N, 128, 128).

    The face's own pixels, all inside `face_mask`, are erased: what the generator never sees it
    cannot tell.

    Args:
        faces: (B, 3, 128, 128) in [-1, 1].
        landmarks: (B, 5, 2), x and y in pixels of the crop.
        code: (B, N), of `code_of`, or of a person in training.
    """
    spots = _spots(landmarks.to(faces), faces)
    return torch.cat((erased(faces), spots, _planes(code.to(faces), faces)), dim=1)


def erased(faces: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 4, H, W): without what `face_mask` covers, and that mask."""
    mask = face_mask(faces)
    return torch.cat((faces * (1 - mask), mask.expand(faces.shape[0], -1, -1, -1)), dim=1)


def face_mask(faces: Tensor, reach: float = 1.0) -> Tensor:
    """Return (1, 1, H, W), 1 where an aligned face is and 0 around it, of `faces`' type.

    `reach` scales the ellipse.
    """
    return (radius(faces) <= reach).to(faces)[None, None]


def radius(faces: Tensor) -> Tensor:
    """(H, W): how far each pixel is from the face's centre; 1 on the ellipse around it.

    H and W may differ from the 128 px for which its place is known.
    """
    height, width = faces.shape[2:]
    y, x = _grid(faces)
    (cx, cy), (rx, ry) = CENTRE_PX, RADII_PX
    across, down = (x * (FACE_PX / width) - cx) / rx, (y * (FACE_PX / height) - cy) / ry
    return (across.square() + down.square()).sqrt()


def _planes(code: Tensor, faces: Tensor) -> Tensor:
    """(B, N) -> (B, N, H, W)."""
    return code[:, :, None, None].expand(-1, -1, *faces.shape[2:])


def _spots(landmarks: Tensor, faces: Tensor) -> Tensor:
    """(B, 5, 2) -> (B, 5, H, W), a Gaussian spot of height 1 at each."""
    y, x = _grid(faces)
    dx = x - landmarks[..., 0, None, None]
    dy = y - landmarks[..., 1, None, None]
    return torch.exp(-(dx.square() + dy.square()) / (2 * _LANDMARK_PX**2))


def _grid(faces: Tensor) -> tuple[Tensor, Tensor]:
    height, width = faces.shape[2:]
    y = torch.arange(height, device=faces.device, dtype=torch.float32)[:, None]
    x = torch.arange(width, device=faces.device, dtype=torch.float32)[None]
    return y, x
