"""Limits by the minute at the door, and what the answers tell of them."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import RateLimited
from app.http.paths import path_of
from app.http.problems import problem_of
from app.rates import Rates


class LimitRates:
    """Counts the requests of the API, refuses those beyond an account's limits, and tells them."""

    def __init__(self, app: ASGIApp, rates: Rates) -> None:
        self.app = app
        self.rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        limited = path.startswith("/v1/") and self.rates.limited()
        if scope["type"] != "http" or not limited:
            await self.app(scope, receive, send)
            return

        async def telling_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.rates.headers())
            await send(message)

        try:
            self.rates.count_request()
        except RateLimited as error:
            await problem_of(error)(scope, receive, telling_send)
            return
        await self.app(scope, receive, telling_send)
