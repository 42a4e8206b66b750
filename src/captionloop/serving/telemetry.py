"""Prometheus metrics, OpenTelemetry traces, and gauges of the loop behind the service.

Labels never hold anything that a caller made up: routes are templates, versions come from the registry.

Nobody scrapes a pipeline that runs for minutes. So the gateway shows the newest drift report, and the model
server, which asks the registry anyway, when a retraining last came through.
"""

import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import structlog
from fastapi import FastAPI
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import BaseModel, ValidationError

from captionloop.errors import CaptionloopError, without_passwords
from captionloop.serving.service_settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
_FRACTIONS = tuple(step / 10 for step in range(1, 11))

REQUESTS = Counter(
    "captionloop_requests", "Requests answered, by route and status", ["method", "route", "status"]
)
LATENCY = Histogram(
    "captionloop_request_seconds", "Time from the first byte to the answer", ["route"], buckets=_SECONDS
)
STAGE = Histogram(
    "captionloop_stage_seconds",
    "Time a caption spends in each stage: upload, decode, model, store",
    ["stage"],
    buckets=_SECONDS,
)
IN_FLIGHT = Gauge(
    "captionloop_captions_in_flight", "Captions under way in the gateway", multiprocess_mode="livesum"
)
UPLOAD_BYTES = Gauge(
    "captionloop_upload_bytes", "Memory reserved for bodies under way", multiprocess_mode="livesum"
)
REFUSED = Counter("captionloop_refused", "Requests refused, by kind of problem", ["problem"])
WRITES_WAITING = Gauge(
    "captionloop_writes_waiting",
    "Changes that wait to be written to the database",
    multiprocess_mode="livesum",
)

CONFIDENCE = Histogram(
    "captionloop_caption_confidence", "Confidence of served captions", ["version"], buckets=_FRACTIONS
)
LENGTH = Histogram(
    "captionloop_caption_words", "Words in served captions", ["version"],
    buckets=(1, 3, 5, 7, 9, 11, 13, 15, 20, 30),
)  # fmt: skip
CAPTIONS = Counter("captionloop_captions", "Captions served", ["version"])
UNFAMILIAR = Counter(
    "captionloop_unfamiliar_captions",
    "Captions served of photos that are unlike anything the model learnt from",
    ["version"],
)
OUTCOMES = Counter(
    "captionloop_outcomes",
    "Photos that the model server captioned, or its model could not, by version: captioned, failed",
    ["version", "outcome"],
)
RATINGS = Counter("captionloop_ratings", "Ratings taken, by model version and stars", ["version", "stars"])
CORRECTIONS = Counter("captionloop_corrections", "Ratings that came with a better caption", ["version"])
ERASURES = Counter("captionloop_erasures", "Captions erased on request")
PHOTOS_TO_REMOVE = Gauge(
    "captionloop_photos_to_remove",
    "Erased photos that are still in the archive, of those tried last",
    multiprocess_mode="livemostrecent",
)

QUEUE = Gauge(
    "captionloop_model_queue_images",
    "Photos with the model server, waiting or under way",
    multiprocess_mode="livesum",
)
BATCH = Histogram(
    "captionloop_batch_images", "Photos captioned at once", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
BATCH_SECONDS = Histogram("captionloop_batch_seconds", "Time the model takes for a batch", buckets=_SECONDS)
BATCH_FALLBACKS = Counter("captionloop_batch_fallbacks", "Batches that failed and were done one by one")
MODEL_INFO = Gauge(
    "captionloop_model_info", "1 for the model version that is served", ["name", "version"],
    multiprocess_mode="livemax",
)  # fmt: skip
MODEL_READY = Gauge("captionloop_model_ready", "Whether a model is loaded", multiprocess_mode="livemax")
SWAPS = Counter("captionloop_model_swaps", "Times another model version took over")
LOAD_FAILURES = Counter("captionloop_model_load_failures", "Model versions that could not be loaded")
LOAD_SECONDS = Histogram(
    "captionloop_model_load_seconds",
    "Time to load and warm up a model",
    buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60),
)
TRIALS = Counter(
    "captionloop_trial_photos",
    "Photos for the version that is tried: captioned, failed, and of a shadow dropped",
    ["role", "version", "outcome"],
)
SHADOW_AGREED = Counter(
    "captionloop_shadow_agreed", "Photos of which the shadow said the same as the champion", ["version"]
)
TRIAL_READY = Gauge(
    "captionloop_trial_ready", "Whether the version that is tried runs", ["role", "version"],
    multiprocess_mode="livesum",
)  # fmt: skip
TRIAL_FAILURES = Counter(
    "captionloop_trial_failures", "Times the version that is tried could not be loaded, or ended", ["version"]
)
TRIAL_SECONDS = Histogram(
    "captionloop_trial_batch_seconds", "Time that the version that is tried takes for a batch", ["role"],
    buckets=_SECONDS,
)  # fmt: skip

