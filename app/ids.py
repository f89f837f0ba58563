"""Ids of datasets and jobs: 128 bits, in hexadecimal."""

from __future__ import annotations

import re

_ID = re.compile("[0-9a-f]{32}")


def is_id(text: str) -> bool:
    """Tell whether a text can be an id, and so the name of its folder."""
    return _ID.fullmatch(text) is not None
