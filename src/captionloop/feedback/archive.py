"""Photos that people sent, kept under the SHA-256 of their bytes, on any storage that fsspec knows.

The same file sent twice is kept once. A local file is written beside and renamed, so a photo is there whole
or not at all; what comes out is checked against its name.
"""

import contextlib
import hashlib
import os
import re
import uuid
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from captionloop.errors import CaptionloopError, reason_of, without_passwords

_NAME = re.compile(r"[0-9a-f]{64}")


class ArchiveError(CaptionloopError):
    """A photo cannot be stored, or is missing or damaged."""


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
        try:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._path(sha256))
        except Exception as error:
            raise ArchiveError(
                f"photo {sha256} in {self._shown} cannot be erased ({reason_of(error)})"
            ) from error

    def _path(self, sha256: str) -> str:
        if _NAME.fullmatch(sha256) is None:
            raise ArchiveError(f"{sha256!r} is not a SHA-256 in hexadecimal")
        return f"{self._root}/{sha256[:2]}/{sha256}"


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
