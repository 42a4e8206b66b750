"""What a Lance table of features holds at one moment: keys in blocks, grids and means by place, checked.

A row is `key` (SHA-256 of the photo), `grid` (float16 `[regions, channels]`), `mean` (float32 `[channels]`),
and for either a CRC-32 of it and the key. The first three are bytes of fixed width: Lance reads such a grid
in one access, and the keys without the grids.
"""

import errno
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import fsspec
import numpy as np
from numpy.typing import NDArray

from captionloop.errors import StoreError
from captionloop.vision.photo_keys import KEY_BYTES, KeyIndex, Keys, Places

if TYPE_CHECKING:
    import pyarrow as pa

Grids = NDArray[np.float16]
Means = NDArray[np.float32]

_WIDE: Final = ("key", "grid", "mean")
_SUMS: Final = {"grid": "grid_crc32", "mean": "mean_crc32"}
_TYPES: Final[dict[str, Any]] = {"key": np.uint8, "grid": np.float16, "mean": np.float32}
_BATCH_BYTES: Final = 16 << 20
_KEYS_AT_ONCE: Final = 1 << 16
_ERRNO: Final = re.compile(r"os error (\d+)")
_IN_RUST: Final = re.compile(r",? */\S+\.rs:\d+(:\d+)?")


def lance(module: str = "lance") -> Any:
    """The library, imported when a store is first used: that takes 0.4 s and 75 MiB."""
    os.environ.setdefault("LANCE_LOG", "error")
    return import_module(module)


def as_table(keys: Keys, grids: Grids, fingerprint: str) -> "pa.Table":
    """Keys `[n, 32]` and grids `[n, R, C]` as rows; the grids are not copied."""
    import pyarrow as pa

    means = grids.mean(axis=1, dtype=np.float32)
    columns, fields = [], []
    for name, values in zip(_WIDE, (keys, grids, means), strict=True):
        flat = np.ascontiguousarray(values).reshape(len(keys), -1)
        kind = pa.binary(flat.shape[1] * flat.itemsize)
        columns.append(pa.FixedSizeBinaryArray.from_buffers(kind, len(keys), [None, pa.py_buffer(flat)]))
        fields.append(pa.field(name, kind, nullable=False))
    for name, values in zip(_SUMS, (grids, means), strict=True):
        columns.append(pa.array(_checksums(keys, values)))
        fields.append(pa.field(_SUMS[name], pa.uint32(), nullable=False))
    _, regions, channels = grids.shape
    about = {"fingerprint": fingerprint, "regions": str(regions), "channels": str(channels)}
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, about))


def _checksums(keys: Keys, values: NDArray[Any]) -> NDArray[np.uint32]:
    rows = zip(keys, np.ascontiguousarray(values).reshape(len(keys), -1).view(np.uint8), strict=True)
    return np.array([zlib.crc32(value.data, zlib.crc32(key.data)) for key, value in rows], np.uint32)