DRIFT_SIGNAL = Gauge(
    "captionloop_drift_signal", "How far what is seen is from the training data, by signal", ["signal"],
    multiprocess_mode="livemostrecent",
)  # fmt: skip
DRIFTED = Gauge(
    "captionloop_drifted", "1 if the newest drift report speaks of drift", multiprocess_mode="livemostrecent"
)
RETRAINED = Gauge(
    "captionloop_retraining_last_success_timestamp_seconds",
    "When a retraining last came through with a registered candidate, promoted or not",
    multiprocess_mode="livemostrecent",
)
RETRAINING_ENDED = Gauge(
    "captionloop_retraining_last_end_timestamp_seconds",
    "When a retraining last came to its end, whatever came of it",
    multiprocess_mode="livemostrecent",
)


def exposition() -> bytes:
    """All metrics of this service's processes in Prometheus' text format."""
    return generate_latest(_registry())


def serve_metrics(port: int) -> None:
    """Show them on a port of their own, so that who may look at a model server may not use it."""
    start_http_server(port, registry=_registry())


def _registry() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


_is_on = False


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
    global _is_on  # noqa: PLW0603 - as OpenTelemetry's provider is, for the whole process
    _is_on = True
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=provider, excluded_urls="livez,readyz,metrics",
        exclude_spans=["receive", "send"], server_request_hook=_without_query,
    )  # fmt: skip
    return True


def traced_stage(name: str) -> AbstractContextManager[None]:
    """A span around a stage of a request; nothing where nobody collects them: one that leads nowhere takes
    its time, too.
    """
    return _span(name) if _is_on else nullcontext()


@contextmanager
def _span(name: str) -> Iterator[None]:
    from opentelemetry import trace

    tracer = trace.get_tracer("captionloop.gateway")
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
        try:
            yield
        except Exception:
            span.set_status(trace.StatusCode.ERROR)  # without words: the error's may be the caller's
            raise


def _without_query(span: "Span", scope: dict[str, Any]) -> None:
    """What callers write behind the question mark is theirs: a key by mistake, or words."""
    for name in ("http.url", "http.target", "url.full", "url.query"):
        if name in (getattr(span, "attributes", None) or {}):
            span.set_attribute(name, "" if name == "url.query" else scope.get("path", ""))


logger = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
REPORTS = ("08_reporting/*/drift.json", "runs/*/08_reporting/*/drift.json")
"""Where pipelines leave drift reports, below the project's `data/`."""


class DriftSignal(BaseModel):
    """One thing that is compared with the training data; without a value there is too little to tell."""

    name: str
    value: float | None


class DriftReport(BaseModel):
    """What the drift pipeline writes, as far as it is shown here."""

    signals: list[DriftSignal]
    drifted: bool
    model: str | None = None
    """The registered model whose photos were looked at; older reports do not say."""


def read_drift(settings: Settings) -> DriftReport | None:
    """The newest drift report, or `None` where there is none yet, or it cannot be read.

    Of the project's reports it is the newest that is not about another registered model than ours.
    """
    uri = settings.drift_report.get_secret_value()
    if uri:
        return _read(uri)
    for file in _reports(settings.state.absolute().parent):
        report = _read(str(file))
        if report is None or not settings.registry_name or report.model in {None, settings.registry_name}:
            return report
    return None


def _read(where: str) -> DriftReport | None:
    try:
        with fsspec.open(where, "rt", encoding="utf-8") as file:
            return DriftReport.model_validate(json.load(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError) as error:
        logger.warning("drift report not read", where=without_passwords(where), reason=type(error).__name__)
        return None


def show_drift(report: DriftReport | None) -> None:
    """Set the metrics to what the report says."""
    if report is None:
        return
    DRIFTED.set(report.drifted)
    for signal in report.signals:
        # One that is silent is no number: neither its last value, nor 0, which would say that all is fine.
        DRIFT_SIGNAL.labels(signal.name).set(math.nan if signal.value is None else signal.value)


Moment = Callable[[], datetime | None]


def show_retraining(last_registered: Moment, last_ended: Moment) -> None:
    """Set the metrics to when the newest version was registered, and when a retraining last ended."""
    for moment_of, metric in ((last_registered, RETRAINED), (last_ended, RETRAINING_ENDED)):
        try:
            moment = moment_of()
        except CaptionloopError as error:
            logger.debug("registry not asked", reason=str(error))
            return
        if moment is not None:
            metric.set(moment.timestamp())


def run_periodically(action: Callable[[], None], seconds: float = LOOK_SECONDS) -> threading.Event:
    """Call it now and then, in a thread of its own, until the event that is returned is set."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            try:
                action()
            except Exception:
                logger.exception("not looked at; tried again in a minute")
            stopped.wait(seconds)

    threading.Thread(target=run, name="loop-watch", daemon=True).start()
    return stopped


def _reports(data: Path) -> list[Path]:
    """All drift reports of a project, the newest first."""
    found = [file for pattern in REPORTS for file in data.glob(pattern)]
    return sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)
