"""How a function that builds a call becomes a method that sends it: one of each kind of client.

The method takes what the function takes, with its docstring, and type checkers see it so.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import anyio.to_thread

from anamorph.call import Call

P = ParamSpec("P")
T = TypeVar("T")


class Sender(Protocol):
    """Who sends and waits."""

    def send(self, call: Call[T]) -> T: ...


class AsyncSender(Protocol):
    """Who sends and lets others run meanwhile."""

    async def send(self, call: Call[T]) -> T: ...


def blocking(build: Callable[P, Call[T]]) -> Callable[Concatenate[Sender, P], T]:
    """Return a method that builds the call and sends it."""

    def method(self: Sender, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(build(*args, **kwargs))

    return _described(method, build)


def awaitable(
    build: Callable[P, Call[T]],
) -> Callable[Concatenate[AsyncSender, P], Coroutine[Any, Any, T]]:
    """Return the same for an event loop; a picture is read or encoded in a thread."""

    async def method(self: AsyncSender, /, *args: P.args, **kwargs: P.kwargs) -> T:
        built = functools.partial(build, *args, **kwargs)
        return await self.send(await anyio.to_thread.run_sync(built))

    return _described(method, build)


M = TypeVar("M", bound=Callable[..., Any])


def _described(method: M, build: Callable[..., Any]) -> M:
    """Let `help` show the arguments with `self`, and what comes of the call instead of the call."""
    functools.update_wrapper(method, build)
    signature = inspect.signature(build)
    self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    result = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[self_parameter, *signature.parameters.values()], return_annotation=result
    )
    return method
