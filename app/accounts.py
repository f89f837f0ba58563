"""For whom work is done: told once, at the door, to whatever counts it or shares it out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """Whose requests are counted together, and how much they may have a minute; None: no limit.

    `name` is a key's id, or the client's address where nobody is asked for a key: on loopback that
    is one for all. It is empty for the command line.
    """

    name: str = ""
    requests_per_minute: int | None = None
    compute_s_per_minute: int | None = None


_COMMAND_LINE = Account()
# Of the request that a task belongs to; what it starts has it, too.
_current: ContextVar[Account] = ContextVar("account", default=_COMMAND_LINE)


def current_account() -> Account:
    """Return the account that the running task works for."""
    return _current.get()


@contextlib.contextmanager
def on_account(account: Account) -> Iterator[None]:
    """While inside, work for `account`."""
    token = _current.set(account)
    try:
        yield
    finally:
        _current.reset(token)
