"""Memory foreseen: what a picture will take on its way, by what its header says."""

from __future__ import annotations

from models.images import Format

_RGB_BYTES = 3
_CANVAS_BYTES = 4  # of an answer, so that Pillow writes it as JPEG without a copy
_TENSOR_BYTES = 12  # of three channels, as float32
_PILLOW_BYTES = 4

# Beside an answer's own pixels, what writing each of them takes at most, opaque and transparent:
# Pillow's copies, the encoder's own and the file. Measured on noise at the best quality, but for
# JPEG, of which noise is no photograph; and for PNG a file more, the one that its growing buffer
# leaves behind where the heap has no room to extend it.
_ENCODING_BYTES: dict[Format, tuple[int, int]] = {
    "png": (11, 14),
    "jpeg": (3, 9),
    "webp": (15, 44),
    "avif": (34, 41),
    "gif": (47, 47),
    "tiff": (16, 19),
}


def encoding_bytes(pixels: int, answer_format: Format, *, transparent: bool) -> int:
    """Return what encoding an answer of so many pixels takes beside them."""
    return pixels * _ENCODING_BYTES[answer_format][transparent]


def generating_bytes(
    seen: int,
    made: int,
    answered: int,
    answer_format: Format,
    *,
    transparent: bool,
    margins: int = 0,
) -> int:
    """Return what a picture takes of which a network makes an answer.

    These are the input's and the answer's pixels, and either the network's input or encoding.

    Args:
        seen: pixels of the input.
        made: those that the network makes of them.
        answered: those that are sent; where they are fewer, what was made is reduced to them.
        answer_format: what is sent.
        transparent: whether there is alpha.
        margins: pixels that the network is shown beside the input's; most of a thin picture.
    """
    encoding = encoding_bytes(answered, answer_format, transparent=transparent)
    if answered < made:
        encoding += made * _PILLOW_BYTES + answered * _RGB_BYTES
    tensor = (seen + margins) * _TENSOR_BYTES
    return seen * _RGB_BYTES + made * _CANVAS_BYTES + max(tensor, encoding)
