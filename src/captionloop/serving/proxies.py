"""What proxies say of the caller, believed if they are ours: its address, its scheme, the path before ours.

Whom to believe is a list of addresses and networks, or the number of proxies where their addresses are not
known. The parsing is uvicorn's (several header lines, `address:port`, `[v6]:port`).
"""

import ipaddress
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

FORWARDED_FOR = "x-forwarded-for"
MOST_PROXIES = 10
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_LONGEST_PREFIX = 200

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parsed_trust(trusted: str) -> int | list[Network]:
    """A number of proxies, or the networks they are in.

    Raises:
        ValueError: it is neither.
    """
    if trusted.strip().isdecimal():
        if int(trusted) > MOST_PROXIES:
            raise ValueError(f"at most {MOST_PROXIES} proxies may stand before the gateway")
        return int(trusted)
    return [ipaddress.ip_network(each.strip(), strict=False) for each in trusted.split(",")]


class TrustedProxies:
    """ASGI middleware that puts the caller's address, scheme, host and path prefix into the scope.

    Args:
        app: what is behind it.
        trusted: as `parsed_trust` takes it.
        root_path: the path before ours where no proxy says it.
    """

    def __init__(self, app: ASGIApp, trusted: str, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path
        believed = parsed_trust(trusted)
        self._count = believed if isinstance(believed, int) else 0
        self._networks = [] if isinstance(believed, int) else believed
        hosts = ["*"] if self._count else [str(network) for network in self._networks]
        self._addresses = ProxyHeadersMiddleware(self._behind, trusted_hosts=hosts)  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = {**scope, "headers": list(scope["headers"])}
        if not self._believes(scope):
            _put_under(scope, self._root_path)
            await self._app(scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        if self._count:
            _keep_hop(headers, self._count)
        scheme = _first(headers, "x-forwarded-proto").lower()
        if scheme:
            headers["x-forwarded-proto"] = scheme
        if host := _first(headers, "x-forwarded-host"):
            headers["host"] = host
        _put_under(scope, _prefix(headers) or self._root_path)
        await self._addresses(scope, receive, send)  # type: ignore[arg-type]

    async def _behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _believes(self, scope: Scope) -> bool:
        if self._count:
            return True
        try:
            peer = ipaddress.ip_address((scope.get("client") or ("",))[0])
        except ValueError:
            return False
        return any(peer in network for network in self._networks)


def _keep_hop(headers: MutableHeaders, count: int) -> None:
    """Of all addresses, on however many lines, only that which reached the outermost proxy we trust."""
    hops = [hop.strip() for line in headers.getlist(FORWARDED_FOR) for hop in line.split(",")]
    del headers[FORWARDED_FOR]
    if len(hops) >= count and hops[-count]:
        headers[FORWARDED_FOR] = hops[-count]


def _prefix(headers: Headers) -> str:
    prefix = _first(headers, "x-forwarded-prefix").rstrip("/")
    return prefix if len(prefix) <= _LONGEST_PREFIX and PREFIX.fullmatch(prefix) else ""


def _first(headers: Headers, name: str) -> str:
    return headers.get(name, "").partition(",")[0].strip()


def _put_under(scope: Scope, prefix: str) -> None:
    """Where the proxy has taken the prefix off the path, it is put back: that is how ASGI wants it."""
    scope["state"] = {**scope.get("state", {}), "path": scope["path"]}
    if not prefix:
        return
    scope["root_path"] = prefix
    if scope["path"] == prefix or scope["path"].startswith(prefix + "/"):
        scope["state"]["path"] = scope["path"].removeprefix(prefix)
        return
    scope["path"] = prefix + scope["path"]
    if scope.get("raw_path") is not None:
        scope["raw_path"] = prefix.encode() + scope["raw_path"]
