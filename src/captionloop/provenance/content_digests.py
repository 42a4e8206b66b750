"""What is in a file, a folder or a dataset, as one digest; what was hashed before is not read again."""

import hashlib
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, Protocol, runtime_checkable

logger = logging.getLogger(__name__)

_SETTLED_NS = 50_000_000
"""A file changed less than this ago may change once more without its times showing it."""
_COARSE_NS = 2_000_000_000
"""The same where the file system counts in whole seconds."""
MISSING = "missing"


@runtime_checkable
class KnowsItsContent(Protocol):
    """A dataset that says itself what of it counts."""

    def content_digest(self, files: "FileDigests", beside: frozenset[str]) -> str | None:
        """A digest of what a node reads here; None where nothing of it can change a result.

        `beside` are the names of the node's other inputs.
        """


class FileDigests:
    """SHA-256 of files, remembered by what the system says about them: inode, size and times.

    Paths are not part of it, so that a project folder that was moved is not read anew.
    """

    def __init__(self, database: Path | None = None) -> None:
        """`database` is where digests are kept; without one, or where it cannot be written: in memory."""
        self._known: dict[str, str] = {}
        self._new: dict[str, str] = {}
        self._connection = _open(database)

    def of_file(self, path: Path) -> str:
        """The digest of a file's bytes; `missing` where there is none."""
        try:
            before = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return MISSING
        key = f"{before.st_ino}-{before.st_size}-{before.st_mtime_ns}-{before.st_ctime_ns}"
        known = self._find(key)
        if known is not None:
            return known
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        changed = max(before.st_mtime_ns, before.st_ctime_ns)
        age = _SETTLED_NS if before.st_mtime_ns % 1_000_000_000 else _COARSE_NS
        if time.time_ns() - changed > age and path.stat().st_ctime_ns == before.st_ctime_ns:
            self._known[key] = self._new[key] = digest
        return digest

    def of_folder(self, folder: Path, takes: Callable[[str], bool] | None = None) -> str:
        """A digest of the files in a folder, by their names; hidden ones and those not taken do not count."""
        if not folder.is_dir():
            return self.of_file(folder)
        names = sorted(
            Path(place, name).relative_to(folder).as_posix()
            for place, _, files in os.walk(folder)
            for name in files
        )
        digest = hashlib.sha256()
        for name in names:
            if (takes is None or takes(name)) and not any(part.startswith(".") for part in name.split("/")):
                digest.update(os.fsencode(name) + b"\0" + self.of_file(folder / name).encode())
        self.keep()
        return digest.hexdigest()

    def keep(self) -> None:
        """Writes down what was hashed since the last time."""
        if self._connection is None or not self._new:
            return
        with suppress(sqlite3.Error):  # it costs time, not a result
            with self._connection as transaction:
                transaction.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?)", self._new.items())
            self._new.clear()

    def _find(self, key: str) -> str | None:
        if key not in self._known and self._connection is not None:
            with suppress(sqlite3.Error):
                row = self._connection.execute("SELECT digest FROM digests WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    self._known[key] = row[0]
        return self._known.get(key)


def _open(database: Path | None) -> sqlite3.Connection | None:
    if database is None:
        return None
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(database, timeout=30, check_same_thread=False)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS digests (key TEXT PRIMARY KEY, digest TEXT) WITHOUT ROWID"
        )
    except (OSError, sqlite3.Error) as error:
        logger.debug("Digests of files are not kept: %s cannot be used (%s)", database, error)
        return None
    return connection


def content_of(dataset: Any, files: FileDigests, beside: frozenset[str] = frozenset()) -> str | None:
    """A digest of what a dataset holds; None where nothing of it counts.

    What neither says it nor is a local file or folder gets another digest each time: nobody can tell that it
    is the same.
    """
    if isinstance(dataset, KnowsItsContent):
        return dataset.content_digest(files, beside)
    path = local_path(dataset)
    return files.of_folder(path) if path is not None else f"unknown-{uuid.uuid4()}"


def local_path(dataset: Any) -> Path | None:
    """Where a dataset lies on this machine; None where it is no single local file or folder."""
    described = dataset._describe()  # the only place where every dataset of Kedro tells it
    path = described.get("filepath")
    if not isinstance(path, str | PurePath) or not str(path) or "://" in str(path):
        return None
    if str(described.get("protocol", "file")) != "file":
        return None
    return Path(path)


def digest_of(*parts: object) -> str:
    """One digest for several values, by what they look like."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
