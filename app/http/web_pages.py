"""Which web pages may drive a service without keys: its own, and those it is told of.

Every page in a browser reaches what its machine reaches. One of another site may send forms there
without being asked whether it may (CSRF); one whose site's name is made to point to this machine
may even read the answers, being of the same origin (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import ForeignPage, WrongHost
from app.http.problems import problem_of

_SAFE = {"GET", "HEAD", "OPTIONS"}  # change nothing, and no other site's page may read the answer
_PORT = re.compile(r":\d*$")


class RefuseForeignPages:
    """Refuses what pages of other sites ask for; for a service without keys, which no page knows.

    `origins` may ask all the same. No name is answered to that DNS may give to anyone, but for the
    service's own, `hosts`, in lower case.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], hosts: Collection[str]) -> None:
        self.app = app
        self.origins = origins
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope["method"], Headers(scope=scope))
            except (WrongHost, ForeignPage) as error:
                await problem_of(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, method: str, headers: Headers) -> None:
        host = _PORT.sub("", headers.get("host", "").lower()).strip("[]")
        if host not in self.hosts and _is_anyones(host):
            raise WrongHost(
                "without keys the service answers as localhost, by its address, by a name without "
                "a dot and by those in hosts; behind a proxy set require_keys"
            )
        if method not in _SAFE and self._is_foreign(headers):
            raise ForeignPage(
                "without keys only the service's own pages, and those of cors_origins, may ask for "
                "this from a browser"
            )

    def _is_foreign(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin in self.origins:
            return False
        # "same-site" is another program's page: every port of localhost is one site.
        if site := headers.get("sec-fetch-site"):
            return site not in ("same-origin", "none")
        # By plain HTTP browsers tell no site, but on loopback. What is no browser tells neither.
        return origin is not None and origin.partition("://")[2] != headers.get("host")


def _is_anyones(name: str) -> bool:
    if "." not in name or name.endswith(".localhost"):
        return False  # no public DNS has such names: localhost, this machine's, a test's
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False
