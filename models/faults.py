"""What pydantic found wrong, in a line for people."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError


def faults_of(error: ValidationError, *tables: str) -> list[str]:
    """Return "table.key: what is wrong" of each fault; one of the whole says where in its text."""
    faults = []
    for item in error.errors():
        key = ".".join(map(str, (*tables, *item["loc"])))
        text = text_of(item)
        faults.append(f"{key}: {text}" if key else text)
    return faults


def text_of(item: Any) -> str:
    """Return what one of pydantic's errors says, as whoever raised it put it."""
    return str(item["msg"]).removeprefix("Value error, ")
