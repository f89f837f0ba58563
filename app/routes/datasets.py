"""Training data: uploaded as a zip, checked on arrival, looked at, deleted."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from fastapi import APIRouter, Request, Response

from app.deps import JobsDep, ServiceDep, Train
from app.errors import Busy
from app.http.describing import PNG
from app.http.uploads import read_file
from app.schemas.datasets import (
    DatasetDetails,
    DatasetId,
    DatasetParams,
    DatasetSummary,
    summary_of,
    upload_body,
)
from app.schemas.problems import problems
from app.service import Service

PATH = "/v1/datasets"

router = APIRouter(prefix=PATH, tags=["datasets"])


@router.post(
    "",
    status_code=201,
    responses=problems(400, 408, 413, 415, 422, 503, 507)
    | {200: {"description": "These pictures were there already", "model": DatasetDetails}},
    openapi_extra=upload_body(),
)
async def add_dataset(
    request: Request, response: Response, service: ServiceDep, caller: Train
) -> DatasetDetails:
    """Store a zip of pictures as training data, and tell what was found in it.

    - `paired`: pictures with A and B side by side, or folders A and B with pictures of equal names.
    - `unpaired`: folders A and B.
    - `highres`: photos.
    - `style`: one picture called style.jpg (or another format), and photos to be painted.

    Folders `train` and `test` (or `val`), or `trainA`, `testA` and so on, split the pictures; else
    a tenth is held out for testing. One folder around everything is looked through.
    """
    full = Busy("other datasets are being uploaded", retry_after_s=30)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(service.dataset_uploads.place(full))
        folder = await _in_incoming(stack, service)
        params = await read_file(
            request, DatasetParams, folder / "upload.zip", service.settings.dataset_timeout_s
        )
        dataset, is_new = await service.in_checker(
            lambda: service.datasets.add(
                folder / "upload.zip", params.name, params.kind, caller.key_id
            )
        )
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = url = _url(request, dataset.id)
    return DatasetDetails.of(dataset, url)


@router.get("")
async def list_datasets(service: ServiceDep, caller: Train) -> list[DatasetSummary]:
    """Every dataset, the oldest first."""
    datasets = await asyncio.to_thread(service.datasets.list, caller)
    return [summary_of(dataset) for dataset in datasets]


@router.get("/{id}", responses=problems(404, 422))
async def show_dataset(
    request: Request,
    id: DatasetId,  # noqa: A002
    service: ServiceDep,
    caller: Train,
) -> DatasetDetails:
    """One dataset."""
    dataset = await asyncio.to_thread(service.datasets.get, id, caller)
    return DatasetDetails.of(dataset, _url(request, id))


@router.get("/{id}/contact.png", response_class=Response, responses=PNG | problems(404, 422))
async def show_contact_sheet(id: DatasetId, service: ServiceDep, caller: Train) -> Response:  # noqa: A002
    """A picture of up to 12 pictures of each part, a row for each."""
    png = await asyncio.to_thread(service.datasets.contact_sheet, id, caller)
    return Response(png, media_type="image/png")


@router.delete("/{id}", status_code=204, response_class=Response, responses=problems(404, 409, 507))
async def delete_dataset(
    id: DatasetId,  # noqa: A002
    service: ServiceDep,
    jobs: JobsDep,
    caller: Train,
) -> None:
    """Remove a dataset; refused while a training uses it."""
    await asyncio.to_thread(service.datasets.delete, id, caller, jobs.using)


async def _in_incoming(stack: contextlib.AsyncExitStack, service: Service) -> Path:
    """Enter a new folder on the datasets' disk, and leave it, in threads."""
    incoming = service.datasets.incoming()

    async def leave(*error: object) -> None:
        await asyncio.to_thread(incoming.__exit__, *error)  # type: ignore[arg-type]

    folder = await asyncio.to_thread(incoming.__enter__)
    stack.push_async_exit(leave)
    return folder


def _url(request: Request, id: str) -> str:  # noqa: A002
    return f"{request.scope.get('root_path', '')}{PATH}/{id}"
