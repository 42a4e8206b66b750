"""Uvicorn's HTTP/1.1 with a few corrections, and what trusted proxies say of the caller.

Whom to believe is a list of addresses and networks, or the number of proxies where their addresses are not
known. The parsing is uvicorn's (several header lines, `address:port`, `[v6]:port`).

`Upgrade: h2c` is an offer that a server may ignore (RFC 9110, 7.8). Java's HTTP client and `curl --http2`
make it with every first request. The parser takes whatever follows the headers for the other protocol and
drops it: the photo arrived empty. A WebSocket is such an offer, too: we have none. And a connection whose
headers never come to an end, or whose answer nobody reads, was held for ever; headers, and what else is no
body (the parser keeps all of it), might be of any size. What is no request to us is answered with a problem
document, like every other error.
"""

import asyncio
import ipaddress
import re
import uuid
from http import HTTPStatus
from typing import Any

import httptools
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from captionloop.serving.gateway.problems import HEAD_TOO_LARGE, MALFORMED, Problem, document

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
        proxies = parsed_trust(trusted)
        self._count = proxies if isinstance(proxies, int) else 0
        self._networks = [] if isinstance(proxies, int) else proxies
        hosts = ["*"] if self._count else [str(network) for network in self._networks]
        self._addresses = ProxyHeadersMiddleware(self._behind, trusted_hosts=hosts)  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = {**scope, "headers": list(scope["headers"])}
        if not self._is_trusted(scope):
            _set_root_path(scope, self._root_path)
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
        _set_root_path(scope, _prefix(headers) or self._root_path)
        await self._addresses(scope, receive, send)  # type: ignore[arg-type]

    async def _behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _is_trusted(self, scope: Scope) -> bool:
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


def _set_root_path(scope: Scope, prefix: str) -> None:
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


HEAD_SECONDS = 20.0
"""Within which the headers of a request must be there."""
READ_SECONDS = 60.0
"""Within which somebody must have taken the next 64 kB or so of an answer."""
MOST_HEAD_BYTES = 65_536
_OFFER = {b"upgrade", b"http2-settings", b"connection"}


class PatientProtocol(HttpToolsProtocol):
    """Goes on in HTTP/1.1 where another protocol was offered; ends connections whose headers do not come, or
    do not end, and those whose answers nobody reads.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None
    _offered = False
    _too_long = False
    _no_body = 0
    """Bytes that came since there was a piece of a body, or the end of something."""

    def connection_made(self, transport: Any) -> None:
        """Begin a connection, and the time within which its first headers must be there."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self._stop_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Nobody reads what is sent, at the moment."""
        super().pause_writing()
        self._read_timer = self._read_timer or self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It is read again."""
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Take what came over the wire."""
        self._unset_keepalive_if_required()
        if self.cycle is None or self.cycle.response_complete:
            self._start_timer()  # another request begins
        self._no_body += len(data)
        self._parse(data)
        if self._too_long or self._no_body > MOST_HEAD_BYTES:
            self._refuse(
                Problem(HEAD_TOO_LARGE, f"At most {MOST_HEAD_BYTES // 1024} kB of headers are taken.")
            )

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self.parser.get_method() == b"CONNECT":  # no offer: it wants a proxy
                self.send_400_response("CONNECT is not taken: this is no proxy.")
            else:
                self._restart_parsing(data[offer.args[0] :])
        except httptools.HttpParserError:
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._offered = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A request's headers are there."""
        self._stop_timer()
        self._no_body = 0
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        self._too_long = self._too_long or size > MOST_HEAD_BYTES
        self._offered = self.parser.should_upgrade()
        if not self._offered and not self._too_long:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a request's body is there."""
        self._no_body = 0
        if not self._too_long:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole; one with an offer is read again, without it."""
        self._no_body = 0
        if not self._offered and not self._too_long:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, as every other error is answered."""
        self._refuse(Problem(MALFORMED, msg))

    def _refuse(self, problem: Problem) -> None:
        """Answer what is no request to us, and end the connection."""
        if self.transport.is_closing():
            return
        request_id, status = uuid.uuid4().hex, HTTPStatus(problem.kind.status)
        answer = document(problem, path="", request_id=request_id)
        head = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
        head += [b"connection: close", b"x-request-id: " + request_id.encode()]
        head += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(answer.body)]))
        self.transport.close()

    def _restart_parsing(self, rest: bytes) -> None:
        """Parse the same request as if nothing had been offered."""
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", self.parser.get_http_version().encode()]
        for name, value in self.headers:
            if name not in _OFFER:
                head += [b"\r\n", name, b": ", value]
        if not self.parser.should_keep_alive():
            head.append(b"\r\nconnection: close")
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join([*head, b"\r\n\r\n"]) + rest)

    def _start_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def use_patient_protocol() -> None:
    """Let uvicorn use it where it may choose; BentoML, which starts uvicorn, leaves it the choice."""
    auto.AutoHTTPProtocol = PatientProtocol
