"""Ending long work in good order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def stop_signal(*, patient: bool = False) -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; the second acts as ever.

    With `patient` all others are ignored: somebody else sees to it that the process ends. For the
    main thread, which alone may handle signals.
    """
    asked = threading.Event()

    def ask(number: int, _frame: object) -> None:
        asked.set()
        signal.signal(number, signal.SIG_IGN if patient else previous[number])

    previous = {int(n): signal.signal(n, ask) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
