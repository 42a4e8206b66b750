"""A folder of photos, near or far, as the nodes of a pipeline are handed it."""

import os
import stat
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import fsspec

from captionloop.errors import CorpusError
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
            found = [Path(folder) / name for folder, _, names in os.walk(self._local) for name in names]
            uris = [path.relative_to(self._local).as_posix() for path in found]
        else:
            filesystem, root = self._remote()
            uris = [path[len(root) + 1 :] for path in filesystem.find(root)]
        return sorted(
            printable(uri) for uri in uris if not any(part.startswith(".") for part in uri.split("/"))
        )

    def listing(self) -> list[tuple[str, ...]]:
        """What a far file system says of every file without reading it: path, size, time or entity tag."""
        filesystem, root = self._remote()
        found = filesystem.find(root, detail=True)
        told = (
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
            (path[len(root) :], *(f"{key}={about[key]}" for key in told if key in about))
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
