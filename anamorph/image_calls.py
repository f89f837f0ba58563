"""The calls that send a picture and get one back. All may be repeated: they change nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import httpx

from anamorph.answers import (
    Anonymized,
    Answer,
    Restored,
    read_anonymized,
    read_answer,
    read_restored,
)
from anamorph.call import Call
from anamorph.pictures import PictureInput, file_bytes

A = TypeVar("A", bound=Answer)
Format = Literal["png", "jpeg", "webp", "avif", "gif", "tiff"]
Method = Literal["generate", "blur", "pixelate", "solid"]
Box = Sequence[float]


def translate(
    image: PictureInput, *, model: str, format: Format | None = None, quality: int | None = None
) -> Call[Answer]:
    """Turn a picture of one domain into one of another, at the same size.

    Args:
        image: a path, the bytes of a file, or a Pillow image, which goes as PNG.
        model: name or name@version.
        format: of the answer; by default the input's.
        quality: 1..100, for jpeg, webp and avif.
    """
    return _call("/v1/translate", image, read_answer, model=model, format=format, quality=quality)


def upscale(
    image: PictureInput,
    *,
    scale: Literal[2, 3, 4] = 4,
    detail: float | None = None,
    model: str | None = None,
    format: Format | None = None,
    quality: int | None = None,
) -> Call[Answer]:
    """Enlarge a picture.

    Args:
        image: as for `translate`.
        scale: times as many pixels on each side.
        detail: 0..1, from nearest to the true pixels to sharpest; by default 0, or what `model` is.
        model: an upscaler by name; by default the best for the scale.
        format: as for `translate`.
        quality: as for `translate`.
    """
    fields: dict[str, Any] = {"scale": scale, "detail": detail, "model": model}
    return _call("/v1/upscale", image, read_answer, **fields, format=format, quality=quality)


def stylize(
    image: PictureInput,
    *,
    style: str,
    strength: float | None = None,
    keep_colors: bool = False,
    format: Format | None = None,
    quality: int | None = None,
) -> Call[Answer]:
    """Paint a picture in a style, at the same size.

    Args:
        image: as for `translate`.
        style: name or name@version of a model.
        strength: 0..1, from the input to the answer; 1 by default.
        keep_colors: the input's colours, the style's brightness.
        format: as for `translate`.
        quality: as for `translate`.
    """
    fields: dict[str, Any] = {
        "style": style,
        "strength": strength,
        "keep_colors": keep_colors or None,
    }
    return _call("/v1/stylize", image, read_answer, **fields, format=format, quality=quality)


def anonymize(
    image: PictureInput,
    *,
    method: Method = "generate",
    passcode: str | None = None,
    faces: Sequence[Box] | None = None,
    allow_no_face: bool = False,
    model: str | None = None,
    format: Format | None = None,
    quality: int | None = None,
) -> Call[Anonymized]:
    """Make every face of a picture into another one.

    Args:
        image: as for `translate`.
        method: generate makes another face; blur and pixelate are weak.
        passcode: 1 to 1,024 characters with which `restore` brings the faces back.
        faces: (left, top, right, bottom) of each in pixels of the upright picture; by default what
            is found.
        allow_no_face: answer a picture without faces, instead of raising NoFace.
        model: a generator by name.
        format: as for `translate`; png, jpeg or webp with a passcode.
        quality: as for `translate`.
    """
    fields: dict[str, Any] = {
        "method": method,
        "passcode": passcode,
        "faces": None if faces is None else json.dumps([list(map(float, box)) for box in faces]),
        "allow_no_face": allow_no_face or None,
        "model": model,
    }
    return _call(
        "/v1/anonymize",
        image,
        read_anonymized,
        accept="application/json",
        **fields,
        format=format,
        quality=quality,
    )


def restore(
    image: PictureInput,
    *,
    passcode: str,
    decoy: bool = False,
    model: str | None = None,
    format: Format | None = None,
    quality: int | None = None,
) -> Call[Restored]:
    """Bring the original faces back. A wrong passcode raises WrongPasscode.

    Args:
        image: as for `translate`, but a Pillow image has lost the seal: send the file.
        passcode: what the picture was anonymized with.
        decoy: answer a wrong passcode with another plausible face, and do not tell which it was.
        model: the generator that the picture was anonymized by, where the seal is lost.
        format: as for `translate`.
        quality: as for `translate`.
    """
    fields: dict[str, Any] = {"passcode": passcode, "decoy": decoy or None, "model": model}
    return _call("/v1/restore", image, read_restored, **fields, format=format, quality=quality)


def _call(
    path: str,
    image: PictureInput,
    read: Callable[[httpx.Response], A],
    *,
    accept: str = "image/*",
    **fields: Any,
) -> Call[A]:
    """Return the call with what is given of `fields`; secrets go in the form, never in the URL."""
    return Call(
        "POST",
        path,
        read,
        headers={"Accept": accept},
        fields={name: _text(value) for name, value in fields.items() if value is not None},
        file=("image", file_bytes(image)),
        repeatable=True,
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
