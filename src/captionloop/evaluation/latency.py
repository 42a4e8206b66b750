"""Latency and throughput of a captioner on this machine, kept apart from the scores, which are repeatable."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captionloop.evaluation.evaluation_set import LatencyParameters
from captionloop.evaluation.predictions import GREEDY, greedy

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner
    from captionloop.captioner.model_config import DecodingOptions
    from captionloop.vision.feature_store import CachedFeatures


@dataclass(frozen=True)
class Latency:
    """Of one way to decode: one photo from its bytes to its caption (ms), and many at once (captions/s)."""

    p50_ms: float
    p95_ms: float
    from_photos_per_second: float
    from_features_per_second: float


def measure_latency(
    captioner: "Captioner",
    photos: Sequence[bytes],
    features: "CachedFeatures",
    sha256s: Sequence[str],
    parameters: LatencyParameters,
) -> dict[str, Any]:
    """Captions some photos one by one and in batches, with the bundle's own search and greedily.

    Args:
        captioner: whose speed it is.
        photos: encoded, at least one; taken round and round.
        features: cached features.
        sha256s: of the photos whose features are decoded.
        parameters: how many.

    Returns:
        `{machine, systems: {name: Latency}}`, the systems named as in the evaluation.
    """
    decodings = {captioner.name: captioner.decoding, f"{captioner.name}.{GREEDY}": greedy(captioner.decoding)}
    captioner.caption(photos[:1])  # makes the encoder's runtime, and warms the caches
    grids = features.grids(sha256s[: parameters.batch])
    systems = {
        name: asdict(_measure(captioner, photos, grids, decoding, parameters))
        for name, decoding in decodings.items()
    }
    return {"machine": _machine(), "systems": systems}


def latencies(measured: Sequence[Mapping[str, Any]]) -> dict[str, Latency]:
    """All systems of several models' measurements."""
    return {name: Latency(**values) for one in measured for name, values in one["systems"].items()}


def _measure(
    captioner: "Captioner",
    photos: Sequence[bytes],
    grids: Any,
    decoding: "DecodingOptions",
    parameters: LatencyParameters,
) -> Latency:
    single_photos = [[photos[i % len(photos)]] for i in range(parameters.photos)]
    seconds = [_seconds(partial(captioner.caption, photo, decoding)) for photo in single_photos]
    batch = [photos[i % len(photos)] for i in range(parameters.batch)]
    from_photos = [_seconds(lambda: captioner.caption(batch, decoding)) for _ in range(parameters.batches)]
    from_features = [
        _seconds(lambda: captioner.caption_grids(grids, decoding)) for _ in range(parameters.batches)
    ]
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return Latency(
        p50_ms=float(p50),
        p95_ms=float(p95),
        from_photos_per_second=len(batch) / float(np.median(from_photos)),
        from_features_per_second=len(grids) / float(np.median(from_features)),
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _machine() -> str:
    """Processor and cores, in words."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open() as lines:
            model = next(
                (line.split(":", 1)[1].strip() for line in islice(lines, 64) if "model name" in line), model
            )
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} {'core' if cores == 1 else 'cores'}"
