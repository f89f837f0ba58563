"""Numbers of a JSON body, which are nothing else."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator


def _a_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("a number is expected")
    return value


Whole = Annotated[int, BeforeValidator(_a_number)]
"""Also 2.0, which is whole in JSON Schema, but neither true nor "2"."""
Real = Annotated[float, BeforeValidator(_a_number)]
