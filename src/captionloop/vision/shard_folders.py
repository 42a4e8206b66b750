"""Where shards lie: a local folder, or object storage with a local copy of each shard that is read."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

import fsspec
from fsspec.implementations.local import LocalFileSystem

from captionloop.errors import StoreError
from captionloop.vision.durable import to_disk
from captionloop.vision.shards import SUFFIX, Grids, remove_abandoned, write_shard

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
