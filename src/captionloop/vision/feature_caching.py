"""Photos in, grids into the feature store: decodes and encodes what the store does not hold yet.

Each worker thread decodes a batch and then encodes it. With one worker per core, one decodes while another
encodes, no core waits and none is shared: the rate comes near 1 / (1 / decoding + 1 / encoding), which is the
most that the cores can do.
"""

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator

from captionloop.errors import ConfigurationError, CorpusError, EncoderError, ImageError
from captionloop.hardware import Precision
from captionloop.images import Pixels, load_views
from captionloop.photos import PhotoFolder
from captionloop.preprocessing import SQUASHED, Preprocessing, View, views_named
from captionloop.progress import progress
from captionloop.vision.encoder import Encoder, EncoderSpec
from captionloop.vision.feature_rows import Grids
from captionloop.vision.feature_store import FeatureManifest, FeatureStore
from captionloop.vision.ray_jobs import RayOptions, run_on_ray
from captionloop.vision.runtimes import EncoderRuntime, make_runtime, usable_precision

_AHEAD = 2
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class PhotoView:
    """One view of one photo, to be encoded. `uri` finds the photo's bytes, `key` its place in the store."""

    uri: str
    key: str
    view: View


def extract(
    photo_views: Iterable[PhotoView],
    read: Callable[[PhotoView], bytes],
    runtime: EncoderRuntime,
    input_size: int,
    preprocessing: Preprocessing = SQUASHED,
) -> Iterator[tuple[PhotoView, Grids]]:
    """Encodes every view of a photo, in order; memory is bounded by a few batches per worker.

    Views of one photo should follow each other: it is then read and decoded once.

    Raises:
        ImageError: a photo cannot be decoded; the message begins with its uri.
        EncoderError: what the encoder gives for a photo is not finite.
    """

    def work(batch: Sequence[PhotoView]) -> tuple[Sequence[PhotoView], Grids]:
        pixels = _pixels(batch, read, input_size, preprocessing)
        return batch, _finite(batch, runtime.encode(pixels))

    for batch, grids in _map_ahead(work, _batches(photo_views, runtime.batch_size), runtime.workers):
        yield from zip(batch, grids, strict=True)


def _finite(batch: Sequence[PhotoView], grids: Grids) -> Grids:
    broken = np.flatnonzero(~np.isfinite(grids).reshape(len(grids), -1).all(axis=1))
    if len(broken):
        raise EncoderError(
            f"{batch[broken[0]].uri}: the encoder's features of this photo are not finite, or too large for"
            " float16: its weights are of a training that diverged, or are not those of its architecture"
        )
    return grids


def _pixels(
    batch: Sequence[PhotoView], read: Callable[[PhotoView], bytes], size: int, preprocessing: Preprocessing
) -> Pixels:
    pixels: list[Pixels] = []
    for uri, group in groupby(batch, attrgetter("uri")):
        photo_views = list(group)
        try:
            pixels += load_views(
                read(photo_views[0]), size, [photo_view.view for photo_view in photo_views], preprocessing
            )
        except ImageError as error:
            raise ImageError(f"{uri}: {error}") from error
    return np.stack(pixels)


def _batches(photo_views: Iterable[PhotoView], size: int) -> Iterator[Sequence[PhotoView]]:
    remaining = iter(photo_views)
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


logger = logging.getLogger(__name__)


class CachingParameters(BaseModel):
    """What is cached, and which part of it by this process.

    Attributes:
        views: the views of each photo that are encoded (see `captionloop.preprocessing`).
        shard: `i/N`: this process is worker i of N, counted from 1; all of them may run at once.
        device: `cpu`, `cuda`, or None for the best there is.
        engine: `in_process`, or `ray`: as a Ray Data job, on this machine or a cluster.
        ray: how the job is laid out there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    views: tuple[str, ...] = ("whole",)
    shard: str = Field(default="1/1", json_schema_extra={"affects_result": False})
    device: str | None = Field(
        default=None, pattern=r"^(cpu|cuda(:\d+)?)$", json_schema_extra={"affects_result": False}
    )
    engine: Literal["in_process", "ray"] = Field(
        default="in_process", json_schema_extra={"affects_result": False}
    )
    ray: RayOptions = Field(default_factory=RayOptions, json_schema_extra={"affects_result": False})

    @field_validator("shard")
    @classmethod
    def _is_one(cls, shard: str) -> str:
        """Raises `ConfigurationError` before anything is computed."""
        WorkerShard.parse(shard)
        return shard


@dataclass(frozen=True)
class WorkerShard:
    """The photos that one of several workers takes, by their hash, so that workers need no coordination."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "WorkerShard":
        """Reads `i/N`.

        Raises:
            ConfigurationError: it is not of that form, or i is not between 1 and N.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise ConfigurationError(
                f"shard '{text}' is not i/N with i from 1 to N; write for example shard=1/4"
            )
        return cls(int(index), int(count))

    def takes(self, key: str) -> bool:
        """Whether a photo of this SHA-256 (hex) is this worker's."""
        return int(key[:12], 16) % self.count == self.index - 1

    @property
    def prefix(self) -> str:
        """What this worker's files are named after."""
        return f"{self.index}of{self.count}"


