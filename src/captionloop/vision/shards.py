"""Shards: immutable files of features, in a local folder or in object storage with a local copy.

A shard is a safetensors file with the tensors `keys` (uint8 [n, 32], SHA-256 of each photo), `grids`
(float16 [n, regions, channels]), `means` (float32 [n, channels]) and `checksums` (uint32 [n], CRC-32 of grid
and mean). It is named after its keys, written beside its place, flushed to the disk and only then renamed: it
is there whole or not at all. Entries are read by position (`preadv`), which is as fast as a memory map, takes
no memory of its own, and turns a file that was cut off into an error instead of a signal.
"""

import fcntl
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from captionloop.errors import StoreError
from captionloop.files import to_disk

Grids = NDArray[np.float16]
Means = NDArray[np.float32]

SUFFIX: Final = ".safetensors"
_PARTIAL: Final = ".partial"
_KEY_BYTES: Final = 32
_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "U8": np.dtype("u1"),
    "U32": np.dtype("<u4"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
_CODES: Final = {dtype: code for code, dtype in _DTYPES.items()}
_MAX_HEADER: Final = 1 << 20


def shard_name(prefix: str, keys: Sequence[str]) -> str:
    """The file name of a shard: the worker that wrote it, and what it holds."""
    digest = hashlib.sha256(bytes.fromhex("".join(keys))).hexdigest()[:24]
    return f"{prefix}-{digest}{SUFFIX}"


def write_shard(folder: Path, prefix: str, fingerprint: str, keys: Sequence[str], grids: Grids) -> Path:
    """Writes float16 grids `[n, R, C]` of photos `keys` (hex) durably into the folder.

    Raises:
        OSError: the disk is full or fails; nothing is left behind.
    """
    name = shard_name(prefix, keys)
    means = grids.mean(axis=1, dtype=np.float32)
    tensors = {
        "keys": np.frombuffer(bytes.fromhex("".join(keys)), np.uint8).reshape(-1, _KEY_BYTES),
        "grids": np.ascontiguousarray(grids),
        "means": means,
        "checksums": np.array([_checksum(*pair) for pair in zip(grids, means, strict=True)], np.uint32),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with _partial_file(folder, name) as file:
        _write_safetensors(file, tensors, {"fingerprint": fingerprint})
        file.flush()
        os.fsync(file.fileno())
        Path(file.name).replace(folder / name)
    to_disk(folder)
    return folder / name


def remove_abandoned(folder: Path, prefix: str) -> None:
    """Deletes what killed writers of this prefix left half written; files that a living one holds stay."""
    for path in folder.glob(f".{prefix}-*{_PARTIAL}"):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Shard:
    """The index of one shard: which photos it holds, and where."""

    path: Path
    keys: tuple[str, ...]
    regions: int
    channels: int
    checksums: NDArray[np.uint32]
    grids_at: int
    means_at: int
    verified: NDArray[np.bool_] = field(compare=False, repr=False)

    @classmethod
    def open(cls, path: Path, fingerprint: str) -> "Shard":
        """Reads header and keys, and checks that the file is whole and named after what it holds.

        Raises:
            StoreError: it is damaged.
        """
        with path.open("rb") as file:
            header, begin = _read_header(file, path)
            try:
                _, keys = _array(file, header["keys"], begin)
                _, checksums = _array(file, header["checksums"], begin)
                (_, regions, channels), grids_at = (
                    header["grids"]["shape"],
                    header["grids"]["data_offsets"][0],
                )
                means_at = header["means"]["data_offsets"][0]
                found = header["__metadata__"]["fingerprint"]
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(path, f"its header has no usable {error}") from error
        names = tuple(bytes(key).hex() for key in keys)
        if found != fingerprint or path.name != shard_name(path.name.rpartition("-")[0], names):
            raise _damaged(path, "its keys are not those it was written with")
        unverified = np.zeros(len(names), np.bool_)
        return cls(path, names, regions, channels, checksums, begin + grids_at, begin + means_at, unverified)

    def read_grids(self, rows: Sequence[int], out: Grids, places: Sequence[int]) -> None:
        """Copies the grids of `rows` to `out[places]`; the first read of an entry checks it against its sum.

        Raises:
            StoreError: an entry is damaged, or the file has gone.
        """
        size = self.regions * self.channels * 2
        with self._reading() as descriptor:
            for row, place in zip(rows, places, strict=True):
                self._read(descriptor, out[place], self.grids_at + row * size)
                if not self.verified[row]:
                    self._verify(descriptor, row, out[place])

    def read_means(self, rows: Sequence[int], out: Means, places: Sequence[int]) -> None:
        """Copies the means of `rows` to `out[places]`.

        Raises:
            StoreError: the file is damaged or has gone.
        """
        with self._reading() as descriptor:
            for row, place in zip(rows, places, strict=True):
                self._read(descriptor, out[place], self.means_at + row * self.channels * 4)

    @contextmanager
    def _reading(self) -> Iterator[int]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise StoreError(
                f"cannot read {self.path} ({error.strerror}); run feature_caching again"
            ) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, into: NDArray[Any], offset: int) -> None:
        if os.preadv(descriptor, [into.data], offset) != into.nbytes:
            raise _damaged(self.path, "it is cut off")

    def _verify(self, descriptor: int, row: int, grid: Grids) -> None:
        mean = np.empty(self.channels, np.float32)
        self._read(descriptor, mean, self.means_at + row * self.channels * 4)
        if _checksum(grid, mean) != self.checksums[row]:
            raise _damaged(self.path, f"the entry of photo {self.keys[row][:12]} does not match its checksum")
        self.verified[row] = True


def _checksum(grid: Grids, mean: Means) -> int:
    return zlib.crc32(np.ascontiguousarray(mean).data, zlib.crc32(np.ascontiguousarray(grid).data))


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(f"feature file {path} is damaged: {why}; delete it and run feature_caching again")


@contextmanager
def _partial_file(folder: Path, name: str) -> Iterator[Any]:
    path = folder / f".{name}.{os.getpid()}{_PARTIAL}"
    try:
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # tells `remove_abandoned` that its writer lives
            yield file
    finally:
        path.unlink(missing_ok=True)


def _write_safetensors(file: Any, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """The format of https://github.com/huggingface/safetensors, without the copy that its library makes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _CODES[tensor.dtype.newbyteorder("<")],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if hasattr(os, "posix_fallocate"):  # a full disk is noticed before anything is written
        os.posix_fallocate(file.fileno(), 0, 8 + len(text) + end)
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        file.write(tensor.data)


def _read_header(file: Any, path: Path) -> tuple[dict[str, Any], int]:
    size = min(int.from_bytes(file.read(8), "little"), _MAX_HEADER)
    try:
        header = json.loads(file.read(size))
        end = max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, "it has no safetensors header") from error
    expected, actual = 8 + size + end, path.stat().st_size
    if expected != actual:
        raise _damaged(path, f"it has {actual} bytes instead of {expected}")
    return header, 8 + size


def _array(file: Any, entry: Mapping[str, Any], begin: int) -> tuple[int, NDArray[Any]]:
    start, end = entry["data_offsets"]
    file.seek(begin + start)
    dtype: np.dtype[Any] = _DTYPES[entry["dtype"]]
    content: bytes = file.read(end - start)
    return begin + start, np.frombuffer(content, dtype).reshape(entry["shape"])


CACHE: Final = Path(tempfile.gettempdir()) / "captionloop-features"


class ShardFolder(Protocol):
    """The shards of one fingerprint."""

    def names(self) -> list[str]:
        """The shards that are there, sorted."""

    def fetch(self, name: str) -> Path:
        """A local file with the shard's content."""

    def write(self, prefix: str, keys: Sequence[str], grids: Grids) -> None:
        """Adds a shard; others see all of it or nothing. Raises OSError here, StoreError far away."""

    def remove(self, name: str) -> None:
        """Deletes a shard, and the local copy of it. Nothing happens where it is gone already."""

    def tidy(self, prefix: str) -> None:
        """Deletes what killed writers of this prefix left behind."""


class LocalShards:
    """Shards in a folder of this machine."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint

    def names(self) -> list[str]:  # noqa: D102
        return sorted(path.name for path in self._folder.glob(f"[!.]*{SUFFIX}"))

    def fetch(self, name: str) -> Path:  # noqa: D102
        return self._folder / name

    def write(self, prefix: str, keys: Sequence[str], grids: Grids) -> None:  # noqa: D102
        write_shard(self._folder, prefix, self._fingerprint, keys, grids)

    def remove(self, name: str) -> None:  # noqa: D102
        (self._folder / name).unlink(missing_ok=True)
        to_disk(self._folder)

    def tidy(self, prefix: str) -> None:  # noqa: D102
        remove_abandoned(self._folder, prefix)


class RemoteShards:
    """Shards in object storage. An object appears whole, and never changes: local copies need no expiry."""

    def __init__(self, uri: str, fingerprint: str, cache: Path) -> None:
        self._files, self._folder = fsspec.url_to_fs(uri)
        self._uri = uri
        place = hashlib.sha256(uri.encode()).hexdigest()[:16]
        self._fingerprint = fingerprint
        self._cache = cache / place

    def names(self) -> list[str]:  # noqa: D102
        with _reaching(self._uri):
            self._files.invalidate_cache(self._folder)  # other workers may have added shards since
            try:
                found = self._files.ls(self._folder, detail=False)
            except FileNotFoundError:
                return []
        names = (str(path).rsplit("/", 1)[-1] for path in found)
        return sorted(name for name in names if name.endswith(SUFFIX))

    def fetch(self, name: str) -> Path:  # noqa: D102
        path = self._cache / name
        if not path.exists():
            with _reaching(self._uri):
                self._cache.mkdir(parents=True, exist_ok=True)
                partial = self._cache / f".{name}.{os.getpid()}.fetched"
                try:
                    self._files.get_file(f"{self._folder}/{name}", str(partial))
                    partial.replace(path)
                finally:
                    partial.unlink(missing_ok=True)
        return path

    def write(self, prefix: str, keys: Sequence[str], grids: Grids) -> None:  # noqa: D102
        path = write_shard(self._cache, prefix, self._fingerprint, keys, grids)
        with _reaching(self._uri):
            self._files.put_file(str(path), f"{self._folder}/{path.name}")

    def remove(self, name: str) -> None:  # noqa: D102
        with _reaching(self._uri), suppress(FileNotFoundError):
            self._files.rm_file(f"{self._folder}/{name}")
        (self._cache / name).unlink(missing_ok=True)

    def tidy(self, prefix: str) -> None:  # noqa: D102
        remove_abandoned(self._cache, prefix)


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    """One line for what goes wrong on the way to object storage: each driver has errors of its own kind."""
    try:
        yield
    except Exception as error:
        raise StoreError(
            f"the feature store {uri} cannot be used ({type(error).__name__}: {error}); check its address,"
            " the credentials and the network, and run it again: it goes on from there"
        ) from error


def shard_folder(root: str, fingerprint: str, cache: Path = CACHE) -> ShardFolder:
    """The folder of a fingerprint's shards under a local path or an fsspec URI.

    Raises:
        StoreError: no such file system, or its driver is not installed.
    """
    try:
        files, path = fsspec.url_to_fs(root)
    except (ValueError, ImportError) as error:
        raise StoreError(f"cannot use '{root}' as a feature store: {error}") from error
    if isinstance(files, LocalFileSystem):
        return LocalShards(Path(path) / fingerprint, fingerprint)
    return RemoteShards(f"{root.rstrip('/')}/{fingerprint}", fingerprint, cache)
