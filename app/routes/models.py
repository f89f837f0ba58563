"""Which models can be asked for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from app.catalog import Served
from app.deps import ServiceDep
from app.schemas import ModelDetails, ModelSummary, problems

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
async def list_models(service: ServiceDep) -> list[ModelSummary]:
    """Every model that is served, by name."""
    return [ModelSummary(**_summary(model)) for model in service.catalog.models()]


@router.get("/{name}", responses=problems(404, 422, 503))
async def show_model(name: str, service: ServiceDep) -> ModelDetails:
    """One model with its card and where it runs."""
    model = service.catalog.get(name)
    return ModelDetails(
        **_summary(model),
        device=model.engine.device,
        dtype=model.engine.dtype,
        backend=model.engine.backend,
        parameters=model.parameters,
        size_multiple_of=model.rule.multiple_of,
        size_minimum=model.rule.minimum,
        card=model.version.header.card,
    )


def _summary(model: Served) -> dict[str, Any]:
    card = model.version.header.card
    return {
        "name": model.version.name,
        "version": model.version.version,
        "task": model.family.task.value,
        "family": model.family.id,
        "scale": model.scale,
        "sha256": model.sha256,
        "task_note": card.get("task_note"),
        "licence": card.get("licence"),
    }
