"""Numbers of a JSON body, which are nothing else."""

from __future__ import annotations

from typing import Any

from pydantic import BeforeValidator


def _a_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("a number is expected")
    return value


NUMBER = BeforeValidator(_a_number)
"""After the bounds, `Annotated[int, Field(ge=1), NUMBER]`, or the description lacks them.

Of an int it takes 2.0 too, which is whole in JSON Schema, but neither true nor "2".
"""
