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
        self._refused = {kind for kind, quality in ranges if quality == 0}
        wanted = sorted((r for r in ranges if r[1] > 0), key=lambda r: -r[1])
        self._wanted = [(kind, quality) for kind, quality in wanted if self._serves(kind)]
        if not self._wanted:
            raise NotAcceptable(
                f"this endpoint answers image/{', image/'.join(_FORMATS)} and application/json"
            )
        self.as_json = self._wanted[0][0] == "application/json"

    def choose(self, input_format: Format) -> Format:
        """Return the input's format where it is among the most wanted, else the most wanted."""
        images = [(k, q) for k, q in self._wanted if k != "application/json"]
        if not images:
            return input_format
        best = [kind for kind, quality in images if quality == images[0][1]]
        if any(self._matches(kind, input_format) for kind in best):
            return input_format
        return next(name for kind in best for name in _FORMATS if self._matches(kind, name))

    def _serves(self, kind: str) -> bool:
        return kind == "application/json" or any(self._matches(kind, name) for name in _FORMATS)

    def _matches(self, kind: str, name: Format) -> bool:
        return kind in ("*/*", "image/*", f"image/{name}") and f"image/{name}" not in self._refused


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
