"""What routes ask FastAPI for."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from app.jobs import Jobs
from app.service import Service


def get_service(request: Request) -> Service:
    """Return the app's service."""
    return cast(Service, request.app.state.service)


ServiceDep = Annotated[Service, Depends(get_service)]


def get_jobs(request: Request) -> Jobs:
    """Return the app's training jobs."""
    return cast(Jobs, request.app.state.jobs)


JobsDep = Annotated[Jobs, Depends(get_jobs)]