class CachingReport(BaseModel):
    """What a caching run did. `encoded` counts views of photos, `missing` photos left to other workers.

    `precision` is the one that the features were computed in, `fingerprint` the encoder's own.
    """

    photos: int
    views: tuple[str, ...]
    shard: str
    encoded: int
    found: int
    missing: int
    seconds: float
    images_per_second: float
    runtime: str
    precision: Precision
    fingerprint: str


def cache_features(
    images: pd.DataFrame,
    photos: PhotoFolder,
    encoder: Encoder,
    store: FeatureStore,
    parameters: CachingParameters,
) -> tuple[FeatureManifest, CachingReport]:
    """Brings the store up to date for this worker's share of the images; what is there is not computed again.

    `images` has the columns `uri` and `sha256`. Interrupted at any moment, the next run goes on from there.

    Features of two precisions are never mixed. Where this machine cannot compute in the encoder's precision,
    what the store holds of it is taken if it is whole; else all photos are encoded in the machine's own and
    stored under that fingerprint, beside the others.

    Raises:
        StoreError: the disk is full; all but the last shard is kept.
        CorpusError, ImageError: a photo is missing, has changed, or cannot be decoded.
        ConfigurationError: an unknown view or a malformed shard.
    """
    stored = _as_stored(images, encoder, store, parameters)
    return _cache(images, photos, encoder, store, parameters, stored=stored)


def _cache(
    images: pd.DataFrame,
    photos: PhotoFolder,
    encoder: Encoder,
    store: FeatureStore,
    parameters: CachingParameters,
    *,
    stored: Encoder,
) -> tuple[FeatureManifest, CachingReport]:
    begin = time.perf_counter()
    manifest = _manifest(images, encoder, stored, store, parameters.views)
    task = _WorkerTask(photos, store, manifest, WorkerShard.parse(parameters.shard))
    pending = list(task.pending(images))
    runtime = "none needed"
    if pending and parameters.engine == "ray":
        runtime = "Ray"
        _encode_on_ray(task, pending, stored, parameters)
    elif pending:
        engine = make_runtime(stored, device=parameters.device, purpose="throughput")
        _check_precision(stored, engine)
        runtime = engine.name
        logger.info("Encoding %d images with %s", len(pending), engine.name)
        with progress("Encoding", len(pending), "images") as advance:
            task.encode(pending, engine, encoder.spec, advance)
    seconds = time.perf_counter() - begin
    mine = sum(task.shard.takes(key) for key in manifest.photos) * len(manifest.views)
    return manifest, CachingReport(
        photos=len(manifest.photos),
        views=parameters.views,
        shard=parameters.shard,
        encoded=len(pending),
        found=mine - len(pending),
        missing=manifest.missing(),
        seconds=round(seconds, 3),
        images_per_second=round(len(pending) / seconds, 1),
        runtime=runtime,
        precision=stored.spec.precision,
        fingerprint=encoder.fingerprint,
    )


def cache_folders(
    photos: Sequence[tuple[PhotoFolder, pd.DataFrame]],
    encoder: Encoder,
    store: FeatureStore,
    parameters: CachingParameters,
) -> tuple[FeatureManifest, list[CachingReport]]:
    """As `cache_features`, for the photos of several folders: one manifest, and a report for each folder."""
    stored = _as_stored(pd.concat([images for _, images in photos]), encoder, store, parameters)
    done = [
        _cache(images.drop_duplicates(["uri", "sha256"]), folder, encoder, store, parameters, stored=stored)
        for folder, images in photos
    ]
    together = tuple(dict.fromkeys(photo for manifest, _ in done for photo in manifest.photos))
    return done[0][0].model_copy(update={"photos": together}), [report for _, report in done]


