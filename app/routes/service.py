"""Liveness, readiness and metrics."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.accounts import current_account
from app.callers import Caller
from app.deps import Admin, AnyKey, JobsDep, ServiceDep
from app.errors import JobsUnavailable, NotReady, StorageFull
from app.schemas.problems import problems
from app.schemas.service import Readiness, ServiceLimits

router = APIRouter(tags=["service"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model_exclude_unset=True, responses=problems(503))
async def readyz(request: Request, service: ServiceDep) -> Readiness:
    """Every model is loaded and warmed up; 503 until then. `failed` names those left out.

    Where keys are asked for, only one with the scope admin is told more than the status.
    """
    catalog = service.catalog
    if not catalog.ready:
        raise NotReady("the models are being loaded", retry_after_s=5)
    caller: Caller | None = request.scope.get("caller")
    if caller is None or not caller.sees_all:
        return Readiness(status="ready")
    return Readiness(
        status="ready",
        device=str(service.device),
        models=[model.label for model in catalog.models(caller)],
        failed=catalog.failed,
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(service: ServiceDep, jobs: JobsDep, _caller: Admin) -> Response:
    """Prometheus' text format."""
    gauge = service.metrics.jobs
    try:
        for state, count in (await asyncio.to_thread(jobs.count)).items():
            gauge.labels(state).set(count)
    except (JobsUnavailable, StorageFull):  # the others are told all the same
        gauge.clear()
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/limits")
async def limits(service: ServiceDep, _caller: AnyKey) -> ServiceLimits:
    """The largest uploads, pictures and answers, and what the asking key may have in a minute."""
    account = current_account()
    own = {
        "requests_per_minute": account.requests_per_minute,
        "compute_s_per_minute": account.compute_s_per_minute,
    }
    return ServiceLimits.model_validate(service.settings, from_attributes=True).model_copy(
        update=own
    )
