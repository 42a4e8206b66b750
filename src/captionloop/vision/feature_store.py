"""The feature store: grids of features by photo and view, read in batches, added and removed.

Key: the SHA-256 of the photo's bytes and the encoder's fingerprint. Value: the grid, float16
`[regions, channels]`, and its mean. Entries are only ever added, in immutable shards (see `shards`), so that
readers need no lock, several workers can fill one store, and a writer killed at any instant tears nothing.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import fsspec
import numpy as np
from pydantic import BaseModel, ConfigDict

from captionloop.errors import StoreError
from captionloop.vision.shards import CACHE, SUFFIX, Grids, Means, Shard, ShardFolder, shard_folder

SHARD_BYTES: Final = 64 << 20
"""How much a writer collects before it writes: what a kill can cost, and what a writer needs of memory."""


class FeatureStore:
    """A folder (local path or fsspec URI) of features."""

    def __init__(self, root: str | Path, *, cache: Path = CACHE, shard_bytes: int = SHARD_BYTES) -> None:
        self.root = str(root)
        self._cache = cache
        self._shard_bytes = shard_bytes

    def reader(self, fingerprint: str) -> "FeatureReader":
        """What the store holds of an encoder (or of one of its views) at this moment.

        Raises:
            StoreError: a shard is damaged.
        """
        return FeatureReader(self.shards(fingerprint), fingerprint)

    def writer(self, fingerprint: str, prefix: str = "whole") -> "FeatureWriter":
        """Adds features of an encoder; use it as a context. `prefix` keeps concurrent workers apart."""
        return FeatureWriter(self.shards(fingerprint), prefix, self._shard_bytes, self.root)

    def shards(self, fingerprint: str) -> ShardFolder:
        """The files of an encoder (or of one of its views)."""
        return shard_folder(self.root, fingerprint, self._cache)


class FeatureReader(Mapping[str, Grids]):
    """The features of one fingerprint by the photos' SHA-256 (hex). Safe in threads and across forks."""

    def __init__(self, folder: ShardFolder, fingerprint: str) -> None:
        self._shards = [Shard.open(folder.fetch(name), fingerprint) for name in folder.names()]
        if len({(shard.regions, shard.channels) for shard in self._shards}) > 1:
            raise StoreError(
                f"features of {fingerprint} have several shapes; delete that folder and cache again"
            )
        self._index: dict[str, tuple[int, int]] = {}
        for number, shard in enumerate(self._shards):
            for row, key in enumerate(shard.keys):
                self._index.setdefault(key, (number, row))

    @property
    def shape(self) -> tuple[int, int]:
        """Regions and channels; zeros where the store is empty."""
        return (self._shards[0].regions, self._shards[0].channels) if self._shards else (0, 0)

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def __getitem__(self, key: str) -> Grids:
        grid: Grids = self.grids([key])[0]
        return grid

    def grids(self, keys: Sequence[str]) -> Grids:
        """Grids float16 `[n, regions, channels]` of these photos, in this order.

        Raises:
            StoreError: a photo has no entry, or its entry is damaged.
        """
        out = np.empty((len(keys), *self.shape), np.float16)
        for shard, rows, places in self._by_shard(keys):
            shard.read_grids(rows, out, places)
        return out

    def means(self, keys: Sequence[str]) -> Means:
        """Means of the grids over their regions, float32 `[n, channels]`.

        Raises:
            StoreError: as `grids`.
        """
        out = np.empty((len(keys), self.shape[1]), np.float32)
        for shard, rows, places in self._by_shard(keys):
            shard.read_means(rows, out, places)
        return out

    def _by_shard(self, keys: Sequence[str]) -> list[tuple[Shard, list[int], list[int]]]:
        """Requests grouped by shard and in the order of the file, so that the disk is read forwards."""
        try:
            wanted = sorted((*self._index[key], place) for place, key in enumerate(keys))
        except KeyError as error:
            raise StoreError(
                f"photo {str(error)[1:13]} has no cached features; run feature_caching"
            ) from error
        groups: dict[int, tuple[list[int], list[int]]] = {}
        for number, row, place in wanted:
            rows, places = groups.setdefault(number, ([], []))
            rows.append(row)
            places.append(place)
        return [(self._shards[number], *group) for number, group in groups.items()]


