"""API keys: made, listed, rotated, revoked, and recognised.

A key is `clk_<id>_<secret>`. The id finds the row; of the secret only its SHA-256 is kept. A slow password
hash would protect secrets that people choose, by making guesses dear; nobody guesses 256 random bits, so a
fast one is enough, and it lets every request be checked against the database. Hashes are compared in constant
time.

When a key was used last is written once a minute at most, in a group with whatever else is written, and
nobody waits for it.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from captionloop.errors import ConfigurationError
from captionloop.ratings.database import DatabaseError
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import ApiKey, now

SCOPES = ("caption", "rate", "admin")
CACHE_SECONDS = 2.0
"""A revoked key stops working within this time, in every process."""
VALID_SECONDS = 600.0
USE_SECONDS = 60.0
"""How exactly it is known when a key was used last."""
_CACHED_KEYS = 4096
_KEY = re.compile(r"clk_(?P<id>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of a key; never its secret."""

    key_id: str
    name: str
    scopes: frozenset[str]
    created_at: datetime
    revoked_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None

    @property
    def has_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now()


def check_key(name: str, scopes: Iterable[str]) -> None:
    """Raises `ConfigurationError` where a key cannot have this name or these scopes."""
    if not name.strip() or len(name) > 80:
        raise ConfigurationError(
            "a key needs a name of 1 to 80 characters, so that it can be told from others"
        )
    if not scopes or not set(scopes) <= set(SCOPES):
        raise ConfigurationError(f"a key needs one or more of the scopes {', '.join(SCOPES)}")


class ApiKeyStore:
    """The API keys in the ratings database."""

    def __init__(self, store: RatingsStore) -> None:
        self._store = store
        self._valid: dict[str, float] = {}
        self._cache: dict[str, tuple[float, tuple[str, KeyRecord] | None]] = {}
        self._noted: dict[str, float] = {}

    def create(
        self, name: str, scopes: Iterable[str], lifetime: timedelta | None = None
    ) -> tuple[KeyRecord, str]:
        """Make a key, which ends after its lifetime, if it has one; the second value is the key itself, which
        cannot be had again.

        Raises:
            ConfigurationError: no name, or a scope that does not exist.
        """
        wanted = frozenset(scopes)
        check_key(name, wanted)
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        created_at = now()
        expires_at = None if lifetime is None else created_at + lifetime
        values = {
            "key_id": key_id,
            "name": name.strip(),
            "secret_sha256": _hash(secret),
            "scopes": " ".join(scope for scope in SCOPES if scope in wanted),
            "created_at": created_at,
            "expires_at": expires_at,
        }
        self._store.writer.submit(lambda connection: connection.execute(insert(ApiKey), values)).result()
        record = KeyRecord(key_id, name.strip(), wanted, created_at, expires_at=expires_at)
        return record, f"clk_{key_id}_{secret}"

    def all(self) -> list[KeyRecord]:
        """All keys, the oldest first, revoked ones too."""
        with Session(self._store.reader) as session:
            return [_record(row) for row in session.scalars(select(ApiKey).order_by(ApiKey.created_at))]

    def rotate(self, key_id: str) -> tuple[KeyRecord, str]:
        """Give a key another secret: whose captions and ratings are the key's stays so, for they name its id.

        The second value is the key itself, which cannot be had again.

        Raises:
            ConfigurationError: there is no such key, or it is revoked.
        """
        secret = secrets.token_urlsafe(32)
        valid = (ApiKey.key_id == key_id) & ApiKey.revoked_at.is_(None)
        statement = update(ApiKey).where(valid).values(secret_sha256=_hash(secret))
        found = self._store.writer.submit(lambda connection: connection.execute(statement).rowcount).result()
        self._cache.pop(key_id, None)
        record = self._find(key_id) if found else None
        if record is None:
            raise ConfigurationError(f"there is no valid key {key_id!r}; see captionloop keys list")
        return record[1], f"clk_{key_id}_{secret}"

    def revoke(self, key_id: str) -> KeyRecord:
        """End a key.

        Raises:
            ConfigurationError: there is no such key.
        """
        unless_revoked = func.coalesce(ApiKey.revoked_at, now())
        statement = update(ApiKey).where(ApiKey.key_id == key_id).values(revoked_at=unless_revoked)
        found = self._store.writer.submit(lambda connection: connection.execute(statement).rowcount).result()
        self._cache.pop(key_id, None)
        record = self._find(key_id) if found else None
        if record is None:
            raise ConfigurationError(f"there is no key {key_id!r}; see captionloop keys list")
        return record[1]

    def recognise(self, key: str) -> KeyRecord | None:
        """The key's record if it is valid, or was until it expired, else `None`. Blocks on the database: call
        it from a thread.
        """
        parts = _KEY.fullmatch(key)
        if parts is None:
            return None
        found = self._find(parts["id"])
        given = _hash(parts["secret"])
        expected, record = found or (_hash(""), None)
        if not hmac.compare_digest(given, expected) or record is None or record.revoked_at is not None:
            self._valid.pop(key, None)
            return None
        if record.has_expired:
            self._valid.pop(key, None)
            return record
        self._note_use(record.key_id)
        if len(self._valid) >= _CACHED_KEYS:
            self._valid.clear()
        self._valid[key] = monotonic() + VALID_SECONDS
        return record

    def was_valid(self, key: str) -> bool:
        """Whether the key was recognised lately, as far as this process knows; it may be revoked since."""
        return self._valid.get(key, 0.0) > monotonic()

    def _note_use(self, key_id: str) -> None:
        moment = monotonic()
        if self._noted.get(key_id, 0.0) > moment:
            return
        if len(self._noted) >= _CACHED_KEYS:
            self._noted.clear()
        self._noted[key_id] = moment + USE_SECONDS
        used_at = now()
        earlier = func.coalesce(ApiKey.last_used_at, ApiKey.created_at) <= used_at
        statement = update(ApiKey).where(ApiKey.key_id == key_id, earlier).values(last_used_at=used_at)
        with suppress(DatabaseError):  # the writer is full: in a minute, then
            self._store.writer.submit(lambda connection: connection.execute(statement), ("5 key", key_id))

    def _find(self, key_id: str) -> tuple[str, KeyRecord] | None:
        cached = self._cache.get(key_id)
        if cached is not None and cached[0] > monotonic():
            return cached[1]
        with Session(self._store.reader) as session:
            row = session.get(ApiKey, key_id)
            found = None if row is None else (row.secret_sha256, _record(row))
        if len(self._cache) >= _CACHED_KEYS:
            self._cache.clear()
        self._cache[key_id] = (monotonic() + CACHE_SECONDS, found)
        return found


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _record(row: ApiKey) -> KeyRecord:
    return KeyRecord(
        row.key_id, row.name, frozenset(row.scopes.split()), row.created_at, row.revoked_at, row.expires_at,
        row.last_used_at,
    )  # fmt: skip
