"""Uvicorn's HTTP/1.1, but for three things that callers run into.

`Upgrade: h2c` is an offer that a server may ignore (RFC 9110, 7.8). Java's HTTP client and `curl --http2`
make it with every first request. The parser takes whatever follows the headers for the other protocol and
drops it: the photo arrived empty. A WebSocket is such an offer, too: we have none. And a connection whose
headers never come to an end was held for ever. What is no request to us is answered with a problem document,
like every other error.
"""

import asyncio
import uuid
from typing import Any

import httptools
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from captionloop.serving.problems import MALFORMED, Problem, document

HEAD_SECONDS = 20.0
_OFFER = {b"upgrade", b"http2-settings", b"connection"}


class PatientProtocol(HttpToolsProtocol):
    """Goes on in HTTP/1.1 where another protocol was offered; ends connections whose headers do not come."""

    _head_timer: asyncio.TimerHandle | None = None
    _offered = False

    def connection_made(self, transport: Any) -> None:
        """Begin a connection, and the time within which its first headers must be there."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came over the wire."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self.parser.get_method() == b"CONNECT":  # no offer: it wants a proxy
                self.send_400_response("CONNECT is not taken: this is no proxy.")
            else:
                self._go_on(data[offer.args[0] :])
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
        self._offered = self.parser.should_upgrade()
        if not self._offered:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is whole; one with an offer is read again, without it."""
        if not self._offered:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, as every other error is answered."""
        request_id = uuid.uuid4().hex
        answer = document(Problem(MALFORMED, msg), path="", request_id=request_id)
        head = [b"HTTP/1.1 400 Bad Request", b"connection: close", b"x-request-id: " + request_id.encode()]
        head += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(answer.body)]))
        self.transport.close()

    def _go_on(self, rest: bytes) -> None:
        """Parse the same request as if nothing had been offered."""
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", self.parser.get_http_version().encode()]
        for name, value in self.headers:
            if name not in _OFFER:
                head += [b"\r\n", name, b": ", value]
        if not self.parser.should_keep_alive():
            head.append(b"\r\nconnection: close")
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join([*head, b"\r\n\r\n"]) + rest)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def use_patient_protocol() -> None:
    """Let uvicorn use it where it may choose; BentoML, which starts uvicorn, leaves it the choice."""
    auto.AutoHTTPProtocol = PatientProtocol
