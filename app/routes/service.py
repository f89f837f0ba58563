"""Liveness, readiness and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.deps import ServiceDep
from app.errors import NotReady
from app.schemas import problems

router = APIRouter(tags=["service"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses=problems(503))
async def readyz(service: ServiceDep) -> dict[str, object]:
    """Every model is loaded and warmed up; 503 until then. `failed` names those left out."""
    catalog = service.catalog
    if not catalog.ready:
        raise NotReady("the models are being loaded", retry_after_s=5)
    return {
        "status": "ready",
        "device": str(service.device),
        "models": [model.label for model in catalog.models()],
        "failed": catalog.failed,
    }


@router.get("/metrics", response_class=Response)
async def metrics(service: ServiceDep) -> Response:
    """Prometheus' text format."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