class FeatureWriter:
    """Collects features and writes them shard by shard. What was flushed is durable."""

    def __init__(self, folder: ShardFolder, prefix: str, shard_bytes: int, root: str) -> None:
        self._folder = folder
        self._prefix = prefix
        self._shard_bytes = shard_bytes
        self._root = root
        self._keys: list[str] = []
        self._grids: Grids = np.empty((0, 0, 0), np.float16)
        self.written = 0

    def __enter__(self) -> Self:
        self._folder.tidy(self._prefix)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Whatever went wrong elsewhere, features that were computed are kept.
        if not isinstance(error, StoreError):
            self.flush()

    def add(self, key: str, grid: Grids) -> None:
        """Takes the grid `[regions, channels]` of the photo with this SHA-256 (hex).

        Raises:
            StoreError: the grid holds numbers that float16 cannot, or the disk is full.
        """
        if not np.isfinite(grid).all():
            raise StoreError(
                f"features of photo {key[:12]} overflow float16; the encoder's weights are unusable"
            )
        if not len(self._grids):
            self._grids = np.empty((max(1, self._shard_bytes // grid.nbytes), *grid.shape), np.float16)
        self._grids[len(self._keys)] = grid
        self._keys.append(key)
        if len(self._keys) == len(self._grids):
            self.flush()

    def flush(self) -> None:
        """Writes what has been collected.

        Raises:
            StoreError: the disk is full or fails; what was written before stays.
        """
        if not self._keys:
            return
        count, size = len(self._keys), self._grids[: len(self._keys)].nbytes
        try:
            self._folder.write(self._prefix, self._keys, self._grids[:count])
        except OSError as error:
            raise StoreError(
                f"cannot write {count} features ({size >> 20} MiB) to {self._root}:"
                f" {error.strerror or error}; those written before are safe:"
                " make room and run feature_caching again, it goes on from there"
            ) from error
        self.written += count
        self._keys = []


def missing_from(reader: FeatureReader, keys: Collection[str]) -> list[str]:
    """Those photos that have no entry, each once, in their order."""
    return [key for key in dict.fromkeys(keys) if key not in reader]


def drop_features(store: FeatureStore, photos: Collection[str]) -> int:
    """Removes what the store holds of these photos, of every encoder and view; how many entries those were.

    First a shard without them appears, then the one with them goes: killed in between, both are there, and
    the next time the rest is done. Who has opened the store before finds an entry of such a shard gone.

    Raises:
        StoreError: the store cannot be read or written, or a shard is damaged.
    """
    wanted = frozenset(photos)
    return sum(_drop(store.shards(name), name, wanted) for name in _fingerprints(store.root))


def held(store: FeatureStore, photos: Collection[str]) -> set[str]:
    """Those of these photos of which the store holds something.

    Raises:
        StoreError: as `drop_features`.
    """
    found: set[str] = set()
    for fingerprint in _fingerprints(store.root):
        folder = store.shards(fingerprint)
        for name in folder.names():
            found.update(set(photos).intersection(Shard.open(folder.fetch(name), fingerprint).keys))
    return found


def _drop(folder: ShardFolder, fingerprint: str, photos: frozenset[str]) -> int:
    dropped = 0
    for name in folder.names():
        shard = Shard.open(folder.fetch(name), fingerprint)
        kept = [row for row, key in enumerate(shard.keys) if key not in photos]
        if len(kept) == len(shard.keys):
            continue
        if kept:
            grids = np.empty((len(kept), shard.regions, shard.channels), np.float16)
            shard.read_grids(kept, grids, range(len(kept)))
            try:
                folder.write(name.rpartition("-")[0], [shard.keys[row] for row in kept], grids)
            except OSError as error:
                raise StoreError(f"shard {name} cannot be written anew: {error.strerror or error}") from error
        folder.remove(name)
        dropped += len(shard.keys) - len(kept)
    return dropped


def _fingerprints(root: str) -> list[str]:
    """The folders of a store."""
    try:
        files, path = fsspec.url_to_fs(root)
        found = files.ls(path, detail=True)
    except FileNotFoundError:
        return []
    except Exception as error:  # each storage's driver has errors of its own kind
        raise StoreError(f"the feature store {root} cannot be read ({type(error).__name__})") from error
    names = (Path(str(each["name"])).name for each in found if each["type"] == "directory")
    return sorted(name for name in names if not name.startswith(".") and not name.endswith(SUFFIX))


class FeatureManifest(BaseModel):
    """Which features a corpus needs, and of what shape they are; the numbers themselves are in the store.

    Attributes:
        fingerprint: the encoder's.
        views: the fingerprint of each view by the view's name, in the precision it was computed in.
        photos: SHA-256 (hex) of every photo of the corpus.
        store: root of the feature store.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    rows: int
    columns: int
    channels: int
    views: dict[str, str]
    photos: tuple[str, ...]
    store: str

    def missing(self) -> int:
        """How many photos lack an entry in at least one view.

        Raises:
            StoreError: the store is damaged.
        """
        store, absent = FeatureStore(self.store), set[str]()
        for fingerprint in self.views.values():
            absent.update(missing_from(store.reader(fingerprint), self.photos))
        return len(absent)

    def open(self) -> "CachedFeatures":
        """The features, all of them.

        Raises:
            StoreError: some are missing, or the store is damaged.
        """
        missing = self.missing()
        if missing:
            raise StoreError(
                f"features in {self.store} are not complete: {missing} photos are missing;"
                " run the other shards of feature_caching, or run it without shards"
            )
        return CachedFeatures(self, FeatureStore(self.store))


class CachedFeatures:
    """Grids of a corpus's photos by SHA-256 and view. Small and safe to fork; nothing is kept in memory."""

    def __init__(self, manifest: FeatureManifest, store: FeatureStore) -> None:
        self.manifest = manifest
        self.fingerprint = manifest.fingerprint
        self.rows = manifest.rows
        self.columns = manifest.columns
        self.regions = manifest.rows * manifest.columns
        self.channels = manifest.channels
        self.views: tuple[str, ...] = tuple(manifest.views)
        self._readers = {view: store.reader(key) for view, key in manifest.views.items()}

    def grids(self, sha256s: Sequence[str], view: str = "whole") -> Grids:
        """Grids float16 `[n, regions, channels]` of these photos, in this order.

        Raises:
            StoreError: a photo or the view has not been cached, or an entry is damaged.
        """
        return self._reader(view).grids(sha256s)

    def means(self, sha256s: Sequence[str], view: str = "whole") -> Means:
        """Grids averaged over their regions, float32 `[n, channels]`.

        Raises:
            StoreError: as `grids`.
        """
        return self._reader(view).means(sha256s)

    def _reader(self, view: str) -> FeatureReader:
        if view not in self._readers:
            known = ", ".join(self.views)
            raise StoreError(
                f"view '{view}' has not been cached (there are {known}); add it to feature_caching.views"
            )
        return self._readers[view]
