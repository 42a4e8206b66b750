"""Scores in, bootstrap confidence intervals out: of each metric, and of the difference of two systems.

Efron 1979; Koehn 2004 for paired systems.

A resample draws as many images as there are, with replacement. Every metric is computed again on each from
the per-image statistics, exactly: a thousand resamples are one matrix product.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from captionloop.errors import ScoringError
from captionloop.scoring.scores import Scores

Floats = NDArray[np.float64]

RESAMPLES = 1000
_BLOCK = 1 << 24  # weights held at once


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval: of the bootstrap (percentiles), where nothing else is said."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """`{value, low, high}`, as reports keep it."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """How two systems differ on the same images.

    Attributes:
        metric: its name.
        interval: of the second minus the first; above 0 the second is better.
        probability: the share of resamples in which the second is better (ties count half).
    """

    metric: str
    interval: Interval
    probability: float


def interval(value: float, samples: Floats, confidence: float = 0.95) -> Interval:
    """A value with the middle 95 % of its `samples`, or as many as `confidence` says."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(samples, [tail, 100 - tail])
    return Interval(float(value), float(min(low, value)), float(max(high, value)))


def bootstrap(scores: Scores, *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Each metric with its 95 % interval.

    Raises:
        ScoringError: fewer than one resample was asked for.
    """
    samples = _resampled(scores, None, seed, resamples)
    return {metric: interval(value, samples[metric]) for metric, value in scores.values.items()}


def mean_interval(values: Floats, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean of one value for each image, with its 95 % interval."""
    random = np.random.default_rng(seed)
    images = len(values)
    weights = random.multinomial(images, np.full(images, 1 / images), size=resamples)
    return interval(float(np.mean(values)), weights @ values / images)


def sign_flip_interval(values: Floats, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean of one difference for each image, with the 95 % interval of a permutation test.

    If two systems are equally good on each image, it is chance which of the two got which score, so every
    difference could as well have the other sign (Fisher 1935; Noreen 1989). The interval lies wholly on one
    side of 0 where at most 2.5 % of these flips, the differences as they are among them, have a mean so far
    out: for such systems that error is exact with any number of images, and with few a bootstrap's is not.
    """
    mean = float(np.mean(values))
    flips = np.random.default_rng(seed).integers(0, 2, (resamples, len(values)), np.int8) * 2.0 - 1
    means = np.sort(flips @ values / len(values))[::-1]
    further_out = max(int(0.025 * (resamples + 1)) - 1, 0)
    reach = float(means[further_out])
    return Interval(mean, min(mean - reach, mean), max(mean + reach, mean))


def paired_differences(a: Scores, b: Scores, metric: str) -> Floats:
    """By how much system `b` is better than system `a` on each image, by a metric that is a mean over images.

    Raises:
        ScoringError: the two were scored on different images.
    """
    b = _in_order_of(a, b)
    difference: Floats = b.per_image[metric][:, 0] - a.per_image[metric][:, 0]
    return difference


def paired_bootstrap(
    a: Scores,
    b: Scores,
    metric: str,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Difference:
    """How much better system `b` is than system `a` by `metric`, on the same images, whatever their order.

    Both are computed on the same resamples, so what makes an image hard for both cancels out.

    Raises:
        ScoringError: the two were scored on different images, or one lacks the metric.
    """
    b = _in_order_of(a, b)
    for scores in (a, b):
        if metric not in scores.metrics:
            raise ScoringError(
                f"There is no metric {metric!r} to compare by: choose from {', '.join(a.metrics)}."
            )
    first = _resampled(a, (metric,), seed, resamples)[metric]
    second = _resampled(b, (metric,), seed, resamples)[metric]
    difference = second - first
    better = float(np.mean(difference > 0) + np.mean(difference == 0) / 2)
    value = b.values[metric] - a.values[metric]
    return Difference(metric, interval(value, difference, confidence), better)


def _resampled(scores: Scores, metrics: Sequence[str] | None, seed: int, resamples: int) -> dict[str, Floats]:
    if resamples < 1:
        raise ScoringError(
            f"A bootstrap of {resamples} resamples says nothing: ask for at least 1, better 1000."
        )
    images = len(scores.image_ids)
    random = np.random.default_rng(seed)
    rows = max(1, _BLOCK // images)
    chance = np.full(images, 1 / images)
    blocks = [
        scores.weighted(
            random.multinomial(images, chance, size=min(rows, resamples - done)).astype(np.float64), metrics
        )
        for done in range(0, resamples, rows)
    ]
    return {metric: np.concatenate([block[metric] for block in blocks]) for metric in blocks[0]}


def _in_order_of(a: Scores, b: Scores) -> Scores:
    if a.image_ids == b.image_ids:
        return b
    row = {image_id: i for i, image_id in enumerate(b.image_ids)}
    if set(row) != set(a.image_ids) or len(row) != len(a.image_ids):
        raise ScoringError(
            f"The two systems were scored on different images ({len(a.image_ids)} and {len(b.image_ids)}):"
            " evaluate both on the same split."
        )
    order = [row[image_id] for image_id in a.image_ids]
    return Scores(a.image_ids, {name: statistics[order] for name, statistics in b.per_image.items()})