def _as_stored(
    images: pd.DataFrame, encoder: Encoder, store: FeatureStore, parameters: CachingParameters
) -> Encoder:
    """The encoder in the precision under which the features of these photos are kept."""
    precision = usable_precision(encoder.spec.precision, parameters.device)
    if precision == encoder.spec.precision:
        return encoder
    if not _manifest(images, encoder, encoder, store, parameters.views).missing():
        return encoder
    logger.warning(
        "Some photos have no features in %s: all are encoded in %s, and stored apart.",
        encoder.spec.precision,
        precision,
    )
    return encoder.respecified(precision=precision)


def _manifest(
    images: pd.DataFrame, encoder: Encoder, stored: Encoder, store: FeatureStore, views: Sequence[str]
) -> FeatureManifest:
    return FeatureManifest(
        fingerprint=encoder.fingerprint,
        rows=encoder.rows,
        columns=encoder.columns,
        channels=encoder.channels,
        views={view.name: stored.fingerprint_of(view) for view in views_named(views)},
        photos=tuple(dict.fromkeys(images["sha256"])),
        store=store.root,
    )


@dataclass(frozen=True)
class _WorkerTask:
    """The photos, store and shard of one worker, which encodes what its shard of the store lacks."""

    photos: PhotoFolder
    store: FeatureStore
    manifest: FeatureManifest
    shard: WorkerShard

    def pending(self, images: pd.DataFrame) -> Iterator[PhotoView]:
        """The views of this worker's photos that the store lacks, photo by photo."""
        mine = [key for key in self.manifest.photos if self.shard.takes(key)]
        missing = {name: set(self.store.missing(key, mine)) for name, key in self.manifest.views.items()}
        uris = images.drop_duplicates("sha256").set_index("sha256")["uri"]
        views = views_named(self.manifest.views)
        for key in mine:
            yield from (PhotoView(uris[key], key, view) for view in views if key in missing[view.name])

    def encode(
        self,
        pending: Sequence[PhotoView],
        runtime: EncoderRuntime,
        spec: EncoderSpec,
        advance: Callable[[int], object],
    ) -> None:
        """Encodes and stores them; each view's entries have a writer, and so files, of their own."""
        with ExitStack() as stack:
            writers = {
                name: stack.enter_context(self.store.writer(key)) for name, key in self.manifest.views.items()
            }
            encoded = extract(pending, self._read, runtime, spec.input_size, spec.preprocessing)
            for photo_view, grid in encoded:
                writers[photo_view.view.name].add(photo_view.key, grid)
                advance(1)

    def _read(self, photo_view: PhotoView) -> bytes:
        data = self.photos.read(photo_view.uri)
        if hashlib.sha256(data).hexdigest() != photo_view.key:
            raise CorpusError(
                f"photo {photo_view.uri} has changed since it was validated; run data_validation again"
            )
        return data


class _EncodingActor:
    """A process of the Ray job: it holds the encoder, and encodes and stores the photos of a task."""

    def __init__(self, task: _WorkerTask, stored: Encoder, device: str | None) -> None:
        self._task, self._spec = task, stored.spec
        self._runtime = make_runtime(stored, device=device, purpose="throughput")
        _check_precision(stored, self._runtime)

    def __call__(self, photos: Sequence[tuple[str, str, Sequence[str]]]) -> int:
        """Photos as (uri, SHA-256, names of views); how many images were encoded."""
        pending = [
            PhotoView(uri, key, view) for uri, key, names in photos for view in views_named(tuple(names))
        ]
        self._task.encode(pending, self._runtime, self._spec, lambda _: None)
        return len(pending)


def _encode_on_ray(
    task: _WorkerTask, pending: Sequence[PhotoView], stored: Encoder, parameters: CachingParameters
) -> None:
    photos = [
        (uri, key, [photo_view.view.name for photo_view in photo_views])
        for (uri, key), photo_views in groupby(pending, attrgetter("uri", "key"))
    ]
    logger.info("Encoding %d images of %d photos on Ray", len(pending), len(photos))
    with progress("Encoding", len(pending), "images") as advance:
        run_on_ray(_EncodingActor, (task, stored, parameters.device), photos, parameters.ray, advance)
    for fingerprint in task.manifest.views.values():
        # What a worker had stored and not told when it was killed, another one has encoded again.
        task.store.table(fingerprint).drop_duplicates()


def _check_precision(encoder: Encoder, runtime: EncoderRuntime) -> None:
    if runtime.precision != encoder.spec.precision:
        raise EncoderError(
            f"the encoder computes in {encoder.spec.precision}, but this machine has {runtime.name};"
            f" set encoder.precision to {runtime.precision}, so that features of both do not mix"
        )
