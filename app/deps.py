"""What routes ask FastAPI for: a scope of the caller's key, the service, a job."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import (
    APIKeyHeader,
    HTTPAuthorizationCredentials,
    HTTPBearer,
    SecurityScopes,
)

from app.callers import Caller
from app.errors import JobNotFound, Unauthenticated
from app.http.access import HEADER
from app.keys import Scope
from app.retraining.jobs import Job, Jobs
from app.schemas.training import JobId
from app.service import Service

_WHEN = "Only where the service asks for keys: on any address but loopback, unless told otherwise."
_bearer = HTTPBearer(scheme_name="Bearer", description=_WHEN, auto_error=False)
_header = APIKeyHeader(name=HEADER, scheme_name=HEADER, description=_WHEN, auto_error=False)


def authorized(
    request: Request,
    scopes: SecurityScopes,
    _in_bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    _in_header: Annotated[str | None, Depends(_header)],
) -> Caller:
    """Return whom `AskForKey` found, who has all `scopes`; the schemes are for OpenAPI.

    Raises Unauthenticated or ScopeMissing.
    """
    caller: Caller | None = request.scope.get("caller")
    if caller is None:
        raise Unauthenticated("this route asks for a key")
    caller.check_scopes([Scope(scope) for scope in scopes.scopes])
    return caller


# Every route that is not for the whole world has a parameter of one of these types.
AnyKey = Annotated[Caller, Security(authorized)]
Infer = Annotated[Caller, Security(authorized, scopes=[Scope.INFER])]
Train = Annotated[Caller, Security(authorized, scopes=[Scope.TRAIN])]
Admin = Annotated[Caller, Security(authorized, scopes=[Scope.ADMIN])]


def get_service(request: Request) -> Service:
    """Return the app's service."""
    return cast(Service, request.app.state.service)


ServiceDep = Annotated[Service, Depends(get_service)]


def get_jobs(request: Request) -> Jobs:
    """Return the app's training jobs."""
    return cast(Jobs, request.app.state.jobs)


JobsDep = Annotated[Jobs, Depends(get_jobs)]


def get_own_job(job_id: JobId, jobs: JobsDep, caller: Train) -> Job:
    """Return the caller's job of that id; raises JobNotFound."""
    job = jobs.get(job_id)
    if not caller.owns(job.owner):
        raise JobNotFound("there is no such job")
    return job


OwnJob = Annotated[Job, Depends(get_own_job)]
