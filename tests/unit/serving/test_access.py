import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from subprocess import DEVNULL, Popen
from typing import Any, cast

import pytest
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.serving.gateway.auth import Access, Caller, client_address
from captionloop.serving.gateway.http_protocol import TrustedProxies
from captionloop.serving.gateway.problems import Problem
from captionloop.serving.service_settings import Settings

LIMIT = 5
CALLER = Caller("person:1", frozenset({"caption"}), "address:192.0.2.1", LIMIT)


def counted_to(peer: str, forwarded: tuple[str, ...] = (), trusted: str = "0") -> str:
    """Whom a request counts to that comes from `peer` with these lines of X-Forwarded-For."""
    found: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(client_address(Request(scope)))

    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    scope = {"type": "http", "path": "/", "headers": headers, "client": (peer, 1), "scheme": "http"}
    asyncio.run(TrustedProxies(app, trusted)(scope, cast(Receive, None), cast(Send, None)))
    return found[0]


@pytest.mark.parametrize(
    ("forwarded", "trusted", "expected"),
    [
        ((), "0", "10.0.0.9"),
        (("1.1.1.1",), "0", "10.0.0.9"),
        (("1.1.1.1, 2.2.2.2",), "1", "2.2.2.2"),
        (("1.1.1.1, 2.2.2.2",), "2", "1.1.1.1"),
        (("1.1.1.1",), "2", "10.0.0.9"),
        (("nonsense",), "1", "unknown"),
        # Two lines are one list: the caller's line first, the proxy's after it.
        (("1.1.1.1", "2.2.2.2"), "1", "2.2.2.2"),
        (("1.1.1.1", "2.2.2.2"), "2", "1.1.1.1"),
        (("1.1.1.1, 3.3.3.3", "2.2.2.2"), "1", "2.2.2.2"),
        (("2.2.2.2:4711",), "1", "2.2.2.2"),
        (("[2001:db8::1]:4711",), "1", "2001:db8::/64"),
        (("[2001:db8::1]",), "1", "2001:db8::/64"),
        (("2001:db8::1",), "1", "2001:db8::/64"),
        # Networks: the first from the right that is none of ours.
        (("1.1.1.1, 2.2.2.2",), "10.0.0.0/8", "2.2.2.2"),
        (("1.1.1.1, 2.2.2.2, 10.0.0.7",), "10.0.0.0/8", "2.2.2.2"),
        (("1.1.1.1", "2.2.2.2:80", "10.0.0.7"), "10.0.0.9, 10.0.0.7", "2.2.2.2"),
        (("1.1.1.1", "[2001:db8::1]:5"), "10.0.0.9", "2001:db8::/64"),
        (("1.1.1.1, 2.2.2.2",), "192.0.2.0/24", "10.0.0.9"),
    ],
)
def test_only_trusted_proxies_are_believed(forwarded: tuple[str, ...], trusted: str, expected: str) -> None:
    assert counted_to("10.0.0.9", forwarded, trusted) == expected


def test_an_ipv6_customer_is_one_network() -> None:
    assert counted_to("2001:db8::1") == counted_to("2001:db8::ffff:1")
    assert counted_to("::ffff:9.9.9.9") == "9.9.9.9"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, Popen[bytes]]]:
    if which("redis-server") is None:
        pytest.skip("needs the Debian package redis-server")
    socket = tmp_path / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    with Popen(command, cwd=tmp_path, stdout=DEVNULL) as process:
        while not socket.exists():
            assert process.poll() is None
        try:
            yield f"async+redis+unix://{socket}", process
        finally:
            process.kill()


def gateway(storage: str) -> Access:
    return Access(Settings(rate_limit_storage=storage), cast(ApiKeyStore, None))


async def taken(access: Access) -> bool:
    try:
        await access.count(CALLER, makes_caption=True)
    except Problem as problem:
        assert problem.status_code == 429
        return False
    return True


def test_gateways_that_share_a_store_share_the_limit(redis: tuple[str, Popen[bytes]]) -> None:
    async def story() -> None:
        gateways = [gateway(redis[0]) for _ in range(3)]
        answers = await asyncio.gather(*(taken(gateways[call % 3]) for call in range(20)))
        assert sum(answers) == LIMIT

    asyncio.run(story())


def test_a_store_that_goes_away_stops_nobody_and_limits_still_hold(redis: tuple[str, Popen[bytes]]) -> None:
    async def story() -> None:
        access = gateway(redis[0])
        assert await taken(access)
        redis[1].kill()
        redis[1].wait()
        assert sum([await taken(access) for _ in range(20)]) == LIMIT

    asyncio.run(story())


@pytest.mark.integration
def test_a_store_that_hangs_is_waited_for_once_and_asked_again_later(
    redis: tuple[str, Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by every call, which would be two seconds for each."""
    waited: list[str] = []

    class Limiter:
        def __getattr__(self, name: str):
            waited.append(name)
            return getattr(shared, name)

    async def story() -> None:
        nonlocal shared
        access = gateway(redis[0])
        shared, access._limiter = access._limiter, cast(SlidingWindowCounterRateLimiter, Limiter())
        assert await taken(access)
        redis[1].send_signal(signal.SIGSTOP)
        waited.clear()
        assert sum([await taken(access) for _ in range(20)]) == LIMIT
        assert waited == ["hit"]
        redis[1].send_signal(signal.SIGCONT)
        access._away_until = 0.0
        await taken(access)
        assert waited == ["hit", "hit", "get_window_stats"]

    shared: Any = None
    asyncio.run(story())
