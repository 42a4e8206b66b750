"""Extraction: photos in, grids out, with decoding and encoding side by side.

Each worker thread decodes a batch and then encodes it. With one worker per core, one decodes while another
encodes, no core waits and none is shared: the rate comes near 1 / (1 / decoding + 1 / encoding), which is the
most that the cores can do.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter
from typing import TypeVar

import numpy as np

from captionloop.errors import EncoderError, ImageError
from captionloop.images import Pixels, load_views
from captionloop.views import View
from captionloop.vision.runtimes import EncoderRuntime
from captionloop.vision.shards import Grids

_AHEAD = 2
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Sight:
    """One view of one photo, to be encoded. `uri` finds the photo's bytes, `key` its place in the store."""

    uri: str
    key: str
    view: View


def extract(
    sights: Iterable[Sight], read: Callable[[Sight], bytes], runtime: EncoderRuntime, input_size: int
) -> Iterator[tuple[Sight, Grids]]:
    """Encodes every sight, in order; memory is bounded by a few batches per worker.

    Sights of one photo should follow each other: it is then read and decoded once.

    Raises:
        ImageError: a photo cannot be decoded; the message begins with its uri.
        EncoderError: what the encoder gives for a photo is not finite.
    """

    def work(batch: Sequence[Sight]) -> tuple[Sequence[Sight], Grids]:
        return batch, _finite(batch, runtime.encode(_pixels(batch, read, input_size)))

    for batch, grids in _map_ahead(work, _batches(sights, runtime.batch_size), runtime.workers):
        yield from zip(batch, grids, strict=True)


def _finite(batch: Sequence[Sight], grids: Grids) -> Grids:
    broken = np.flatnonzero(~np.isfinite(grids).reshape(len(grids), -1).all(axis=1))
    if len(broken):
        raise EncoderError(
            f"{batch[broken[0]].uri}: the encoder's features of this photo are not finite, or too large for"
            " float16: its weights are of a training that diverged, or are not those of its architecture"
        )
    return grids


def _pixels(batch: Sequence[Sight], read: Callable[[Sight], bytes], size: int) -> Pixels:
    pixels: list[Pixels] = []
    for uri, group in groupby(batch, attrgetter("uri")):
        sights = list(group)
        try:
            pixels += load_views(read(sights[0]), size, [sight.view for sight in sights])
        except ImageError as error:
            raise ImageError(f"{uri}: {error}") from error
    return np.stack(pixels)


def _batches(sights: Iterable[Sight], size: int) -> Iterator[Sequence[Sight]]:
    remaining = iter(sights)
    while batch := list(islice(remaining, size)):
        yield batch


def _map_ahead(
    function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int
) -> Iterator[_Result]:
    """`map` in threads, in order, that never runs more than a few items ahead of its reader."""
    with ThreadPoolExecutor(workers, thread_name_prefix="extract") as pool:
        pending: deque[Future[_Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= workers * _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
