"""Pure ASGI: bodies are never buffered here, and a client that leaves is seen by the route."""

from __future__ import annotations

import re
import threading
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.error_codes import INTERNAL
from app.errors import NotReady, ServiceError
from app.http.paths import path_of, routes_at
from app.http.problem_response import CODE
from app.http.problems import problem, problem_of
from app.metrics import Metrics

log = structlog.get_logger()

_TO_THE_END = {"/healthz", "/metrics"}
_LENGTHS = {"content-length", "transfer-encoding"}
_BACK_IN_S = 5.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Observe:
    """Request id, security headers, access log and metrics.

    The log holds no query, file name or content: only the route's template and sizes.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        started = time.perf_counter()
        status, sent_bytes = 0, 0

        async def observed_send(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
            elif message["type"] == "http.response.body":
                sent_bytes += len(message.get("body", b""))
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, observed_send)
            finally:
                seconds = time.perf_counter() - started
                route = _template(scope)
                self.metrics.requests.labels(route, str(status)).inc()
                self.metrics.request_seconds.labels(route).observe(seconds)
                code = scope.get(CODE)
                if code:
                    self.metrics.problems.labels(code).inc()
                log.info(
                    "request",
                    method=scope["method"],
                    route=route,
                    status=status,
                    code=code,
                    ms=round(seconds * 1000, 1),
                    sent_bytes=sent_bytes,
                )


def _template(scope: Scope) -> str:
    """Return the template of the path's route, also of a request refused before it was routed."""
    route = scope.get("route") or next(routes_at(scope), None)
    return getattr(route, "path", "unmatched")


class TellFailures:
    """Answers an unforeseen error with a bare 500, which pages of other origins may read, too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def watched_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        except Exception:
            log.exception("request failed")
            if begun:
                raise  # the answer is half sent: only closing the connection tells the client
            request_id = structlog.contextvars.get_contextvars()["request_id"]
            await problem(INTERNAL, request_id=request_id)(scope, receive, send)


class RefuseTwoLengths:
    """Refuses a body whose end two headers tell, and closes the connection (RFC 9112, section 6.1).

    A proxy that went by the other one would take the rest of the body for somebody's next request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not {*Headers(scope=scope)} >= _LENGTHS:
            await self.app(scope, receive, send)
            return
        answer = problem_of(ServiceError(f"send {' or '.join(sorted(_LENGTHS))}, not both"))
        answer.headers["Connection"] = "close"
        await answer(scope, receive, send)


class RefuseWhileStopping:
    """Takes no new work once `leaving` is set: 503, as /readyz says; what is under way goes on."""

    def __init__(self, app: ASGIApp, leaving: threading.Event) -> None:
        self.app = app
        self.leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        if scope["type"] != "http" or not self.leaving.is_set() or path in _TO_THE_END:
            await self.app(scope, receive, send)
            return
        answer = problem_of(NotReady("the service is stopping", retry_after_s=_BACK_IN_S))
        answer.headers["Connection"] = "close"
        await answer(scope, receive, send)


class AnswerHead:
    """Answers HEAD as the routes answer GET, without the content (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_start(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})  # a stream sees that it is over

        as_get = {**scope, "method": "GET"}
        try:
            await self.app(as_get, receive, send_start)
        finally:
            scope.update(as_get, method="HEAD")  # what is around here reads the route and problem
