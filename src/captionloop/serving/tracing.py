"""OpenTelemetry traces, if somebody collects them: off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set."""

import os
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span


def trace_requests(app: FastAPI, service: str, exporter: "SpanExporter | None" = None) -> bool:
    """Send a trace of every request, with its stages, to the collector; whether there is one.

    Without an `exporter` it is one that reads the standard variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, ...).
    """
    if exporter is None and not (
        os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    ):
        return False
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # No events: those that the instrumentation makes are exceptions with their messages and stack traces.
    provider = TracerProvider(
        resource=Resource.create({SERVICE_NAME: service}), span_limits=SpanLimits(max_events=0)
    )
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=provider, excluded_urls="livez,readyz,metrics",
        exclude_spans=["receive", "send"], server_request_hook=_without_query,
    )  # fmt: skip
    return True


def _without_query(span: "Span", scope: dict[str, Any]) -> None:
    """What callers write behind the question mark is theirs: a key by mistake, or words."""
    for name in ("http.url", "http.target", "url.full", "url.query"):
        if name in (getattr(span, "attributes", None) or {}):
            span.set_attribute(name, "" if name == "url.query" else scope.get("path", ""))
