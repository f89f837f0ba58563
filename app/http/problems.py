"""How every error of the project looks over HTTP.

Answers are RFC 9457 problems (`application/problem+json`) whose `code` is stable: clients may
branch on it (`app.error_codes`). The texts of AnamorphErrors are written to be shown; any other
exception is an internal error, whose text stays in the log.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app import errors
from app.error_codes import OUT_OF_MEMORY, Kind, kind_of
from app.http.paths import routes_at
from app.http.problem_response import ProblemResponse
from models import errors as model_errors
from models.errors import AnamorphError

_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
_HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}


def problem(kind: Kind, detail: str | None = None, **members: Any) -> JSONResponse:
    """Build an RFC 9457 answer; `members` are its extension members."""
    body = {"type": "about:blank", "title": kind.title, "status": kind.status, "code": kind.code}
    if detail:
        body["detail"] = detail
    return ProblemResponse(body | members, kind.status)


def problem_of(error: AnamorphError) -> JSONResponse:
    """Build the answer for an error of the project's own tree."""
    members: dict[str, Any] = {}
    if isinstance(error, errors.InvalidParameter) and error.faults:
        members["errors"] = error.faults
    if isinstance(error, model_errors.InvalidRecipe) and (named := _keys_at_fault(error.faults)):
        members["errors"] = named
    if isinstance(error, model_errors.GateRefused):
        members["verdict"] = error.verdict
    if isinstance(error, errors.RateLimited):
        members["violated-policies"] = [error.policy]
    response = problem(kind_of(error), str(error), **members)
    if isinstance(error, errors.Busy):
        response.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, errors.UploadTimeout):  # the rest of the body would be the next request
        response.headers["Connection"] = "close"
    if isinstance(error, errors.Unauthenticated | errors.ScopeMissing):
        response.headers["WWW-Authenticate"] = error.challenge
    return response


def _keys_at_fault(faults: Sequence[str]) -> list[dict[str, str]]:
    """Split texts like "table.key: what is wrong", also of several keys, where they are such."""
    return [
        {"field": key, "message": text}
        for keys, colon, text in (fault.partition(": ") for fault in faults)
        for key in keys.split(", ")
        if colon and _KEY.fullmatch(key)
    ]


def install(app: FastAPI) -> None:
    """Make every error of `app`'s routes a problem; unexpected ones are left to the middleware."""

    @app.exception_handler(AnamorphError)
    async def _own(request: Request, error: AnamorphError) -> JSONResponse:
        return problem_of(error)

    @app.exception_handler(RequestValidationError)
    async def _request_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem_of(errors.InvalidParameter.of(list(error.errors())))

    @app.exception_handler(ClientDisconnect)
    async def _left(request: Request, error: ClientDisconnect) -> JSONResponse:
        return problem_of(errors.ClientLeft("the client closed the connection"))

    @app.exception_handler(OSError)
    async def _disk(request: Request, error: OSError) -> JSONResponse:
        if full := errors.StorageFull.of(error):
            return problem_of(full)
        raise error

    @app.exception_handler(MemoryError)
    @app.exception_handler(torch.OutOfMemoryError)
    async def _memory(request: Request, error: Exception) -> JSONResponse:
        response = problem(OUT_OF_MEMORY, "try again later, or with a smaller picture")
        response.headers["Retry-After"] = "5"
        return response

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        status = error.status_code
        kind = Kind(status, _HTTP_CODES.get(status, f"http_{status}"), HTTPStatus(status).phrase)
        response = problem(kind)
        response.headers.update(error.headers or {})
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = ", ".join(sorted(_methods_at(request)))
        return response


def _methods_at(request: Request) -> set[str]:
    """Return what all routes of the path take; Starlette tells those of the first alone."""
    methods = {method for route in routes_at(request.scope) for method in route.methods or ()}
    return methods | ({"HEAD"} if "GET" in methods else set())
