"""Which form of the answer the Accept header prefers (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from typing import get_args

from app.errors import NotAcceptable
from models.images import Format

_FORMATS: tuple[Format, ...] = get_args(Format)


class Accept:
    """A parsed Accept header.

    `as_json` says that JSON comes first; `choose` gives the picture's format. Raises NotAcceptable
    at construction when nothing here could ever satisfy the header.
    """

    def __init__(self, header: str | None) -> None:
        ranges = [_parse(part) for part in (header or "*/*").split(",")]
        self._named = {kind for kind, _ in ranges}
        wanted = sorted((r for r in ranges if r[1] > 0), key=lambda r: -r[1])
        self._wanted = [(kind, quality) for kind, quality in wanted if self._serves(kind)]
        if not self._wanted:
            raise NotAcceptable(
                f"this endpoint answers image/{', image/'.join(_FORMATS)} and application/json"
            )
        self.as_json = not self._images(self._wanted[0][0])

    def choose(self, input_format: Format) -> Format:
        """Return the input's format where it is among the most wanted, else the most wanted."""
        images = [(self._images(kind), quality) for kind, quality in self._wanted]
        images = [(names, quality) for names, quality in images if names]
        best = [name for names, quality in images if quality == images[0][1] for name in names]
        return input_format if input_format in best or not best else best[0]

    def _serves(self, kind: str) -> bool:
        return self._decides(kind, "application/json") or bool(self._images(kind))

    def _images(self, kind: str) -> list[Format]:
        return [name for name in _FORMATS if self._decides(kind, f"image/{name}")]

    def _decides(self, kind: str, media_type: str) -> bool:
        """Tell whether `kind` is the most specific of the ranges that cover a type."""
        covering = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        return kind == next((each for each in covering if each in self._named), None)


def _parse(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0
    return kind, quality
