"""Keys at the door: who is let in, and on whose account."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import replace

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from app.accounts import Account, on_account
from app.callers import OPERATOR, Caller
from app.errors import KeysUnavailable, ServiceError, Unauthenticated
from app.faces.attempts import client_name
from app.http.paths import path_of
from app.http.problems import problem_of
from app.keys import Key, KeyStore
from app.settings import Settings

HEADER = "X-API-Key"
_OPEN = {"/", "/healthz", "/readyz", "/docs", "/openapi.json"}
_OPEN_FOLDERS = ("/docs/", "/page/")

log = structlog.get_logger()


def asks_for_keys(settings: Settings) -> bool:
    """Tell whether a service with these settings answers only to keys."""
    return settings.require_keys or not (settings.insecure or _is_loopback(settings.host))


def open_keys(settings: Settings) -> KeyStore | None:
    """Return the keys that a service is to ask for, None if it is to ask for none.

    Raises ServiceError if there is none to ask for, or KeysUnavailable.
    """
    if not asks_for_keys(settings):
        if not _is_loopback(settings.host):
            log.warning("insecure: whoever reaches this address may do everything")
        return None
    keys = KeyStore(settings.home)
    if all(key.revoked_at for key in keys.list()):
        raise ServiceError(
            f"nobody may be let in at {settings.host}: there is no key. Make one with "
            "`anamorph keys create --scope infer,train,admin`, or serve everybody who reaches "
            "that address with --insecure"
        )
    return keys


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class AskForKey:
    """Lets nobody without a key in, before a byte of the body is read; routes check the scope.

    Puts the caller into the connection's `caller`. Open paths have one only if a key is given.
    What follows is on the account of the key, whose limits are its own or else `limits`; where
    nobody is asked for one, on that of the client's address: nothing else tells clients apart.
    """

    def __init__(self, app: ASGIApp, keys: KeyStore | None, limits: Account) -> None:
        self.app = app
        self.keys = keys
        self.limits = limits

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        account = Account()
        if self.keys is None:
            scope["caller"] = OPERATOR
            address = scope.get("client")
            account = replace(self.limits, name=client_name(address[0] if address else None))
        else:
            try:
                key = await self._key(self.keys, Headers(scope=scope))
            except (Unauthenticated, KeysUnavailable) as error:
                if not _is_open(scope):
                    await problem_of(error)(scope, receive, send)
                    return
            else:
                scope["caller"] = Caller(key.id, key.scopes)
                account = key.account(self.limits)
        with on_account(account):
            await self.app(scope, receive, send)

    async def _key(self, keys: KeyStore, headers: Headers) -> Key:
        kind, _, text = headers.get("authorization", "").partition(" ")
        text = text.strip() if kind.lower() == "bearer" else headers.get(HEADER, "")
        if not text:
            raise Unauthenticated(f"send a key as `Authorization: Bearer KEY` or `{HEADER}: KEY`")
        key = keys.find(text)
        if key is None:
            raise Unauthenticated("there is no such key, or it was revoked", "invalid_token")
        if keys.is_use_news(key):
            await asyncio.to_thread(keys.note_use, key.id)
        return key


def _is_open(scope: Connection) -> bool:
    path = path_of(scope)
    return path in _OPEN or path.startswith(_OPEN_FOLDERS)
