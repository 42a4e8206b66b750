"""Who is calling, what they may do, and how often.

With a key, one is that key; without, one is the random cookie that the first answer set. The cookie makes
nobody trusted: it only lets a browser come back to its own captions. Limits count keys, and addresses for
those without.
"""

import hashlib
import ipaddress
import math
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic, time
from typing import Any, TypeVar, cast

import structlog
from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPBearer
from limits import RateLimitItem, RateLimitItemPerMinute, WindowStats
from limits.aio.storage import Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string
from starlette.requests import Request

from captionloop.errors import ConfigurationError, without_passwords
from captionloop.ratings.api_keys import ApiKeyStore, KeyRecord
from captionloop.ratings.networks import network_block
from captionloop.ratings.rating_tables import KEY
from captionloop.serving.gateway.problems import (
    KEY_EXPIRED,
    KEY_INVALID,
    KEY_REQUIRED,
    RATE_LIMITED,
    SCOPE_MISSING,
    Problem,
)
from captionloop.serving.gateway.storage import ask
from captionloop.serving.service_settings import Settings

logger = structlog.get_logger(__name__)
T = TypeVar("T")

AWAY_SECONDS = 5.0
"""A storage of limits that did not answer is not asked again for so long."""
COOKIE = "captionloop_rater"
COOKIE_SECONDS = 365 * 24 * 3600
OTHER_CALLS_FACTOR = 10
"""Calls that make no caption are this many times cheaper."""
CREDENTIALS = (
    Security(HTTPBearer(scheme_name="bearer", auto_error=False, description="an API key: `clk_…`")),
    Security(APIKeyHeader(name="X-API-Key", scheme_name="header", auto_error=False)),
)
"""The two ways to send a key, for the API's description: it is `Access.caller` that looks at them."""
_GUESSES = RateLimitItemPerMinute(60)
"""Keys that are not valid, from one address: guessing them is as dear as any other call."""
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is calling.

    Attributes:
        rater: names them in the database: `key:<id>` or `person:<hash of the cookie>`.
        scopes: what they may do.
        counted_as: whose quota they use.
        cookie: a cookie to set, if they are new.
        block: that of their address, where it is a public one and they have no key.
    """

    rater: str
    scopes: frozenset[str]
    counted_as: str
    captions_per_minute: int
    cookie: str | None = None
    block: str | None = None

    @property
    def has_key(self) -> bool:
        """Did they show a valid key."""
        return self.rater.startswith(KEY)

    @property
    def is_admin(self) -> bool:
        """May they read and erase what is not theirs."""
        return "admin" in self.scopes


class Access:
    """Recognises callers and counts their calls."""

    def __init__(self, settings: Settings, keys: ApiKeyStore) -> None:
        self._settings = settings
        self._keys = keys
        self._limiter = SlidingWindowCounterRateLimiter(
            _storage(settings.rate_limit_storage.get_secret_value())
        )
        self._local_limiter = SlidingWindowCounterRateLimiter(_storage("async+memory://"))
        self._away_until = 0.0

    async def caller(self, request: Request) -> Caller:
        """Who is calling.

        Raises:
            Problem: 401, if the key is unknown or has ended, or one is needed.
        """
        key = _sent_key(request.headers)
        address = client_address(request)
        if key is not None:
            record = await self._recognised(key, f"failed:{address}")
            if record is None:
                raise Problem(
                    KEY_INVALID,
                    "This API key is unknown or was revoked.",
                    headers=_CHALLENGE,
                )
            if record.has_expired:
                raise Problem(
                    KEY_EXPIRED,
                    f"This API key ended on {record.expires_at:%Y-%m-%d}: ask for a new one.",
                    headers=_CHALLENGE,
                )
            return Caller(
                f"key:{record.key_id}", record.scopes, f"key:{record.key_id}",
                self._settings.key_captions_per_minute,
            )  # fmt: skip
        if not self._settings.anonymous:
            raise Problem(
                KEY_REQUIRED,
                "Send an API key: Authorization: Bearer clk_…",
                headers=_CHALLENGE,
            )
        sent = request.cookies.get(COOKIE, "")
        known = _COOKIE.fullmatch(sent) is not None
        token = sent if known else secrets.token_urlsafe(32)
        return Caller(
            "person:" + hashlib.sha256(token.encode()).hexdigest()[:32],
            frozenset({"caption", "rate"}),
            f"address:{address}",
            self._settings.anonymous_captions_per_minute,
            None if known else token,
            network_block(address),
        )

    async def _recognised(self, key: str, guesses: str) -> KeyRecord | None:
        """The key's record. Whoever has guessed too often is told so before the database is asked, unless the
        key was found valid a short while ago: others may share the guesser's address.
        """
        if not self._keys.was_valid(key):
            await self._limit_guesses(guesses)
        record = await ask(self._keys.recognise, key)
        if record is None or record.has_expired:
            await self._hit(_GUESSES, guesses)
        return record

    async def _limit_guesses(self, guesses: str) -> None:
        if not await self._counted(lambda limiter: limiter.test(_GUESSES, guesses)):
            await self._hit(_GUESSES, guesses)

    @staticmethod
    def require(caller: Caller, scope: str) -> None:
        """Refuse a caller without the scope (an administrator has them all).

        Raises:
            Problem: 403.
        """
        if scope not in caller.scopes and not caller.is_admin:
            raise Problem(SCOPE_MISSING, f"This API key does not have the scope '{scope}'.")

    async def count(self, caller: Caller, *, makes_caption: bool) -> dict[str, str]:
        """Count a call; the headers that tell the caller how many are left.

        Raises:
            Problem: 429 with `Retry-After`, if none are.
        """
        per_minute = caller.captions_per_minute * (1 if makes_caption else OTHER_CALLS_FACTOR)
        kind = "captions" if makes_caption else "calls"
        return await self._hit(RateLimitItemPerMinute(per_minute), f"{kind}:{caller.counted_as}")

    async def _hit(self, item: RateLimitItem, name: str) -> dict[str, str]:
        allowed, stats = await self._counted(lambda limiter: _hit(limiter, item, name))
        reset = max(1, math.ceil(stats.reset_time - time()))
        headers = {
            "RateLimit-Limit": str(item.amount),
            "RateLimit-Remaining": str(max(0, stats.remaining)),
            "RateLimit-Reset": str(reset),
        }
        if not allowed:
            raise Problem(
                RATE_LIMITED, "You have used up your limit for this minute; try again a little later.",
                retry_after=reset, headers=headers,
            )  # fmt: skip
        return headers

    async def _counted(self, count: Callable[[SlidingWindowCounterRateLimiter], Awaitable[T]]) -> T:
        """What the limiter of all gateways says. Where its storage is away, this gateway counts for itself
        for a while: better than that nobody is answered, or each only after it was waited for in vain.
        """
        if monotonic() >= self._away_until:
            try:
                return await count(self._limiter)
            except StorageError as error:
                self._away_until = monotonic() + AWAY_SECONDS
                reason = type(error.storage_error).__name__
                logger.warning("limits counted in this gateway alone", reason=reason)
        return await count(self._local_limiter)


def _storage(uri: str) -> Storage:
    # limits' usual client, coredis, cannot be used by it in its present version (6).
    options: dict[str, Any] = {}
    if "redis" in uri.partition(":")[0]:
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        options = {"implementation": "redispy", "retry": Retry(NoBackoff(), 1)}
        options |= {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
    try:
        return cast(Storage, storage_from_string(uri, wrap_exceptions=True, **options))
    except Exception as error:  # each storage's driver has errors of its own kind, and they quote the address
        raise ConfigurationError(
            f"CAPTIONLOOP_RATE_LIMIT_STORAGE={without_passwords(uri)} cannot be used "
            f"({type(error).__name__}): write async+memory:// or async+redis://host:6379"
        ) from None


async def _hit(
    limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, name: str
) -> tuple[bool, WindowStats]:
    return await limiter.hit(item, name), await limiter.get_window_stats(item, name)


def client_address(request: Request) -> str:
    """Whom a call is counted to: the address that reached the outermost proxy we trust (`proxies.py`).

    Of an IPv6 address the network part counts (/64), for that is what one customer has.
    """
    address = request.client.host if request.client else "unknown"
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _sent_key(headers: Mapping[str, str]) -> str | None:
    authorization = headers.get("authorization", "")
    if authorization.lower().startswith("bearer "):
        return authorization[7:].strip()
    return headers.get("x-api-key")
