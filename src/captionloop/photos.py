"""Photo storage, local or on any fsspec URI: a corpus's folder by relative path, the archive by SHA-256.

The same file sent twice is kept once. A local file is written beside and renamed, so a photo is there whole
or not at all; what comes out is checked against its name.
"""

import contextlib
import errno
import hashlib
import os
import re
import stat
import time
import unicodedata
import uuid
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from captionloop.errors import CaptionloopError, CorpusError, reason_of, without_passwords
from captionloop.files import files_below, to_disk
from captionloop.paths import printable


@dataclass(frozen=True)
class PhotoFolder:
    """Photos by their uri, which is their path relative to `root` with forward slashes.

    `root` is a local path or any URI that fsspec reads (`s3://bucket/photos`). The object is small and can be
    pickled, so that worker processes open their own connection.
    """

    root: str

    @property
    def _local(self) -> Path | None:
        return None if "://" in self.root else Path(self.root)

    def _key(self, uri: str) -> str:
        path = PurePosixPath(uri)
        if not uri or path.is_absolute() or ".." in path.parts or "\0" in uri:
            raise CorpusError(
                f"{uri!r} is not a photo inside {self.root}: give a path relative to the photo folder"
            )
        return str(path)

    def _remote(self, key: str = "") -> "tuple[fsspec.AbstractFileSystem, str]":
        filesystem, root = fsspec.core.url_to_fs(self.root)
        return filesystem, f"{root.rstrip('/')}/{key}" if key else root.rstrip("/")

    def exists(self) -> bool:
        """Whether the folder itself is there."""
        if self._local is not None:
            return self._local.is_dir()
        try:
            filesystem, root = self._remote()
            return bool(filesystem.isdir(root))
        except Exception as error:
            raise CorpusError(
                f"The photo folder {self.root} cannot be reached ({type(error).__name__}: {error}):"
                " check its address, the credentials and the network"
            ) from error

    def size(self, uri: str) -> int:
        """Bytes of one photo, without reading it. Raises `CorpusError` where it is missing."""
        key = self._key(uri)
        try:
            if self._local is not None:
                found = (self._local / key).stat()
            else:
                filesystem, path = self._remote(key)
                return int(filesystem.size(path))
        except Exception as error:  # object storage has errors of its own kinds
            raise self._unreadable(uri, error) from error
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            raise self._unreadable(uri, OSError("it is no file"))
        return found.st_size

    def read(self, uri: str) -> bytes:
        """The bytes of one photo. Raises `CorpusError` where it is missing or cannot be read."""
        key = self._key(uri)
        try:
            if self._local is not None:
                return (self._local / key).read_bytes()
            filesystem, path = self._remote(key)
            return bytes(filesystem.cat_file(path))
        except Exception as error:
            raise self._unreadable(uri, error) from error

    def names(self) -> list[str]:
        """The uri of every file below the root, sorted; hidden files and folders are not photos.

        A name that is not UTF-8 is spelt out, so that it can be counted and told, though not read by that.
        """
        if not self.exists():
            raise CorpusError(f"There is no photo folder {self.root}: check the path, see docs/data.md")
        if self._local is not None:
            uris = files_below(self._local)
        else:
            filesystem, root = self._remote()
            uris = [path[len(root) + 1 :] for path in filesystem.find(root)]
        return sorted(
            printable(uri) for uri in uris if not any(part.startswith(".") for part in uri.split("/"))
        )

    def listing(self) -> list[tuple[str, ...]]:
        """Path, size, and time or entity tag of every file of a remote folder, without reading it."""
        filesystem, root = self._remote()
        found = filesystem.find(root, detail=True)
        attributes = (
            "size",
            "ETag",
            "etag",
            "md5Hash",
            "content_md5",
            "LastModified",
            "last_modified",
            "mtime",
            "updated",
        )
        return [
            (path[len(root) :], *(f"{key}={about[key]}" for key in attributes if key in about))
            for path, about in sorted(found.items())
        ]

    def write(self, name: str, data: bytes) -> None:
        """Puts one photo into the folder; a reader finds all of it or none of it."""
        key = self._key(name)
        if self._local is None:
            filesystem, path = self._remote(key)
            filesystem.pipe_file(path, data)
            return
        final = self._local / key
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
        partial.write_bytes(data)
        partial.replace(final)

    def holds(self, name: str) -> bool:
        """Whether a file of a far folder is there, whatever was listed before."""
        filesystem, path = self._remote(self._key(name))
        filesystem.invalidate_cache(path.rpartition("/")[0])
        return bool(filesystem.exists(path))

    def remove(self, name: str) -> None:
        """Takes one file out of a far folder."""
        filesystem, path = self._remote(self._key(name))
        filesystem.rm_file(path)

    def _unreadable(self, uri: str, error: Exception) -> CorpusError:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        reason = " ".join(reason.split())
        name = uri if uri.isprintable() else repr(uri)
        return CorpusError(f"Photo {name} {reason} in {self.root}: check the photo folder")


def found_names(uris: Iterable[str], names: Collection[str]) -> list[str]:
    """Each uri as the photo folder spells it (`names`): a caption file from another system may compose its
    letters in another way, or use backslashes. One that is there as it stands, or in no spelling, stays.
    """
    there = set(names)
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(_spelling(name), []).append(name)
    return [
        same[0] if uri not in there and len(same := spellings.get(_spelling(uri), [])) == 1 else uri
        for uri in uris
    ]


def similar_names(uris: Iterable[str], names: Collection[str]) -> dict[str, str]:
    """For uris that no file has, the file that may be meant: one name in other case, or in another folder.

    `Photos/IMG_1.JPG` may be `photos/img_1.jpg`, or else the only `img_1.jpg` anywhere. Where several may be
    meant, none is given.
    """
    whole: dict[str, set[str]] = {}
    last: dict[str, set[str]] = {}
    for name in names:
        folded = _spelling(name).casefold()
        whole.setdefault(folded, set()).add(name)
        last.setdefault(PurePosixPath(folded).name, set()).add(name)
    found: dict[str, str] = {}
    for uri in uris:
        folded = _spelling(uri).casefold()
        for meant in (whole.get(folded, set()), last.get(PurePosixPath(folded).name, set())):
            if len(meant) == 1:
                found[uri] = next(iter(meant))
                break
            if meant:
                break
    return found


def _spelling(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


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
        self._address = without_passwords(self._root)

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
                f"photo storage {self._address} cannot be written ({reason_of(error)}); "
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
                f"photo {sha256} is not in {self._address}: it was erased or its storage is gone"
            ) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ArchiveError(
                f"photo {sha256} in {self._address} is damaged: its bytes do not match its name"
            )
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
                f"photo {sha256} in {self._address} cannot be erased ({reason_of(error)})"
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
        """Raises `FileNotFoundError` where the root is missing, as on a disk that is not mounted."""
        if isinstance(self._files, LocalFileSystem) and not Path(self._root).is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._root)

    @contextlib.contextmanager
    def _listing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each storage's driver has errors of its own kind
            raise ArchiveError(
                f"photo storage {self._address} cannot be read ({reason_of(error)}); check CAPTIONLOOP_PHOTOS"
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
