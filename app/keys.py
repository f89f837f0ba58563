"""The keys of a service: made, found and revoked, in one file that several processes share.

    home/keys.json   every key, with the hash of its secret; mode 0600, replaced whole
    home/keys.lock   held while it is rewritten

A key reads `anm_<id>_<secret>`. The id is no secret and tells people which key is meant.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.accounts import Account
from app.errors import InvalidParameter, KeysUnavailable
from models.files import write_atomically

log = logging.getLogger(__name__)

_PREFIX = "anm"
_LOCK_TIMEOUT_S = 10.0
_USE_IS_NOTED_EVERY = timedelta(minutes=10)
_NO_HASH = "0" * 64


class Scope(StrEnum):
    """What a key may be used for. None includes another."""

    INFER = "infer"
    TRAIN = "train"
    ADMIN = "admin"


class Key(BaseModel):
    """A key without its secret; `sha256` is that of the whole text.

    Its limits, where it has some, stand before the service's.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    scopes: frozenset[Scope]
    sha256: str
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    requests_per_minute: int | None = Field(None, ge=1)
    compute_s_per_minute: int | None = Field(None, ge=1)

    def account(self, limits: Account) -> Account:
        """Return the key's account; `limits` are the service's."""
        return Account(
            self.id,
            self.requests_per_minute or limits.requests_per_minute,
            self.compute_s_per_minute or limits.compute_s_per_minute,
        )


_KEYS = TypeAdapter(list[Key])


class KeyStore:
    """The keys below `home`. Everything but `find` may wait for the disk or another process."""

    def __init__(self, home: Path) -> None:
        self._path = home / "keys.json"
        self._lock_path = home / "keys.lock"
        self._cached: tuple[bytes, dict[str, Key]] = b"", {}  # replaced whole: threads share it
        self._noted: dict[str, float] = {}

    def create(
        self,
        scopes: Iterable[Scope],
        name: str = "",
        requests_per_minute: int | None = None,
        compute_s_per_minute: int | None = None,
    ) -> tuple[Key, str]:
        """Make a key; return it and its text, which is kept nowhere.

        Raises InvalidParameter without a scope or for a name that is no text, KeysUnavailable for
        a damaged file.
        """
        if not (granted := frozenset(scopes)):
            raise InvalidParameter("scope: a key has at least one")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InvalidParameter("name: it is not valid Unicode text") from error
        id_ = secrets.token_hex(6)
        text = f"{_PREFIX}_{id_}_{secrets.token_urlsafe(32)}"
        key = Key(
            id=id_,
            name=name,
            scopes=granted,
            sha256=_hash(text),
            created_at=_now(),
            requests_per_minute=requests_per_minute,
            compute_s_per_minute=compute_s_per_minute,
        )
        self._rewrite(lambda keys: keys | {id_: key})
        return key, text

    def list(self) -> list[Key]:
        """Return every key, also revoked ones, the oldest first; raises KeysUnavailable."""
        return list(self._load().values())

    def revoke(self, id: str) -> Key:  # noqa: A002
        """Let a key open nothing from the next request on, in any process with this file.

        Raises InvalidParameter if there is no such key, KeysUnavailable for a damaged file.
        """

        def revoked(keys: dict[str, Key]) -> dict[str, Key]:
            if id not in keys:
                raise InvalidParameter("there is no key of that id")
            when = keys[id].revoked_at or _now()
            return keys | {id: keys[id].model_copy(update={"revoked_at": when})}

        return self._rewrite(revoked)[id]

    def find(self, text: str) -> Key | None:
        """Return the key that `text` is, unless there is none or it is revoked.

        Reads the file, of about 300 bytes a key, so that a revocation counts at once. Raises
        KeysUnavailable for a damaged file.
        """
        id_ = text.split("_", 2)[1] if text.count("_") >= 2 else ""
        key = self._load().get(id_)
        same = hmac.compare_digest(key.sha256 if key else _NO_HASH, _hash(text))
        return key if key and same and key.revoked_at is None else None

    def is_use_news(self, key: Key) -> bool:
        """Tell whether `note_use` is due: once in ten minutes, in this process and in the file."""
        now = time.monotonic()
        period = _USE_IS_NOTED_EVERY
        if now - self._noted.get(key.id, float("-inf")) < period.total_seconds():
            return False
        self._noted[key.id] = now
        return key.last_used_at is None or _now() - key.last_used_at >= period

    def note_use(self, id: str) -> None:  # noqa: A002
        """Record that a key was used; a disk that is full or read-only costs the record alone."""

        def used(keys: dict[str, Key]) -> dict[str, Key]:
            if id not in keys:
                return keys
            return keys | {id: keys[id].model_copy(update={"last_used_at": _now()})}

        try:
            self._rewrite(used)
        except (OSError, KeysUnavailable) as error:
            log.warning("the use of a key is not recorded: %s", error)

    def _load(self) -> dict[str, Key]:
        try:
            read = self._path.read_bytes()
        except FileNotFoundError as error:
            if self._cached[1]:  # no key was revoked; a volume is away, say
                raise KeysUnavailable("the file of keys has gone", 5) from error
            read = b"[]"
        except OSError as error:
            raise KeysUnavailable("the file of keys cannot be read", 5) from error
        known, keys = self._cached
        if read != known:
            try:
                keys = {key.id: key for key in _KEYS.validate_json(read)}
            except ValueError as error:
                raise KeysUnavailable("the file of keys is damaged", 5) from error
            self._cached = read, keys
        return keys

    def _rewrite(self, change: Callable[[dict[str, Key]], dict[str, Key]]) -> dict[str, Key]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock_path, timeout=_LOCK_TIMEOUT_S, mode=0o600):
            keys = change(self._load())
            data = _KEYS.dump_json(list(keys.values()), indent=1)

            def write(target: Path) -> None:
                target.touch(mode=0o600)  # before there is anything to read
                target.write_bytes(data)

            write_atomically(self._path, write)
        return keys


def _hash(text: str) -> str:
    """A plain hash will do: nobody guesses 256 random bits, however quickly they are hashed."""
    return hashlib.sha256(text.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
