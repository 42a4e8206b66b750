"""What an output was made from, as digests of contents, written beside it; and what has changed since, in
words.
"""

import hashlib
import logging
import os
import sqlite3
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, Final, Literal, Protocol, Union, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError

from captionloop.files import files_below

logger = logging.getLogger(__name__)

_SETTLED_NS = 50_000_000
"""A file changed less than this ago may change once more without its times showing it."""
_COARSE_NS = 2_000_000_000
"""The same where the file system counts in whole seconds."""
MISSING = "missing"


@runtime_checkable
class SupportsContentDigest(Protocol):
    """A dataset that computes its own content digest."""

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
        """The digest of a file's bytes; `missing` where there is none, and why, where nobody can read it."""
        try:
            return self._of_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return MISSING
        except OSError as error:  # whoever needs it says so; for the others it is as it was
            return f"unreadable: {error.errno}"

    def _of_file(self, path: Path) -> str:
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):  # reading a pipe would wait for ever
            return f"no file: {stat.S_IFMT(before.st_mode)}"
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
        digest = hashlib.sha256()
        for name in files_below(folder):
            if (takes is None or takes(name)) and not any(part.startswith(".") for part in name.split("/")):
                digest.update(os.fsencode(name) + b"\0" + self.of_file(folder / name).encode())
        self.save()
        return digest.hexdigest()

    def save(self) -> None:
        """Saves the new digests."""
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
    if isinstance(dataset, SupportsContentDigest):
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


FOLDER: Final = ".provenance"
_LONGEST_VALUE = 60
_GONE = object()


class Provenance(BaseModel):
    """What the outputs of a node were made from.

    Attributes:
        node: its name.
        code: digests of the code that it used, by module.
        packages: exact versions, by distribution.
        reads: which paths of its parameters it read; the empty one is all of them.
        parameters: their values, by dataset and path.
        settings: of its datasets, where they change what is written or read (`gallery.save_args.dpi`).
        inputs: a digest of each input, None where it does not count; of what was handed on in memory, what
            that was made from.
    """

    model_config = ConfigDict(frozen=True)

    node: str
    code: dict[str, str] = {}
    packages: dict[str, str] = {}
    reads: dict[str, frozenset[str]] = {}
    parameters: dict[str, dict[str, Any]] = {}
    settings: dict[str, Any] = {}
    inputs: dict[str, Union["Provenance", str, None]] = {}


class Record(BaseModel):
    """An output's record: what it was made from, and the digest that it had then."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    made: Provenance
    output: str | None


def record_path(output: Path) -> Path:
    """Where the record of an output lies: with it, so that both move together."""
    return output.parent / FOLDER / f"{output.name}.json"


def read_record(output: Path) -> Record | None:
    """The record of an output; None where there is none that can be read."""
    try:
        return Record.model_validate_json(record_path(output).read_bytes())
    except (OSError, ValidationError):
        return None


def write_record(output: Path, record: Record) -> None:
    """Puts the record beside its output."""
    write_beside(record_path(output), record.model_dump_json(indent=1))


def write_beside(path: Path, text: str) -> None:
    """Writes a text, then renames it into its place; several workers may write the same at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def differences(before: Provenance, now: Provenance, names: Mapping[str, str]) -> list[str]:
    """The differences between two provenances, as phrases. `names` are those of datasets that people know by
    another name.
    """
    return list(dict.fromkeys(_differences(before, now, names)))


def _differences(before: Provenance, now: Provenance, names: Mapping[str, str]) -> Iterator[str]:
    if before.node != now.node:
        yield f"it was made by {before.node}"
        return
    parts = now.node.split(".")  # `stage.model.step`: its parameters need not repeat the model
    model = f"{parts[-2]}." if len(parts) > 2 else ""
    for block in sorted({*before.parameters, *now.parameters}):
        old, new = before.parameters.get(block, {}), now.parameters.get(block, {})
        for path, was, is_now in _changed(old, new):
            name = f"{block}.{path}" if path else block
            yield f"{name.removeprefix(model)} {_shown(was)} -> {_shown(is_now)}"
    for path, was, is_now in _changed(before.settings, now.settings):
        yield f"{path} {_shown(was)} -> {_shown(is_now)}"
    for name in sorted({*before.inputs, *now.inputs}):
        title = names.get(name, name)
        if name not in before.inputs:
            yield f"{title} is a new input"
        elif name not in now.inputs:
            yield f"{title} is no input any more"
        else:
            old_input, new_input = before.inputs[name], now.inputs[name]
            if isinstance(old_input, Provenance) and isinstance(new_input, Provenance):
                yield from _differences(old_input, new_input, names)
            elif old_input != new_input:
                yield f"{title} changed"
    for package, was, is_now in _changed(before.packages, now.packages):
        yield f"{package} {_shown(was)} -> {_shown(is_now)}"
    changed = [module for module, _, _ in _changed(before.code, now.code)]
    if changed:
        yield f"code of {_some(changed)} changed"


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted({*old, *new}):
        was, is_now = old.get(key, _GONE), new.get(key, _GONE)
        if was is _GONE or is_now is _GONE or was != is_now:
            yield key, was, is_now


def _shown(value: Any) -> str:
    text = "(nothing)" if value is _GONE else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
