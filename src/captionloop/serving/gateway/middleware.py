"""The outermost layer of the gateway: limits, ids, hung-up callers, problem documents for every request.

A request id, security headers, bounds on the body's size and time, one line of log without any content,
metrics, and a problem document for whatever went wrong inside. Written as plain ASGI, so that nothing is
buffered.
"""

import asyncio
import re
import uuid
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any, TypeVar

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captionloop.ratings.rating_tables import KEY
from captionloop.serving.gateway.problems import (
    BODY_TOO_LARGE,
    INTERNAL,
    MEDIA_TYPE_UNSUPPORTED,
    ORIGIN_REFUSED,
    UPLOAD_TOO_SLOW,
    Problem,
    document,
)
from captionloop.serving.gateway.uploads import media_type
from captionloop.serving.service_settings import Settings
from captionloop.serving.telemetry import LATENCY, REFUSED, REQUESTS

T = TypeVar("T")


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; it is cancelled, wherever it has got to, when the caller hangs up.

    The request's body must have been read.

    Raises:
        ClientDisconnect: nobody waits for the result any more.
    """
    task = asyncio.ensure_future(work)
    disconnected = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        disconnected.cancel()
        task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


logger = structlog.get_logger("captionloop.access")

SMALL_BODY_BYTES = 65_536
"""Bodies that are no photo."""
CLIENT_GONE = 499
"""Counted for callers (or balancers) that hung up while they sent; nginx uses this number too."""
GRACE_SECONDS = 5.0
"""Before a body must come at the least rate: connections are slow to begin."""
LINGER_SECONDS = 2.0
"""How long a refused body is still taken off the wire (and dropped),
so that its sender gets to read the refusal.
"""

LIMIT_HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_QUIET = {"/livez", "/readyz", "/metrics"}
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
}


class RequestMiddleware:
    """ASGI middleware around the whole gateway."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._settings = settings
        self._app = self._with_cors(app)

    def _with_cors(self, app: ASGIApp) -> ASGIApp:
        """What answers, with the headers that let pages of other origins read the answer."""
        if not self._settings.allowed_origins:
            return app
        return CrossOrigin(
            app,
            allow_origins=self._settings.allowed_origins,
            allow_methods=("GET", "POST", "PUT", "DELETE"),
            allow_headers=("Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "X-Request-ID"),
            expose_headers=("Location", "X-Request-ID", "Retry-After", *LIMIT_HEADERS),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sent_id = headers.get("x-request-id", "")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        writer = _ResponseWriter(send, request_id, private=_path(scope).startswith("/v1/"))
        if scope["method"] == "HEAD":  # whatever can be got can be asked for without its body
            writer.headers_only = True
            scope = {**scope, "method": "GET"}
        began = perf_counter()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self._handle(scope, headers, receive, writer)
        finally:
            method = "HEAD" if writer.headers_only else scope["method"]
            self._record(scope, method, writer.status, perf_counter() - began)
            structlog.contextvars.unbind_contextvars("request_id")

    async def _handle(
        self, scope: Scope, headers: Headers, receive: Receive, writer: "_ResponseWriter"
    ) -> None:
        body = Body(
            receive,
            self._limit(scope, headers),
            self._settings.upload_seconds,
            self._settings.upload_bytes_per_second,
        )
        writer.body = body
        scope["state"]["body"] = body
        try:
            refuse_encoded(headers)
            body.check_announced(headers.get("content-length"))
            await self._app(scope, body.receive, writer.send)
        except Problem as problem:
            count_refusal(problem)
            await self._refuse(problem, scope, body, writer)
        except ClientDisconnect:
            writer.status = CLIENT_GONE  # nobody is left to be answered, and it was no mistake of ours
        except Exception:
            logger.exception("request failed", route=_route(scope))
            if not writer.started:
                detail = "The service made a mistake; it was logged under this request id."
                await self._refuse(Problem(INTERNAL, detail), scope, body, writer)

    async def _refuse(self, problem: Problem, scope: Scope, body: "Body", writer: "_ResponseWriter") -> None:
        response = document(problem, path=scope["path"], request_id=writer.request_id)
        if problem.kind is not ORIGIN_REFUSED:
            await self._with_cors(response)(scope, body.receive, writer.send)
        else:
            await response(scope, body.receive, writer.send)

    def _limit(self, scope: Scope, headers: Headers) -> int:
        if _path(scope) != "/v1/captions":
            return SMALL_BODY_BYTES
        if media_type(headers) == "application/json":
            return self._settings.max_body_bytes * 4 // 3 + SMALL_BODY_BYTES
        return self._settings.max_body_bytes + SMALL_BODY_BYTES

    @staticmethod
    def _record(scope: Scope, method: str, status: int, seconds: float) -> None:
        route = _route(scope)
        REQUESTS.labels(method if route != "other" else "other", route, str(status)).inc()
        LATENCY.labels(route).observe(seconds)
        if route not in _QUIET:
            logger.info(
                "request",
                method=method,
                route=route,
                status=status,
                milliseconds=round(seconds * 1000, 1),
                **_key(scope),
            )


def _path(scope: Scope) -> str:
    """The path as we know it, without what a proxy has before it."""
    return str(scope["state"].get("path", scope["path"]))


def _route(scope: Scope) -> str:
    """The route's template, which holds nothing that a caller made up."""
    return getattr(scope.get("route"), "path", None) or "other"


def _key(scope: Scope) -> dict[str, str]:
    """The id of the key that was shown, if it was a valid one: never its secret, and of people nothing."""
    rater = getattr(scope["state"].get("caller"), "rater", "")
    return {"key": rater.removeprefix(KEY)} if rater.startswith(KEY) else {}


def refuse_encoded(headers: Headers) -> None:
    """Refuse a compressed body: photos are compressed already, and a few bytes can unpack to gigabytes."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise Problem(
            MEDIA_TYPE_UNSUPPORTED,
            "Content-Encoding is not supported: send the body as it is, without compressing it.",
            headers={"Accept-Encoding": "identity"},
        )


class CrossOrigin(CORSMiddleware):
    """Starlette's, which answers what is not allowed with a problem document."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a browser asks before a page of another origin may call."""
        response = super().preflight_response(request_headers)
        if response.status_code == 400:
            raise Problem(ORIGIN_REFUSED, f"{bytes(response.body).decode()}: see CAPTIONLOOP_CORS_ORIGINS.")
        return response


class _ResponseWriter:
    """Sends a response with the common headers, and records its status."""

    def __init__(self, send: Send, request_id: str, *, private: bool) -> None:
        self._send = send
        self._private = private
        self.request_id = request_id
        self.status = 500
        self.started = False
        self.headers_only = False
        self.body: Body | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start(message)
        elif self._must_drain and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            assert self.body is not None
            await self.body.drain()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        elif self.headers_only:
            message = {**message, "body": b""}
        await self._send(message)

    @property
    def _must_drain(self) -> bool:
        return self.status >= 400 and self.body is not None and not self.body.complete

    def _start(self, message: Message) -> None:
        self.started = True
        self.status = message["status"]
        headers = MutableHeaders(scope=message)
        headers["X-Request-ID"] = self.request_id
        if self._private:
            headers.setdefault("Cache-Control", "no-store")
        if self._must_drain:
            headers["Connection"] = "close"
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)


class Body:
    """A request's body, bounded in bytes and time while it is read, and from below in how fast it comes.

    `arrived` is called with the number of bytes whenever some have come, and may refuse them.
    """

    def __init__(self, receive: Receive, limit: int, seconds: float, least_rate: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seconds = seconds
        self._least_rate = least_rate
        self._began = asyncio.get_running_loop().time()
        self._read = 0
        self.complete = False
        self.arrived: Callable[[int], None] = _ignore_bytes

    def check_announced(self, content_length: str | None) -> None:
        """Refuse a body that is announced as too large before a byte of it is read."""
        if content_length is not None and content_length.isdecimal() and int(content_length) > self._limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next piece, as ASGI has it. Raises `Problem`, if it is too much or too late."""
        if self.complete:
            return await self._receive()  # waits for the disconnect, however long that takes
        try:
            async with asyncio.timeout_at(self._deadline()):
                message = await self._receive()
        except TimeoutError:
            raise Problem(
                UPLOAD_TOO_SLOW,
                f"The body did not arrive within {self._seconds:.0f} seconds, or stood still; send it again.",
            ) from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._read += size
            self.complete = not message.get("more_body", False)
            if self._read > self._limit:
                raise self._too_large()
            self.arrived(size)
        else:
            self.complete = True
        return message

    def _deadline(self) -> float:
        """When the next bytes must be there: before all must, and before they fall behind the least rate."""
        return self._began + min(self._seconds, GRACE_SECONDS + self._read / self._least_rate)

    async def drain(self) -> None:
        """Drop what still comes, for a moment."""
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.complete:
                    message = await self._receive()
                    self.complete = message["type"] != "http.request" or not message.get("more_body", False)
        except TimeoutError:
            pass

    def _too_large(self) -> Problem:
        return Problem(
            BODY_TOO_LARGE,
            f"At most {self._limit / 1e6:.1f} MB are taken; make the photo smaller and send it again.",
        )


def _ignore_bytes(size: int) -> None:
    """Ignores the number of bytes."""
    del size


def count_refusal(problem: Problem) -> None:
    """Every problem is counted by its kind."""
    REFUSED.labels(problem.kind.name).inc()
