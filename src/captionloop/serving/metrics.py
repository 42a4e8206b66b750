"""What Prometheus gets to see. Gateway and model server write to one directory, so `/metrics` tells of both.

Labels never hold anything that a caller made up: routes are templates, versions come from the registry.
"""

import os

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
