"""The database of jobs: where it is, how it is opened, and what its faults are told as.

An SQLite file in the home, or PostgreSQL, where workers on several machines share one queue.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy.exc
from dbos import DBOS, DBOSClient, Serializer
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url

from app.error_codes import INTERNAL
from app.errors import JobsUnavailable, StorageFull
from app.retraining.failures import JobFailed
from app.settings import Settings

APPLICATION = "anamorph"
QUEUE = "training"

_POLL_S = 0.5
_NO_DATABASE = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.TimeoutError,
)
# Of PostgreSQL's client, which otherwise waits for minutes for a host that has gone.
_PATIENCE = {"connect_timeout": "5", "tcp_user_timeout": "10000"}  # s, ms

log = logging.getLogger(__name__)


def _teach_subseconds(connection: object, _: object) -> None:
    """Give an SQLite before 3.42, such as Debian 12's, what DBOS asks of it from Python 3.12 on.

    Its columns have unixepoch('subsec') as their default, which is NULL or an error there.
    """
    if isinstance(connection, sqlite3.Connection):
        connection.create_function("unixepoch", 1, lambda _unit: time.time())


_TO_TEACH = "connect", _teach_subseconds


class JsonSerializer(Serializer):
    """Keeps the database free of pickles, whose reading would run code."""

    def serialize(self, data: Any) -> str:
        if isinstance(data, BaseException):
            failed = data if isinstance(data, JobFailed) else JobFailed(INTERNAL.code, "")
            data = {"$failed": [failed.code, failed.detail]}
        return json.dumps(data)

    def deserialize(self, serialized_data: str) -> Any:
        data = json.loads(serialized_data)
        return JobFailed(*data["$failed"]) if isinstance(data, dict) and "$failed" in data else data

    def name(self) -> str:
        return "anamorph_json"


class JobDatabase:
    """One connection, opened when first used. To be used from threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: DBOSClient | None = None
        self._opening = threading.Lock()

    @contextlib.contextmanager
    def client(self) -> Iterator[DBOSClient]:
        """Lend the client; raises JobsUnavailable or StorageFull for what the database cannot."""
        try:
            with self._opening:
                if self._client is None:
                    self._client = self._connected()
            yield self._client
        except _NO_DATABASE as error:
            cause = getattr(error, "orig", None) or error  # without the statement's parameters
            if getattr(cause, "sqlite_errorname", None) == "SQLITE_FULL":
                raise StorageFull("the disk with the database of jobs is full") from error
            log.warning("the database of jobs: %s", cause)
            raise JobsUnavailable("the database of jobs does not answer", 5) from error

    def close(self) -> None:
        """Disconnect."""
        if self._client:
            self._client.destroy()
            self._client = None

    def _connected(self) -> DBOSClient:
        try:
            url = database_url(self._settings)
        except OSError as error:
            full = StorageFull.of(error)
            raise full or JobsUnavailable("the database of jobs has no folder", 5) from error
        DBOS.migrate(url)
        client = DBOSClient(
            system_database_url=url,
            serializer=JsonSerializer(),
            application_name=APPLICATION,
            retry_connection_errors=False,  # a request is better refused than kept for ever
        )
        client.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=_POLL_S)
        return client


def database_url(settings: Settings) -> str:
    """Return the URL of the database of jobs, whose folder is made; an old SQLite is made ready."""
    if settings.database_url:
        url = make_url(settings.database_url)
        if url.get_backend_name() == "postgresql":
            url = url.set(query={**_PATIENCE, **url.query})
        return url.render_as_string(hide_password=False)
    settings.home.mkdir(parents=True, exist_ok=True)
    if sqlite3.sqlite_version_info < (3, 42) and not event.contains(Engine, *_TO_TEACH):
        event.listen(Engine, *_TO_TEACH)
    return f"sqlite:///{settings.home.resolve() / 'jobs.sqlite'}"
