"""An OpenTelemetry collector for tests: keeps what it is sent over OTLP."""

import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class SpanCollector:
    """Listens on a port of its own until it is closed."""

    def __init__(self) -> None:
        spans: list[Span] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sent = ExportTraceServiceRequest.FromString(body)
                spans.extend(
                    span for of in sent.resource_spans for scope in of.scope_spans for span in scope.spans
                )
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._spans = spans
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def traces(self) -> list[dict[str, Span]]:
        """The traces so far, each with its spans by name."""
        found: dict[bytes, dict[str, Span]] = defaultdict(dict)
        for span in list(self._spans):
            found[span.trace_id][span.name] = span
        return list(found.values())

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