class Rows:
    """A version of a table, or what there is of one: it does not change. Safe in threads."""

    def __init__(self, uri: str, dataset: Any, cache: Path | None = None) -> None:
        self.uri = uri
        self.dataset = dataset
        self._cache = cache
        with store_errors(uri):
            about = {name.decode(): value.decode() for name, value in dataset.schema.metadata.items()}
            self.regions, self.channels = int(about["regions"]), int(about["channels"])
            widths = [dataset.schema.field(name).type.byte_width for name in _WIDE]
            if widths != [KEY_BYTES, 2 * self.regions * self.channels, 4 * self.channels]:
                raise ValueError(f"rows of {widths} bytes are not {self.regions} x {self.channels}")
            if f"/{about['fingerprint']}." not in uri:
                raise ValueError(f"it was written as {about['fingerprint']}")
        self.bytes_per_row = sum(widths)

    def __len__(self) -> int:
        with store_errors(self.uri):
            count: int = self.dataset.count_rows()
        return count

    def key_blocks(self) -> Iterator[Keys]:
        """The keys of all rows, in blocks, in the order of the places."""
        with store_errors(self.uri):
            scanner = self.dataset.scanner(
                columns=["key"],
                batch_size=_KEYS_AT_ONCE,
                batch_readahead=2,
                fragment_readahead=1,
                io_buffer_size=_BATCH_BYTES,
            )
            for batch in scanner.to_batches():
                yield self._values(batch, "key")

    def index(self, only: Keys | None = None) -> KeyIndex:
        """Where the rows of these photos are; of all, where none are named."""
        return KeyIndex.of(self._placed(), only)

    def _placed(self) -> Iterator[tuple[Keys, Places]]:
        start = 0
        for keys in self.key_blocks():
            yield keys, np.arange(start, start + len(keys))
            start += len(keys)

    def superfluous(self) -> NDArray[np.uint64]:
        """The row ids of photos that have a row before that one: two writers have added both."""
        with store_errors(self.uri):
            count = len(self)
            if len(self.index()) == count:
                return np.empty(0, np.uint64)
            found = self.dataset.to_table(columns=["key"], with_row_id=True)
            keys = self._values(found, "key")
            first = KeyIndex.of([(keys, np.arange(count))]).places
            ids: NDArray[np.uint64] = found["_rowid"].to_numpy()
            return np.delete(ids, first)

    def read(self, name: str, places: Places, keys: Keys | None = None) -> NDArray[Any]:
        """Column `grid` `[n, R, C]` or `mean` `[n, C]` of these rows, in this order.

        It is checked, where the photos' keys are given.

        Raises:
            StoreError: an entry is damaged, or its file has gone.
        """
        taken = self._take(places, [name] if keys is None else ["key", name, _SUMS[name]])
        if keys is not None:
            damaged = np.flatnonzero(self._mismatched(taken, name, keys))
            if len(damaged):
                photo = keys[damaged[0]].tobytes().hex()
                raise StoreError(
                    f"the features of photo {photo[:12]} in {self.uri} do not match their checksum; run"
                    " captionloop features scrub, and then feature_caching"
                )
        return self._values(taken, name).copy()

    def _values(self, taken: Any, name: str) -> NDArray[Any]:
        """A column of fixed-width bytes as an array, without a copy."""
        column = taken.column(name)
        column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
        shapes = {"key": (KEY_BYTES,), "grid": (self.regions, self.channels), "mean": (self.channels,)}
        width = column.type.byte_width
        found = np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)
        values: NDArray[Any] = found.view(_TYPES[name]).reshape(len(column), *shapes[name])
        return values

    def _mismatched(self, taken: Any, name: str, keys: Keys) -> NDArray[np.bool_]:
        """Which rows are not those of these keys, or do not fit their checksum."""
        there, sums = self._values(taken, "key"), taken.column(_SUMS[name]).to_numpy()
        mismatched: NDArray[np.bool_] = _checksums(there, self._values(taken, name)) != sums
        mismatched |= (there != keys).any(axis=1)
        return mismatched

    def _take(self, places: Places, columns: list[str]) -> "pa.Table":
        with store_errors(self.uri):
            if self._cache is None:
                return self.dataset.take(places, columns=columns)
            return self._local_copy.take(places, columns)

    @cached_property
    def _local_copy(self) -> "_LocalCopy":
        assert self._cache is not None
        return _LocalCopy(self.uri, self.dataset, self._cache)

    def scrub(self) -> tuple[list[Keys], list[int]]:
        """Reads everything: the keys of damaged rows, and the numbers of fragments that cannot be read."""
        keys: list[Keys] = []
        unreadable: list[int] = []
        for fragment in self.dataset.get_fragments():
            try:
                batches = fragment.to_batches(
                    columns=[*_WIDE, *_SUMS.values()], batch_size=max(1, _BATCH_BYTES // self.bytes_per_row)
                )
                for batch in batches:
                    found = self._values(batch, "key")
                    mismatched = [self._mismatched(batch, name, found) for name in _SUMS]
                    keys.append(found[np.logical_or(*mismatched)])
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # a panic in Rust is no Exception
                unreadable.append(fragment.fragment_id)
        return keys, unreadable


class _LocalCopy:
    """A remote version's files in a folder of this machine: fetched when one of their rows is first read."""

    def __init__(self, uri: str, dataset: Any, folder: Path) -> None:
        self._files, self._root = fsspec.url_to_fs(uri)
        self._folder = folder
        version = dataset.version
        named = dataset.tracked_files(min_version=version).read_all().to_pylist()
        names = {each["path"]: each["type"] for each in named if each["version"] == version}
        for path in (folder / "data").glob("*.lance"):
            if f"data/{path.name}" not in names:
                path.unlink(missing_ok=True)  # superseded: it may hold what has been erased
        for name, kind in names.items():
            if kind in {"manifest", "deletion file"}:
                self._fetch(name)
        fragments = dataset.get_fragments()
        self._data = [[f"data/{file.path}" for file in each.data_files()] for each in fragments]
        self._ends = np.cumsum([each.count_rows() for each in fragments])
        self._dataset = lance().dataset(str(folder), version=version)

    def take(self, places: Places, columns: list[str]) -> "pa.Table":
        """Rows by place."""
        for fragment in np.unique(np.searchsorted(self._ends, places, "right")).tolist():
            for name in self._data[fragment]:
                if not (self._folder / name).exists():
                    self._fetch(name)
        return self._dataset.take(places, columns=columns)

    def _fetch(self, name: str) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.fetched")
        try:
            self._files.get_file(f"{self._root}/{name}", str(partial))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def store_errors(uri: str, *, writing: bool = False) -> Iterator[None]:
    """Turns what Lance raises within into one line: its errors are of many kinds, its panics no `Exception`.

    Raises:
        OSError: the local disk is full or fails, where something was written.
        StoreError: all else.
    """
    try:
        yield
    except (StoreError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        why = _IN_RUST.sub("", " ".join(str(error).split()))[:300]
        if "://" in uri:
            raise StoreError(
                f"the feature store {uri} cannot be used ({type(error).__name__}: {why}); check its address,"
                " the credentials and the network, and run it again: it goes on from there"
            ) from error
        number_found = _ERRNO.search(why)
        number = int(number_found[1]) if number_found else getattr(error, "errno", None) or 0
        if number and number != errno.ENOENT:
            if writing:
                raise OSError(number, os.strerror(number)) from error
            raise StoreError(f"cannot read {uri}: {os.strerror(number)}") from error
        raise StoreError(
            f"features in {uri} are damaged or have gone ({why}); run captionloop features scrub, and then"
            " feature_caching"
        ) from error
