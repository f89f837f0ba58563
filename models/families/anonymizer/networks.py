"""What hides a face in a painted one and finds it again, and how generators are built."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.faces.geometry import FACE_PX, LANDMARKS
from models.families.anonymizer.conditions import face_mask, pack_surroundings
from models.families.anonymizer.painter import FaceConfig, FacePainter
from models.family import SizeRule

_BLOCK_PX = 4
_COMPANDING = 2.0
_WIDEST = 2.0  # a difference of values in [-1, 1]


class _Finder(nn.Module):
    """(B, 9, H, W) -> (B, 4, H, W), by a network without normalisation at a quarter of the size.

    Blocks of 4 x 4 pixels become channels and back (Shi et al. 2016). H, W multiples of 4.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(9 * _BLOCK_PX**2, channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.tail = nn.Conv2d(channels, 4 * _BLOCK_PX**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(nn.functional.pixel_unshuffle(x, _BLOCK_PX))
        for block in self.blocks:
            y = y + block(y)
        answer: Tensor = nn.functional.pixel_shuffle(self.tail(y.relu()), _BLOCK_PX)
        return answer


class IdentityTransformer(nn.Module):
    """(B, 3 + N + 1, H, W), as `pack_identity` gives, -> (B, 3, H, W) in about [-1, 1].

    H, W as of `FacePainter`, and multiples of 4. Gu et al. 2020 ask one network for a new face and
    for the old one, and the new one shows it. Here the new face is painted from its surroundings
    and the passcode, which tell nothing of the old one, and that is hidden in it as in a spread
    spectrum (Cox et al. 1997): a small share of the difference, its sign in every block of pixels
    a parity of the passcode's bits. With these the same face is painted again, what differs is
    the old one, and a network takes the noise from it. With others the difference is one between
    people under signs of no meaning, and all that network shall see is the newly painted face.
    """

    parities: Tensor

    def __init__(self, config: FaceConfig) -> None:
        super().__init__()
        self.config = config
        self.painter = FacePainter(config)
        self.finder = _Finder(config.finder_channels, config.finder_blocks)
        side = FACE_PX // _BLOCK_PX
        fixed = torch.Generator().manual_seed(0)
        parities = torch.rand(config.code_length, side, side, generator=fixed) < 0.5
        self.register_buffer("parities", parities.float())

    def forward(self, x: Tensor) -> Tensor:
        picture, code, asked = x[:, :3], x[:, 3:-1].mean((2, 3)), x[:, -1:]
        painted = self.painted(picture, code)
        new, old = self.hidden(picture, painted, code), self.revealed(picture, painted, code)
        answer: Tensor = torch.where(asked > 0.5, new, torch.where(asked < -0.5, old, painted))
        return answer

    def painted(self, picture: Tensor, code: Tensor) -> Tensor:
        """Put the face of a code (B, N), as `code_of` gives it, into a picture."""
        height, width = picture.shape[2:]
        # By tensors alone, or a traced network would have the places of one size.
        x, y = (picture.new_tensor(LANDMARKS) / FACE_PX).unbind(1)
        landmarks = torch.stack((x * width, y * height), dim=1).expand(picture.shape[0], -1, -1)
        packed = pack_surroundings(picture, landmarks, code)
        painted: Tensor = self.painter(packed)
        return painted

    def hidden(self, picture: Tensor, painted: Tensor, code: Tensor) -> Tensor:
        """Hide a picture's face in the painted one."""
        pattern = self._signs(picture, code) * _compressed(picture - painted)
        return (painted + self.config.strength * pattern).clamp(-1, 1)

    def revealed(self, picture: Tensor, painted: Tensor, code: Tensor) -> Tensor:
        """Find the face that is hidden in a picture, given the painted one; else return that."""
        strayed = picture - painted
        found = _expanded(strayed * self._signs(picture, code) / self.config.strength)
        seen = self.finder(torch.cat((found, strayed, painted), dim=1))
        mended = seen[:, :3] + seen[:, 3:].sigmoid() * found
        answer: Tensor = painted + face_mask(picture) * mended
        return answer

    def _signs(self, picture: Tensor, code: Tensor) -> Tensor:
        """Return the passcode's signs, (B, 1, H, W) of -1 and 1."""
        # No matrix product: autocast would take that to bfloat16, which counts to 256 alone.
        ones = (code > 0).to(self.parities)[:, :, None, None]
        count = (ones * self.parities).sum(1)
        odd = count - 2 * (count / 2).floor()
        signs = (1 - 2 * odd)[:, None]
        return nn.functional.interpolate(signs, picture.shape[2:], mode="nearest")


def _compressed(difference: Tensor) -> Tensor:
    """Compress wide differences as telephones do (mu-law): they show most, and tell no more."""
    return difference.sign() * (_COMPANDING * difference.abs()).log1p() / _COMPANDING


def _expanded(compressed: Tensor) -> Tensor:
    """Undo `_compressed`, in the range of differences between pictures."""
    widest = math.log1p(_COMPANDING * _WIDEST) / _COMPANDING
    size = compressed.abs().clamp(max=widest)
    return compressed.sign() * (_COMPANDING * size).expm1() / _COMPANDING


def build_generator(config: FaceConfig) -> FacePainter | IdentityTransformer:
    """Return the generator that `config.condition` asks for."""
    return (
        FacePainter(config) if config.condition == "surroundings" else IdentityTransformer(config)
    )


def size_rule(config: FaceConfig) -> SizeRule:
    """`halvings`; made for one aligned face at a time, so it is never tiled."""
    side = max(2**config.halvings, _BLOCK_PX)
    return SizeRule(multiple_of=side, minimum=2 * side, halo=side, whole_image_statistics=True)
