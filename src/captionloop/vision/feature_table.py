"""The Lance table of one encoder's features: rows are added, deleted, compacted and mended.

A commit is one new file, renamed into place or put under the condition that it is not there yet: rows are
there whole or not at all, a writer that is killed leaves at most files that nothing names, and many may write
at once.
"""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from captionloop.files import to_disk
from captionloop.vision.feature_rows import Grids, Rows, as_table, lance, store_errors
from captionloop.vision.photo_keys import Keys, hex_of

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

SUFFIX: Final = ".lance"
SHARD_SUFFIX: Final = ".safetensors"
"""What features were kept in before there were tables: see `legacy_shards`."""
CACHE: Final = Path(tempfile.gettempdir()) / "captionloop-features"
_CLEANUP: Final = {"interval": "32", "older_than": "1h"}
"""Every commit is a version; older ones, of which nothing is read any more, go at every 32nd."""
_CACHED_BYTES: Final = 32 << 20
_BATCH_BYTES: Final = 16 << 20
_NAMED_AT_ONCE: Final = 10_000
_Item = TypeVar("_Item")


class FeatureTable:
    """A table in a local folder, or under a URI that Lance can write (`s3://`, `gs://`, `az://`)."""

    def __init__(self, root: str, fingerprint: str, cache: Path = CACHE) -> None:
        self.fingerprint = fingerprint
        self.is_remote = "://" in root
        self.uri = f"{root.rstrip('/')}/{fingerprint}{SUFFIX}"
        self.copy = cache / re.sub(r"\W+", "-", self.uri) if self.is_remote else None

    def open(self) -> Rows | None:
        """What it holds at this moment; None where there is no table yet.

        Raises:
            StoreError: it is damaged, or cannot be reached.
        """
        with store_errors(self.uri):
            dataset = self._dataset()
        return None if dataset is None else Rows(self.uri, dataset, self.copy)

    def append(self, keys: Keys, grids: Grids) -> None:
        """Adds grids `[n, R, C]` of photos `[n, 32]`; on the disk when this returns.

        Raises:
            OSError: the local disk is full or fails.
            StoreError: the grids are of another shape than those that are there, or the storage fails.
        """
        rows = as_table(keys, grids, self.fingerprint)
        with store_errors(self.uri, writing=True):
            dataset = self._dataset() or self._create(rows.schema)
            fragments = lance("lance.fragment").write_fragments(
                rows,
                dataset,
                mode="append",
                storage_options=self._options,
            )
            self._flush("data", [file.path for each in fragments for file in each.files])
            appended = lance().LanceOperation.Append(fragments)
            try:
                self._commit(dataset, appended)
            except lance("lance.commit").CommitConflictError:
                # Another writer has made the table at the same moment; the files are as good for that one.
                self._commit(self._dataset(), appended)

    def delete(self, photos: Collection[str]) -> int:
        """Deletes the rows of these photos, from the files as well; how many rows those were.

        Who has opened the table before may find that some of its files have gone.

        Raises:
            StoreError: the table is damaged.
            OSError: the local disk is full or fails.
        """
        count, rows = self._delete(photos), self.open()
        if rows is not None and any(each.num_deletions for each in rows.dataset.get_fragments()):
            self.compact()
        elif rows is not None:  # killed after it had been compacted, somebody has left the old files
            with store_errors(self.uri, writing=True):
                rows.dataset.cleanup_old_versions(retain_versions=1)
        return count

    def holds(self, photos: Collection[str]) -> set[str]:
        """Those of these photos that have a row. Raises `StoreError` as `open`."""
        rows, found = self.open(), set[str]()
        if rows is not None:
            for named in _named(photos):
                with store_errors(self.uri):
                    taken = rows.dataset.to_table(columns=["key"], filter=named)["key"].to_pylist()
                found.update(key.hex() for key in taken)
        return found

    def compact(self) -> None:
        """Writes files anew that have deleted rows, joins small ones, and removes what is superseded.

        Of rows that two writers have added for one photo, the first stays.

        Raises:
            StoreError: the table is damaged.
            OSError: the local disk is full or fails.
        """
        rows = self.open()
        if rows is None:
            return
        optimizer = lance("lance.optimize").Compaction
        with store_errors(self.uri, writing=True):
            self._delete_rows(rows)
            largest = max((each.physical_rows for each in rows.dataset.get_fragments()), default=1)
            options = {
                "materialize_deletions": True,
                "materialize_deletions_threshold": 0.0,
                "target_rows_per_fragment": largest,
                "batch_size": max(1, _BATCH_BYTES // rows.bytes_per_row),
            }
            written = [task.execute(rows.dataset) for task in optimizer.plan(rows.dataset, options).tasks]
            if written:
                self._flush("data", () if self.is_remote else os.listdir(f"{self.uri}/data"))  # noqa: PTH208
                optimizer.commit(rows.dataset, written)
                self._flush_version()
            self._dataset().cleanup_old_versions(retain_versions=1)
        if self.copy is not None:
            shutil.rmtree(self.copy, ignore_errors=True)

    def drop_duplicates(self) -> None:
        """Of rows that two writers have added for one photo, leaves the first. Raises as `compact`."""
        rows = self.open()
        if rows is not None and len(rows.superfluous()):
            self.compact()

    def scrub(self) -> tuple[int, int]:
        """Reads all rows and deletes those that are damaged: how many there are, and how many were deleted.

        Raises:
            StoreError: the table itself is damaged.
            OSError: the local disk is full or fails.
        """
        rows = self.open()
        if rows is None:
            return 0, 0
        before = len(rows)
        damaged, unreadable = rows.scrub()
        if unreadable:
            with store_errors(self.uri, writing=True):
                self._commit(rows.dataset, lance().LanceOperation.Delete([], unreadable, "true"))
        self._delete([photo for keys in damaged for photo in hex_of(keys)])
        self.compact()
        left = self.open()
        return before, before - (0 if left is None else len(left))

    @staticmethod
    def _delete_rows(rows: Rows) -> None:
        for ids in _in_parts(rows.superfluous().tolist()):
            rows.dataset.delete(f"_rowid IN ({', '.join(map(str, ids))})")

    def _delete(self, photos: Collection[str]) -> int:
        dataset, count = self._opened(), 0
        if dataset is None:
            return 0
        with store_errors(self.uri, writing=True):
            for named in _named(photos):
                count += dataset.delete(named)["num_deleted_rows"]
            self._flush_version()
        return count

    def _opened(self) -> Any:
        rows = self.open()
        return None if rows is None else rows.dataset

    @property
    def _options(self) -> dict[str, str]:
        """Storage options for Lance from environment variables that only other drivers read."""
        if not self.is_remote:
            return {}
        options = {
            "client_max_retries": os.environ.get("AWS_MAX_ATTEMPTS", "5"),
            "client_retry_timeout": "60",
        }
        endpoints = (os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
        if any(each.startswith("http://") for each in endpoints):
            options["allow_http"] = "true"
        return options

    def _dataset(self) -> Any:
        """The newest version; None where there is none."""
        if not self.is_remote and not os.path.isdir(self.uri):  # noqa: PTH112
            return None
        try:
            return lance().dataset(
                self.uri,
                storage_options=self._options,
                index_cache_size_bytes=_CACHED_BYTES,
                metadata_cache_size_bytes=_CACHED_BYTES,
            )
        except ValueError as error:
            if "was not found: Not found" in str(error):
                return None
            raise

    def _create(self, schema: "pa.Schema") -> Any:
        if not self.is_remote:
            Path(self.uri).parent.mkdir(parents=True, exist_ok=True)
        try:
            # Lance's own `create` tries again as an overwrite where another writer was first, and would lose
            # what that one has appended meanwhile.
            made = lance().LanceDataset.commit(
                self.uri,
                lance().LanceOperation.Overwrite(schema, []),
                storage_options=self._options,
                max_retries=0,
            )
        except Exception as error:
            found = self._dataset()
            if found is None:
                raise
            logger.debug("Another writer has made %s first: %s", self.uri, error)
            return found
        made.update_config(
            {
                "lance.auto_cleanup.interval": _CLEANUP["interval"],
                "lance.auto_cleanup.older_than": _CLEANUP["older_than"],
            }
        )
        return self._dataset()

    def _commit(self, dataset: Any, operation: Any) -> None:
        lance().LanceDataset.commit(
            dataset, operation, read_version=dataset.version, storage_options=self._options
        )
        self._flush_version()

    def _flush(self, folder: str, names: Iterable[str]) -> None:
        """Waits until the local disk has these files and their names; Lance does not."""
        if not self.is_remote:
            place = Path(self.uri) / folder
            for name in names:
                to_disk(place / name)
            to_disk(place)

    def _flush_version(self) -> None:
        if not self.is_remote:
            versions = (Path(self.uri) / "_versions").glob("*.manifest")
            self._flush("_versions", [min(each.name for each in versions)])  # named downwards


def _named(photos: Collection[str]) -> Iterator[str]:
    """SQL for the rows of photos."""
    for some in _in_parts(sorted(photos)):
        keys = ", ".join(f"X'{photo}'" for photo in some)
        yield f"key IN ({keys})"


def _in_parts(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[start : start + _NAMED_AT_ONCE] for start in range(0, len(items), _NAMED_AT_ONCE))
