"""Which models can be asked for, their versions, and which of these serves."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from app.callers import Caller
from app.deps import AnyKey, ServiceDep, Train
from app.errors import ScopeMissing
from app.keys import Scope
from app.opening import Served
from app.schemas.models import ModelDetails, ModelSummary, Promotion, VersionSummary
from app.schemas.problems import problems
from app.service import Service
from app.visible import check_visible
from models.registry import MAX_VERSION, ModelVersion

Name = Annotated[str, Path(examples=["starry-night"])]

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
async def list_models(service: ServiceDep, caller: AnyKey) -> list[ModelSummary]:
    """Every model that is served, by name."""
    return [ModelSummary(**_summary(model)) for model in service.catalog.models(caller)]


@router.get("/{name}", responses=problems(404, 422, 503))
async def show_model(name: Name, service: ServiceDep, caller: AnyKey) -> ModelDetails:
    """One model with its card and where it runs."""
    model = service.catalog.get(name, caller)
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


@router.get("/{name}/versions", responses=problems(404, 422))
async def list_versions(name: Name, service: ServiceDep, caller: AnyKey) -> list[VersionSummary]:
    """Every version of one model, by number."""
    await asyncio.to_thread(check_visible, service.registry, name, caller)
    versions = await asyncio.to_thread(service.registry.versions, name)
    serving = service.catalog.serving(name)
    return [
        VersionSummary(
            version=version.version,
            sha256=version.sha256,
            promoted=version.promoted,
            serving=serving is not None and serving.version.version == version.version,
            lineage=dict(version.lineage),
            metrics=version.header.card.get("metrics", []),
            gate=dict(version.gate) if version.gate else None,
        )
        for version in versions
    ]


@router.post("/{name}/promote", responses=problems(404, 409, 422, 507))
async def promote(
    name: Name, promotion: Promotion, service: ServiceDep, caller: Train
) -> ModelSummary:
    """Let a version serve; answers once it does, here. Other processes follow shortly after.

    Refused if the version did not pass its comparison with the one that served, unless forced, and
    if it does not load or fails on a test picture, in any case. Requests under way end with the
    version they began with.
    """
    await _check_own(service, name, caller)
    registry = service.registry

    def find() -> ModelVersion:
        version = registry.resolve(f"{name}@{promotion.version}")
        if not promotion.force:
            registry.check_gate(version)
        return version

    record = partial(registry.promote, name, force=promotion.force)
    return ModelSummary(**_summary(await service.catalog.switch(find, record)))


@router.post("/{name}/rollback", responses=problems(404, 422, 507))
async def rollback(name: Name, service: ServiceDep, caller: Train) -> ModelSummary:
    """Let the version serve that was promoted before the present one; answers once it does."""
    await _check_own(service, name, caller)
    registry = service.registry
    served = await service.catalog.switch(
        partial(registry.previous, name), partial(registry.rollback, name)
    )
    return ModelSummary(**_summary(served))


@router.delete(
    "/{name}/versions/{version}",
    status_code=204,
    response_class=Response,
    responses=problems(404, 409, 422, 507),
)
async def delete_version(
    name: Name,
    version: Annotated[int, Path(ge=1, le=MAX_VERSION, examples=[2])],
    service: ServiceDep,
    caller: Train,
) -> None:
    """Remove a version for good, and with the last one its name.

    Refused if it ships, or while it is promoted or serves and there are others of its name.
    """
    await _check_own(service, name, caller)
    await service.catalog.delete(name, version)


async def _check_own(service: Service, name: str, caller: Caller) -> None:
    """Raise ModelNotFound for another key's model, ScopeMissing for one that is everybody's."""
    owner = await asyncio.to_thread(check_visible, service.registry, name, caller)
    if not caller.owns(owner):
        raise ScopeMissing("the model is everybody's; only an admin may change it", [Scope.ADMIN])


def _summary(model: Served) -> dict[str, Any]:
    card = model.version.header.card
    return {
        "name": model.version.name,
        "version": model.version.version,
        "task": model.family.task.value,
        "family": model.family.id,
        "scale": model.scale,
        "channels_in": model.channels_in,
        "sha256": model.sha256,
        "task_note": card.get("task_note"),
        "licence": card.get("licence"),
    }
