"""What pydantic found wrong, in a line for people."""

from __future__ import annotations

from pydantic import ValidationError


def faults_of(error: ValidationError, *tables: str) -> list[str]:
    """Return "table.key: what is wrong" of each fault; one of the whole says where in its text."""
    faults = []
    for item in error.errors():
        key = ".".join(map(str, (*tables, *item["loc"])))
        text = item["msg"].removeprefix("Value error, ")
        faults.append(f"{key}: {text}" if key else text)
    return faults
