"""The feature store: grids of features by photo and view, read in batches, added and removed.

Key: the SHA-256 of the photo's bytes and the encoder's fingerprint. Value: the grid, float16
`[regions, channels]`, and its mean. For each fingerprint there is a Lance table (see `feature_table`).
Readers need no lock and see the store as it was when they were opened; several workers can fill one
store, and a writer killed at any instant tears nothing.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Final, Self

import fsspec
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from captionloop.errors import StoreError
from captionloop.vision.feature_rows import Grids, Means, Rows
from captionloop.vision.feature_table import CACHE, SHARD_SUFFIX, SUFFIX, FeatureTable
from captionloop.vision.photo_keys import KeyIndex, Keys, absent, hex_of, in_blocks, keys_of

FRAGMENT_BYTES: Final = 64 << 20
"""How much a writer collects before it writes: what a kill can cost, and what a writer needs of memory."""


class FeatureStore:
    """A folder (local path or fsspec URI) of features."""

    def __init__(
        self, root: str | Path, *, cache: Path = CACHE, fragment_bytes: int = FRAGMENT_BYTES
    ) -> None:
        self.root = str(root).removeprefix("file://")
        self._cache = cache
        self._fragment_bytes = fragment_bytes

    def reader(self, fingerprint: str, photos: Collection[str] | None = None) -> "FeatureReader":
        """What the store holds of an encoder (or of one of its views) at this moment, of all photos or these.

        Raises:
            StoreError: the store is damaged or cannot be reached.
        """
        wanted = None if photos is None else keys_of(list(photos))
        return FeatureReader(self._open(fingerprint), fingerprint, wanted)

    def writer(self, fingerprint: str) -> "FeatureWriter":
        """Adds features of an encoder; use it as a context."""
        return FeatureWriter(self.table(fingerprint), self._fragment_bytes, self.root)

    def missing(self, fingerprint: str, photos: Sequence[str]) -> list[str]:
        """Those photos of which the store has no features of this encoder, each once, in their order.

        Grids are not read, only keys: 32 bytes for each photo that is stored.

        Raises:
            StoreError: as `reader`.
        """
        return hex_of(self.missing_keys(fingerprint, list(in_blocks(keys_of(photos)))))

    def missing_keys(self, fingerprint: str, photos: Iterable[Keys]) -> Keys:
        """As `missing`, of keys in blocks, gone through three times: they need not all be in memory."""
        rows = self._open(fingerprint)
        return absent(photos, () if rows is None else rows.key_blocks(), 0 if rows is None else len(rows))

    def table(self, fingerprint: str) -> FeatureTable:
        """The table of an encoder (or of one of its views)."""
        return FeatureTable(self.root, fingerprint, self._cache)

    def tables(self) -> list[FeatureTable]:
        """All tables that there are.

        Raises:
            StoreError: the store cannot be reached, or is of an older version.
        """
        folders = self._listed("")
        for name in folders:
            if not name.startswith(".") and not name.endswith(SUFFIX):
                self._refuse_shards(name)
        return [self.table(name.removesuffix(SUFFIX)) for name in folders if name.endswith(SUFFIX)]

    def _open(self, fingerprint: str) -> Rows | None:
        rows = self.table(fingerprint).open()
        if rows is None:
            self._refuse_shards(fingerprint)
        return rows

    def _refuse_shards(self, fingerprint: str) -> None:
        if any(name.endswith(SHARD_SUFFIX) for name in self._listed(f"/{fingerprint}")):
            raise StoreError(
                f"the feature store {self.root} was written by an older version; run captionloop features"
                " migrate"
            )

    def _listed(self, below: str) -> list[str]:
        """The names in one of the store's folders."""
        try:
            files, path = fsspec.url_to_fs(self.root)
            files.invalidate_cache()
            found = files.ls(f"{path.rstrip('/')}{below}", detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except Exception as error:  # each storage's driver has errors of its own kind
            raise StoreError(
                f"the feature store {self.root} cannot be read ({type(error).__name__}); check its address,"
                " the credentials and the network"
            ) from error
        return sorted(PurePosixPath(str(each)).name for each in found)


class FeatureReader(Mapping[str, Grids]):
    """The features of one fingerprint by the photos' SHA-256 (hex). Safe in threads."""

    def __init__(self, rows: Rows | None, fingerprint: str, wanted: Keys | None = None) -> None:
        self._rows = rows
        self.fingerprint = fingerprint
        self._index = KeyIndex.of([]) if rows is None else rows.index(wanted)
        self._checked = {column: np.zeros(len(self._index), np.bool_) for column in ("grid", "mean")}

    @property
    def shape(self) -> tuple[int, int]:
        """Regions and channels; zeros where the store is empty."""
        return (0, 0) if self._rows is None else (self._rows.regions, self._rows.channels)

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        for keys in () if self._rows is None else self._rows.key_blocks():
            yield from hex_of(keys[self._index.find(keys) >= 0])

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self._index.find(keys_of([key]))[0] >= 0)

    def __getitem__(self, key: str) -> Grids:
        grid: Grids = self.grids([key])[0]
        return grid

    def grids(self, keys: Sequence[str]) -> Grids:
        """Grids float16 `[n, regions, channels]` of these photos, in this order.

        The first read of an entry checks it against its checksum.

        Raises:
            StoreError: a photo has no entry, or its entry is damaged.
        """
        return self._read("grid", keys)

    def means(self, keys: Sequence[str]) -> Means:
        """Means of the grids over their regions, float32 `[n, channels]`.

        Raises:
            StoreError: as `grids`.
        """
        return self._read("mean", keys)

    def _read(self, column: str, keys: Sequence[str]) -> NDArray[Any]:
        wanted = keys_of(keys)
        found = self._index.find(wanted)
        if self._rows is None or (found < 0).any():
            first = keys[int(np.argmin(found))]
            raise StoreError(f"photo {first[:12]} has no cached features; run feature_caching")
        checked = self._checked[column]
        read = self._rows.read(column, self._index.places[found], None if checked[found].all() else wanted)
        checked[found] = True
        return read


