"""How often passcodes may be tried, in the memory of this process."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from app.errors import TooManyAttempts

_IPV6_PREFIX = 64  # what one household is given


class Attempts:
    """Counts attempts by the minute, for each of the names they are made under."""

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute)
        self._storage = MemoryStorage()
        self._window = FixedWindowRateLimiter(self._storage)

    def take(self, *names: str) -> dict[str, float]:
        """Count one attempt under each name, and return when the minute of each ends.

        Raises TooManyAttempts if one has had its share.
        """
        for name in names:
            if not self._window.test(self._limit, name):
                raise TooManyAttempts(
                    f"at most {self._limit.amount} passcodes a minute are tried for a client and "
                    "for a picture (restore_attempts_per_minute)",
                    retry_after_s=self._ends_at(name) - time.time(),
                )
        for name in names:  # where one is refused, no other has had an attempt
            self._window.hit(self._limit, name)
        return {name: self._ends_at(name) for name in names}

    def give_back(self, taken: Mapping[str, float]) -> None:
        """Let an attempt that succeeded count for nothing, if its minute is not over."""
        for name, ends_at in taken.items():
            if self._ends_at(name) == ends_at > time.time():
                self._storage.decr(self._limit.key_for(name))

    def _ends_at(self, name: str) -> float:
        return self._window.get_window_stats(self._limit, name).reset_time


def client_name(host: str | None) -> str:
    """Return what a client is counted as: its address, of IPv6 the network it can choose from."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:  # a Unix socket, or a test
        return f"client {host}"
    if isinstance(address, ipaddress.IPv4Address):
        return f"client {address}"
    if address.ipv4_mapped:
        return f"client {address.ipv4_mapped}"
    return f"client {ipaddress.IPv6Network((int(address), _IPV6_PREFIX), strict=False)}"
