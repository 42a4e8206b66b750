"""A workspace in object storage (`s3://bucket/data`): its files are worked on in a copy on this machine.

Whatever writes files renames, maps and locks them, and object storage has none of that. So datasets of files
get paths in a working copy, a temporary folder of this process. What a run reads is fetched there when the
run begins, and what it makes is stored when it is whole: object by object, each of them whole or not at all.
Photos and features are not copied: they are read where they are.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Final

import fsspec

from captionloop.errors import CaptionloopError, ConfigurationError, reason_of, without_passwords

_LOCAL: Final = ("file", "local")
_OURS: Final = "captionloop.datasets."
_READS_AFAR: Final = ("PhotoFolderDataset",)
_UNFINISHED: Final = ".partial"
_AT_ONCE: Final = 8
_PREFIX: Final = "captionloop-workspace-"
_HELD: Final = ".held"
_MODIFIED: Final = ("LastModified", "last_modified", "mtime", "updated", "created")
"""What drivers call the time of an object."""


class WorkspaceError(CaptionloopError):
    """A workspace in object storage cannot be read or written, or somebody else is at work in it."""


def is_remote(place: object) -> bool:
    """Whether a path or URI is one of object storage."""
    scheme, separator, _ = str(place).partition("://")
    return bool(separator) and scheme not in _LOCAL


def below(workspace: str, *names: str) -> str:
    """A path or URI in a workspace."""
    if is_remote(workspace):
        return "/".join([workspace.rstrip("/"), *names])
    return str(Path(workspace, *names))


class WorkingCopy:
    """The copy of files of object storage in a folder. Each lies at `<folder>/<scheme>/<bucket>/<key>`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stored: dict[Path, tuple[int, int]] = {}
        """Size and time of each file as it is in the storage too."""

    def path_of(self, uri: str) -> Path:
        """Where the copy of an object or folder lies. Nothing is fetched."""
        scheme, _, rest = uri.partition("://")
        parts = PurePosixPath(rest.strip("/"))
        if not rest or ".." in parts.parts:
            raise ConfigurationError(f"{without_passwords(uri)} cannot be used: write s3://bucket/folder")
        return self.folder / scheme / parts

    def uri_of(self, path: PurePath) -> str | None:
        """The URI whose copy lies there; None for a path outside of the copy."""
        try:
            scheme, *rest = PurePosixPath(path).relative_to(self.folder).parts
        except ValueError:
            return None
        return f"{scheme}://{'/'.join(rest)}"

    def fetch(self, paths: Collection[Path]) -> None:
        """Brings what the storage has at these paths, files or whole folders; nothing where it has nothing.

        Raises:
            WorkspaceError: the storage does not answer.
        """
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
            found = [each for several in pool.map(self.objects, paths) for each in several.items()]
            for _ in pool.map(lambda each: self._fetch(*each), found):
                pass

    def objects(self, path: Path) -> dict[Path, dict[str, Any]]:
        """The storage's listing (size, time) of every object at a path or below, by the path of its copy."""
        with self._original(path, "read") as (files, key):
            found = files.find(key, detail=True)
        return {path.joinpath(PurePosixPath(name[len(key) :].strip("/"))): found[name] for name in found}

    def _fetch(self, path: Path, about: Mapping[str, Any]) -> None:
        with self._original(path, "read") as (files, key):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f".{path.name}{_UNFINISHED}")
            files.get_file(key, str(beside))
            moment = modified(about)
            if moment is not None:  # runs are kept and removed by when their files were written
                os.utime(beside, (moment, moment))
            beside.replace(path)
        self._stored[path] = _signature(path)

    def store(self, path: Path, takes: Callable[[str], bool] = lambda _: True) -> int:
        """Makes the storage hold what the copy holds at a path: how many files were sent.

        What is gone from the copy goes first, then what changed follows in the order in which it was written.
        `takes` says by its name whether a file is worth it.

        Raises:
            WorkspaceError: the storage does not take it.
        """
        there = {each: _signature(each) for each in _files(path) if takes(each.name)}
        mine = [each for each in self._stored if each == path or path in each.parents]
        for each in (each for each in mine if each not in there):
            self.remove(each)
        changed = [each for each, signature in there.items() if self._stored.get(each) != signature]
        for each in sorted(changed, key=lambda each: there[each][1]):
            with self._original(each, "written") as (files, key):
                try:
                    files.put_file(str(each), key)
                except FileNotFoundError:
                    if each.exists():  # it is not the file that is missing, but the bucket
                        raise
                else:
                    self._stored[each] = there[each]
        return len(changed)

    def replace(self, path: Path) -> None:
        """Puts a folder of the copy in the place of what the storage has there."""
        there = self.objects(path)
        self.store(path)
        for each in there.keys() - self._stored.keys():
            self.remove(each)

    def remove(self, path: Path) -> None:
        """Removes one file, here and in the storage."""
        with self._original(path, "written") as (files, key), suppress(FileNotFoundError):
            files.rm_file(key)
        path.unlink(missing_ok=True)
        self._stored.pop(path, None)

    def remove_folder(self, path: Path) -> None:
        """Removes all that lies at a path, here and in the storage."""
        with self._original(path, "written") as (files, key), suppress(FileNotFoundError):
            files.rm(key, recursive=True)
        shutil.rmtree(path, ignore_errors=True)
        for each in [each for each in self._stored if path in each.parents]:
            del self._stored[each]

    def files(self, path: Path) -> list[str]:
        """The names of the objects that the storage has right in a folder."""
        return self._names(path, "file")

    def folders(self, path: Path) -> list[str]:
        """The names of the folders that the storage has in a folder."""
        return self._names(path, "directory")

    def _names(self, path: Path, kind: str) -> list[str]:
        with self._original(path, "read") as (files, key):
            try:
                found = files.ls(key, detail=True)
            except FileNotFoundError:
                return []
        return sorted(PurePosixPath(each["name"]).name for each in found if each["type"] == kind)

    @contextmanager
    def _original(self, path: Path, done: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
        """The file system and key of a copy's original; whatever it raises becomes one line."""
        uri = self.uri_of(path)
        if uri is None:
            raise ValueError(f"{path} is not in the working copy {self.folder}")
        try:
            # Others write there too: what was listed a moment ago may be out of date.
            files, key = fsspec.core.url_to_fs(uri, use_listings_cache=False)
            yield files, str(key).rstrip("/")
        except Exception as error:  # each storage's driver has errors of its own kind
            raise WorkspaceError(
                f"{without_passwords(uri)} cannot be {done} ({reason_of(error)}): check the address, the "
                "credentials and the network"
            ) from error


@cache
def working_copy() -> WorkingCopy:
    """The working copy of this process. It goes with the process; `TMPDIR` says where it is."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    held = (folder / f"{_HELD}{_UNFINISHED}").open("wb")
    fcntl.flock(held, fcntl.LOCK_EX)  # as long as the process lives
    (folder / f"{_HELD}{_UNFINISHED}").rename(folder / _HELD)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(held.close)
    return WorkingCopy(folder)


def _remove_abandoned(parent: Path) -> None:
    """Removes the copies of processes that were killed."""
    for mark in parent.glob(f"{_PREFIX}*/{_HELD}"):
        with suppress(OSError), mark.open("rb") as file:  # somebody else's, or its process lives
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(mark.parent, ignore_errors=True)


def in_working_copy(catalog: Mapping[str, Any]) -> dict[str, Any]:
    """The catalog; our datasets of files in object storage get paths in the working copy."""
    return {name: _with_local_path(entry) for name, entry in catalog.items()}


def _with_local_path(entry: Any) -> Any:
    if not isinstance(entry, Mapping) or not is_remote(entry.get("filepath", "")):
        return entry
    kind = str(entry.get("type", ""))
    if not kind.startswith(_OURS) or kind.endswith(_READS_AFAR):
        return entry
    return {**entry, "filepath": str(working_copy().path_of(str(entry["filepath"])))}


def fetched(path: Path) -> Path:
    """The path; where it is in the working copy, with what the storage has there."""
    if is_copy(path):
        working_copy().fetch([path])
    return path


def display_path(path: Path) -> str:
    """A path for messages: that of a working copy as the URI of the original."""
    return (working_copy().uri_of(path) if is_copy(path) else None) or str(path)


def is_copy(path: PurePath) -> bool:
    """Whether a path is one in the working copy."""
    return has_copy() and working_copy().uri_of(path) is not None


def has_copy() -> bool:
    """Whether there is a working copy: only where something was configured to be in object storage."""
    return bool(working_copy.cache_info().currsize)


def modified(about: Mapping[str, Any]) -> float | None:
    """When an object was written, from its listing; None where that has no time."""
    moment = next((about[name] for name in _MODIFIED if about.get(name) is not None), None)
    if isinstance(moment, datetime):
        return moment.timestamp()
    return float(moment) if isinstance(moment, int | float) else None


def _files(path: Path) -> list[Path]:
    """The file, or every finished file of a folder."""
    if path.is_file():
        return [path]
    found = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return [each for each in found if not each.name.endswith(_UNFINISHED)]


def _signature(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:  # somebody else took it away meanwhile
        return -1, -1
    return found.st_size, found.st_mtime_ns