class FeatureWriter:
    """Collects features and writes them, a fragment of the table at a time. What was flushed is durable."""

    def __init__(self, table: FeatureTable, fragment_bytes: int, root: str) -> None:
        self._table = table
        self._fragment_bytes = fragment_bytes
        self._root = root
        self._keys: list[str] = []
        self._grids: Grids = np.empty((0, 0, 0), np.float16)
        self.written = 0

    def __enter__(self) -> Self:
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
            self._grids = np.empty((max(1, self._fragment_bytes // grid.nbytes), *grid.shape), np.float16)
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
            self._table.append(keys_of(self._keys), self._grids[:count])
        except OSError as error:
            raise StoreError(
                f"cannot write {count} features ({size >> 20} MiB) to {self._root}:"
                f" {error.strerror or error}; those written before are safe:"
                " make room and run feature_caching again, it goes on from there"
            ) from error
        self.written += count
        self._keys = []


def drop_features(store: FeatureStore, photos: Collection[str]) -> int:
    """Removes what the store holds of these photos, of every encoder and view; how many entries those were.

    Who has opened the store before may find that some of its files have gone.

    Raises:
        StoreError: the store cannot be read or written, or is damaged.
    """
    try:
        return sum(table.delete(photos) for table in store.tables())
    except OSError as error:
        raise StoreError(f"{store.root} cannot be written anew: {error.strerror or error}") from error


def held(store: FeatureStore, photos: Collection[str]) -> set[str]:
    """Those of these photos of which the store holds something.

    Raises:
        StoreError: as `drop_features`.
    """
    return set[str]().union(*(table.holds(photos) for table in store.tables()))


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
        store = FeatureStore(self.store)
        return len({photo for each in self.views.values() for photo in store.missing(each, self.photos)})

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
    """Grids of a corpus's photos by SHA-256 and view. Small; no grid is kept in memory."""

    def __init__(self, manifest: FeatureManifest, store: FeatureStore) -> None:
        self.manifest = manifest
        self.fingerprint = manifest.fingerprint
        self.rows = manifest.rows
        self.columns = manifest.columns
        self.regions = manifest.rows * manifest.columns
        self.channels = manifest.channels
        self.views: tuple[str, ...] = tuple(manifest.views)
        self._readers = {view: store.reader(key, manifest.photos) for view, key in manifest.views.items()}

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
