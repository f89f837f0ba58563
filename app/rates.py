"""How much an account may ask for in a minute: so many requests, and so much of the device's time.

Each is a bucket that holds a minute's worth and fills evenly, so a burst is free after a pause. A
request costs one; computing costs what the model's pace predicts for the picture's pixels, or what
it took where nothing can be foreseen. It begins while a second is left, and may leave the bucket in
debt: one picture that costs more than a minute's worth is then not refused for ever.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from app.accounts import current_account
from app.errors import RateLimited

WINDOW_S = 60
REQUESTS, COMPUTE = "requests", "compute-seconds"  # the policies' names in the headers
_SLACK = 1e-6  # of a unit: what sums of floats may be off by
_MANY = 1024


class Meter:
    """A bucket for each name. `quota` is what it holds when full; it fills in WINDOW_S."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def left(self, name: str, quota: int) -> float:
        """Return what is in the bucket; negative where it is overdrawn."""
        fills_in_s = max(0.0, self._full_at.get(name, 0.0) - self._clock())
        return quota * (1 - fills_in_s / WINDOW_S)

    def wait_s(self, name: str, quota: int, units: float) -> float:
        """Return the seconds until `units` are in the bucket; 0 if they are."""
        missing = units - self.left(name, quota)
        return missing * WINDOW_S / quota if missing > _SLACK else 0.0

    def spend(self, name: str, quota: int, units: float) -> None:
        """Take `units`, whether they are there or not."""
        now = self._clock()
        if len(self._full_at) >= _MANY:  # full buckets are as good as none
            self._full_at = {n: at for n, at in self._full_at.items() if at > now}
        self._full_at[name] = max(self._full_at.get(name, 0.0), now) + units * WINDOW_S / quota


class Rates:
    """What the accounts of one process have left; a request's account is `current_account`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._meters = {REQUESTS: Meter(clock), COMPUTE: Meter(clock)}

    def count_request(self) -> None:
        """Count one request; raises RateLimited, then it counts for nothing."""
        account = current_account()
        if quota := account.requests_per_minute:
            self._require(REQUESTS, quota)
            self._meters[REQUESTS].spend(account.name, quota, 1)

    def require_compute(self) -> None:
        """Raise RateLimited unless more may be computed now."""
        if quota := current_account().compute_s_per_minute:
            self._require(COMPUTE, quota)

    def charge(self, seconds: float) -> None:
        """Count so much computing."""
        account = current_account()
        if quota := account.compute_s_per_minute:
            self._meters[COMPUTE].spend(account.name, quota, seconds)

    def limited(self) -> bool:
        """Tell whether the account has any limit."""
        return bool(_quotas())

    def headers(self) -> dict[str, str]:
        """Return draft-ietf-httpapi-ratelimit-headers-11's fields; none where nothing is limited.

        `r` is what is left, `t` the seconds until one more is.
        """
        policies, left = [], []
        for policy, quota in _quotas():
            meter, name = self._meters[policy], current_account().name
            units = max(0, math.floor(meter.left(name, quota) + _SLACK))
            policies.append(f'"{policy}";q={quota};w={WINDOW_S}')
            more_s = math.ceil(meter.wait_s(name, quota, units + 1)) if units < quota else 0
            left.append(f'"{policy}";r={units};t={more_s}')
        if not policies:
            return {}
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)}

    def _require(self, policy: str, quota: int) -> None:
        wait_s = self._meters[policy].wait_s(current_account().name, quota, 1)
        if wait_s > 0:
            setting = "requests_per_minute" if policy == REQUESTS else "compute_s_per_minute"
            raise RateLimited(
                f"the limit ({setting}) is {quota:,} {policy} a minute", wait_s, policy
            )


def _quotas() -> list[tuple[str, int]]:
    """The limits of the current account, of those it has."""
    account = current_account()
    quotas = (REQUESTS, account.requests_per_minute), (COMPUTE, account.compute_s_per_minute)
    return [(policy, quota) for policy, quota in quotas if quota is not None]
