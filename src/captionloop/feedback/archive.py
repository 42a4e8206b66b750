"""Photos that people sent, kept under the SHA-256 of their bytes, on any storage that fsspec knows.

The same file sent twice is kept once. A local file is written beside and renamed, so a photo is there whole
or not at all; what comes out is checked against its name.
"""

import contextlib
import errno
import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from captionloop.errors import CaptionloopError, reason_of, without_passwords
from captionloop.vision.durable import to_disk

PREFIXES: Final = tuple(f"{number:02x}" for number in range(256))
"""How photos' names begin; the folders that they lie in."""
_NAME = re.compile(r"[0-9a-f]{64}")


class ArchiveError(CaptionloopError):
    """A photo cannot be stored, or is missing or damaged."""


def archive_uri(sha256: str) -> str:
    """Where a photo is in the photo archive."""
    return f"{sha256[:2]}/{sha256}"


class PhotoArchive:
    """A folder (local path or fsspec URI) of photos named by their content.

    Args:
        root: `data/photos`, `s3://bucket/photos`, ...
    """

    def __init__(self, root: str) -> None:
        self._files, path = fsspec.core.url_to_fs(root)
        self._root = str(path).rstrip("/")
        self._shown = without_passwords(self._root)

    def write(self, sha256: str, data: bytes) -> None:
        """Keep a photo; nothing happens if it is there already.

        Raises:
            ArchiveError: the storage refuses it.
        """
        path = self._path(sha256)
        try:
            if isinstance(self._files, LocalFileSystem):
                _write_local(Path(path), data)
            elif not self._files.exists(path):
                self._files.pipe_file(path, data)
        except Exception as error:  # each storage's driver has errors of its own kind
            raise ArchiveError(
                f"photo storage {self._shown} cannot be written ({reason_of(error)}); "
                "check CAPTIONLOOP_PHOTOS"
            ) from error

    def read(self, sha256: str) -> bytes:
        """The photo's bytes.

        Raises:
            ArchiveError: it is not there, or is not what its name says.
        """
        try:
            data = bytes(self._files.cat_file(self._path(sha256)))
        except Exception as error:
            raise ArchiveError(
                f"photo {sha256} is not in {self._shown}: it was erased or its storage is gone"
            ) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ArchiveError(f"photo {sha256} in {self._shown} is damaged: its bytes do not match its name")
        return data

    def erase(self, sha256: str) -> None:
        """Remove a photo; nothing happens if it is gone already.

        Raises:
            ArchiveError: the storage refuses.
        """
        path = self._path(sha256)
        try:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(path)
                if isinstance(self._files, LocalFileSystem):
                    to_disk(Path(path).parent)  # a power cut must not bring it back
            self._check_root()
        except Exception as error:
            raise ArchiveError(
                f"photo {sha256} in {self._shown} cannot be erased ({reason_of(error)})"
            ) from error

    def holds(self, sha256: str) -> bool:
        """Whether a photo is there.

        Raises:
            ArchiveError: the storage does not answer.
        """
        path = self._path(sha256)
        with self._listing():
            self._files.invalidate_cache(path.rpartition("/")[0])
            self._check_root()
            return bool(self._files.exists(path))

    def names(self, prefix: str) -> list[str]:
        """The photos in the folder of a prefix (see `PREFIXES`), sorted.

        Raises:
            ArchiveError: the storage does not answer.
        """
        folder = f"{self._root}/{prefix}"
        with self._listing():
            self._files.invalidate_cache(folder)
            try:
                found = self._files.ls(folder, detail=False)
            except FileNotFoundError:
                return []
        return sorted(name for path in found if _NAME.fullmatch(name := str(path).rsplit("/", 1)[-1]))

    def remove_abandoned(self, prefix: str, older_than_seconds: float) -> int:
        """Remove what killed writers left half written in the folder of a prefix; how many files."""
        if not isinstance(self._files, LocalFileSystem):
            return 0  # an object appears whole
        removed = 0
        with self._listing():
            for path in Path(self._root, prefix).glob(".*"):
                if path.stat().st_mtime < time.time() - older_than_seconds:
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def _check_root(self) -> None:
        """Of a disk that is not mounted nothing is gone, only not to be seen."""
        if isinstance(self._files, LocalFileSystem) and not Path(self._root).is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._root)

    @contextlib.contextmanager
    def _listing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each storage's driver has errors of its own kind
            raise ArchiveError(
                f"photo storage {self._shown} cannot be read ({reason_of(error)}); check CAPTIONLOOP_PHOTOS"
            ) from error

    def _path(self, sha256: str) -> str:
        if _NAME.fullmatch(sha256) is None:
            raise ArchiveError(f"{sha256!r} is not a SHA-256 in hexadecimal")
        return f"{self._root}/{archive_uri(sha256)}"


def _write_local(path: Path, data: bytes) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)  # noqa: PTH105 - the one call that is atomic
    finally:
        beside.unlink(missing_ok=True)
