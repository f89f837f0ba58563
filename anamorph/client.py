"""The two clients: one that waits, and one for event loops.

They send and no more: what, whether again, and how it is read is decided once for both.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
import httpx

from anamorph import image_calls, service_calls, training_calls
from anamorph.call import Call
from anamorph.events import Event, Replay
from anamorph.methods import awaitable, blocking
from anamorph.retries import Outcome, Retries

T = TypeVar("T")

LOCAL = "http://127.0.0.1:8000"


def _options(base_url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    headers = {"User-Agent": "anamorph-client"}
    if api_key is not None:
        key = api_key.strip()  # a line break, where it was read from a file
        if not (key and key.isascii() and key.isprintable()):
            raise ValueError("the API key is empty or has characters that no key has")
        headers["Authorization"] = f"Bearer {key}"
    timeout = httpx.Timeout(timeout_s, connect=min(10.0, timeout_s))
    return {"base_url": base_url, "headers": headers, "timeout": timeout}


class Client:
    """Calls the service and waits for its answers. Threads may share one.

    Every method raises AnamorphError for what the service refuses, and Unreachable, one of them,
    where there is none.

    Args:
        base_url: where the service is, with the path it lies below, if any.
        api_key: sent as `Authorization: Bearer`. What cannot be one is a ValueError.
        timeout_s: the longest silence of the service that is waited out. Its own limit for a
            picture, `deadline_s`, is 600 s by default.
        max_retries: further attempts of a call that may be repeated, while the service is full
            (503, 429) or cannot be reached; 0 for none.
        max_wait_s: a Retry-After that asks for longer raises instead.
        transport: of httpx, to send by other means than sockets.
    """

    def __init__(
        self,
        base_url: str = LOCAL,
        *,
        api_key: str | None = None,
        timeout_s: float = 600.0,
        max_retries: int = 4,
        max_wait_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retries = Retries(max_retries, max_wait_s)
        self._http = httpx.Client(**_options(base_url, api_key, timeout_s), transport=transport)

    translate = blocking(image_calls.translate)
    upscale = blocking(image_calls.upscale)
    stylize = blocking(image_calls.stylize)
    anonymize = blocking(image_calls.anonymize)
    restore = blocking(image_calls.restore)

    list_models = blocking(service_calls.list_models)
    get_model = blocking(service_calls.get_model)
    list_versions = blocking(service_calls.list_versions)
    promote = blocking(service_calls.promote)
    rollback = blocking(service_calls.rollback)
    delete_version = blocking(service_calls.delete_version)
    health = blocking(service_calls.health)
    readiness = blocking(service_calls.readiness)
    limits = blocking(service_calls.limits)

    upload_dataset = blocking(training_calls.upload_dataset)
    list_datasets = blocking(training_calls.list_datasets)
    get_dataset = blocking(training_calls.get_dataset)
    delete_dataset = blocking(training_calls.delete_dataset)
    contact_sheet = blocking(training_calls.contact_sheet)

    create_job = blocking(training_calls.create_job)
    list_jobs = blocking(training_calls.list_jobs)
    get_job = blocking(training_calls.get_job)
    cancel_job = blocking(training_calls.cancel_job)
    resume_job = blocking(training_calls.resume_job)
    list_samples = blocking(training_calls.list_samples)
    sample_grid = blocking(training_calls.sample_grid)
    loss_curves = blocking(training_calls.loss_curves)

    def job_events(self, job_id: str, *, last_event_id: int = 0) -> Generator[Event]:
        """Yield a job's events after `last_event_id`, then new ones, until `end`.

        A connection that breaks is made anew and goes on where it was.
        """
        replay = Replay(job_id, last_event_id, self._retries)
        while not replay.ended:
            try:
                with self._http.stream(**replay.request(self._http.timeout)) as response:
                    outcome: Outcome = response
                    if not response.is_success:
                        response.read()
                    else:
                        replay.begin()
                        for chunk in response.iter_bytes():
                            yield from replay.take(chunk)
            except httpx.RequestError as error:
                outcome = error
            time.sleep(replay.pause_s(outcome))

    def send(self, call: Call[T]) -> T:
        """Send a call, again where that is safe and worth it, and return its result."""
        attempt = 0
        while True:
            outcome = self._attempt(call)
            wait_s = self._retries.wait_s(outcome, attempt, repeatable=call.repeatable)
            if wait_s is None:
                return call.finish(outcome)
            time.sleep(wait_s)
            attempt += 1

    def _attempt(self, call: Call[Any]) -> Outcome:
        try:
            with call.arguments() as arguments:
                return self._http.request(**arguments)
        except httpx.RequestError as error:
            return error

    def close(self) -> None:
        """Close the connections; `with` does it too."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio and trio: every method is awaited, `job_events` iterated by async for.

    Its arguments are those of Client.
    """

    def __init__(
        self,
        base_url: str = LOCAL,
        *,
        api_key: str | None = None,
        timeout_s: float = 600.0,
        max_retries: int = 4,
        max_wait_s: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retries = Retries(max_retries, max_wait_s)
        options = _options(base_url, api_key, timeout_s)
        self._http = httpx.AsyncClient(**options, transport=transport)

    translate = awaitable(image_calls.translate)
    upscale = awaitable(image_calls.upscale)
    stylize = awaitable(image_calls.stylize)
    anonymize = awaitable(image_calls.anonymize)
    restore = awaitable(image_calls.restore)

    list_models = awaitable(service_calls.list_models)
    get_model = awaitable(service_calls.get_model)
    list_versions = awaitable(service_calls.list_versions)
    promote = awaitable(service_calls.promote)
    rollback = awaitable(service_calls.rollback)
    delete_version = awaitable(service_calls.delete_version)
    health = awaitable(service_calls.health)
    readiness = awaitable(service_calls.readiness)
    limits = awaitable(service_calls.limits)

    upload_dataset = awaitable(training_calls.upload_dataset)
    list_datasets = awaitable(training_calls.list_datasets)
    get_dataset = awaitable(training_calls.get_dataset)
    delete_dataset = awaitable(training_calls.delete_dataset)
    contact_sheet = awaitable(training_calls.contact_sheet)

    create_job = awaitable(training_calls.create_job)
    list_jobs = awaitable(training_calls.list_jobs)
    get_job = awaitable(training_calls.get_job)
    cancel_job = awaitable(training_calls.cancel_job)
    resume_job = awaitable(training_calls.resume_job)
    list_samples = awaitable(training_calls.list_samples)
    sample_grid = awaitable(training_calls.sample_grid)
    loss_curves = awaitable(training_calls.loss_curves)

    async def job_events(self, job_id: str, *, last_event_id: int = 0) -> AsyncGenerator[Event]:
        """Yield a job's events after `last_event_id`, then new ones, until `end`.

        A connection that breaks is made anew and goes on where it was.
        """
        replay = Replay(job_id, last_event_id, self._retries)
        while not replay.ended:
            try:
                async with self._http.stream(**replay.request(self._http.timeout)) as response:
                    outcome: Outcome = response
                    if not response.is_success:
                        await response.aread()
                    else:
                        replay.begin()
                        async for chunk in response.aiter_bytes():
                            for event in replay.take(chunk):
                                yield event
            except httpx.RequestError as error:
                outcome = error
            await anyio.sleep(replay.pause_s(outcome))

    async def send(self, call: Call[T]) -> T:
        """Send a call, again where that is safe and worth it, and return its result."""
        attempt = 0
        while True:
            outcome = await self._attempt(call)
            wait_s = self._retries.wait_s(outcome, attempt, repeatable=call.repeatable)
            if wait_s is None:
                # In a thread: a large picture takes half a second to come out of its JSON.
                return await anyio.to_thread.run_sync(call.finish, outcome)
            await anyio.sleep(wait_s)
            attempt += 1

    async def _attempt(self, call: Call[Any]) -> Outcome:
        try:
            with call.arguments() as arguments:
                return await self._http.request(**arguments)
        except httpx.RequestError as error:
            return error

    async def aclose(self) -> None:
        """Close the connections; `async with` does it too."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()
