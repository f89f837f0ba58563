"""The ASGI app."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from app.accounts import Account
from app.http import problems
from app.http.access import HEADER, AskForKey, open_keys
from app.http.bodies import BodyLimits, LimitBodies
from app.http.middleware import (
    AnswerHead,
    Observe,
    RefuseTwoLengths,
    RefuseWhileStopping,
    TellFailures,
)
from app.http.openapi import complete
from app.http.rate_limits import LimitRates
from app.http.web_pages import RefuseForeignPages
from app.installation import code_version
from app.logs import configure_logs
from app.retraining.jobs import Jobs
from app.routes import (
    anonymizing,
    datasets,
    docs,
    edits,
    images,
    models,
    page,
    restoring,
    service,
    training,
)
from app.service import Service
from app.settings import Settings

_MAX_JSON_BYTES = 256 * 1024
"""It is parsed on the event loop, into much memory, before the caller's scope is known."""
_CORS_ASKED = [
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "X-Passcode",
    "X-Request-ID",
    HEADER,
]
_CORS_TOLD = [
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Server-Timing",
    "X-Compute",
    "X-Faces",
    "X-Faces-Uncertain",
    "X-Method",
    "X-Model",
    "X-Request-ID",
    "X-Restored",
    "X-Sealed",
    "X-Weights-SHA256",
]


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Complete what FastAPI describes."""
        return complete(super().openapi())


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the app; its lifespan loads every promoted model, in the background.

    It answers at once; `/readyz` tells when all models are there.
    """
    settings = settings or Settings()
    if not structlog.is_configured():
        configure_logs(settings.log_level)
    keys = open_keys(settings)
    running = Service(settings)
    jobs = Jobs(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running.start()
        yield
        app.state.leaving.set()
        await running.close()
        await asyncio.to_thread(jobs.close)

    app = _App(
        title="Anamorph",
        version=code_version(),
        description=docs.DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = running
    app.state.jobs = jobs
    app.state.leaving = threading.Event()  # set when the server is told to stop: streams end
    problems.install(app)
    for module in (
        images,
        anonymizing,
        restoring,
        edits,
        models,
        datasets,
        training,
        service,
        docs,
        page,
    ):
        app.include_router(module.router)
    of_json = BodyLimits("of JSON", _MAX_JSON_BYTES, settings.upload_timeout_s)
    body_limits = {
        "": BodyLimits("max_upload_bytes", settings.max_upload_bytes),
        datasets.PATH: BodyLimits("max_dataset_bytes", settings.max_dataset_bytes),
        training.router.prefix: of_json,
        models.router.prefix: of_json,
    }
    app.add_middleware(AnswerHead)
    app.add_middleware(LimitBodies, limits=body_limits)
    app.add_middleware(LimitRates, rates=running.rates)
    limits = Account("", settings.requests_per_minute, settings.compute_s_per_minute)
    app.add_middleware(AskForKey, keys=keys, limits=limits)
    origins = settings.cors_origins.split(",") if settings.cors_origins else []
    if keys is None:
        hosts = settings.hosts.lower().split(",")
        app.add_middleware(RefuseForeignPages, origins=origins, hosts=hosts)
    app.add_middleware(RefuseWhileStopping, leaving=app.state.leaving)
    app.add_middleware(RefuseTwoLengths)
    app.add_middleware(TellFailures)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=_CORS_ASKED,
            expose_headers=_CORS_TOLD,
        )
    app.add_middleware(Observe, metrics=running.metrics)
    return app
