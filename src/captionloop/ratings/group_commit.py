"""Group commit: one thread writes, many callers wait; and the statements that it runs.

A commit that survives a power cut costs a flush of the disk, whatever it holds. So operations that arrive
while a commit is under way are gathered and share the next one. If one of them fails, all of them are rolled
back, and each is done again in a savepoint of its own: the one that fails is rolled back alone. The future of
an operation is set only after the commit returned; what has been acknowledged is on the disk. Rows that many
callers hand in for the same statements are written by one call of these, for most of what a row costs is the
calls.

Several processes write. All take their locks in the same order, so that two groups wait for each other in
turn and not in a circle; where PostgreSQL still breaks a circle, or a lock or a serialisation fails, the
whole group is done again.
"""

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    Delete,
    Engine,
    Insert,
    Select,
    Update,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, IntegrityError

from captionloop.ratings.database import DatabaseError, insert_into, unreachable
from captionloop.ratings.rating_tables import Caption, Erasure, Offer, PendingPhoto, Photo, Rating, Tombstone


@dataclass(frozen=True, slots=True)
class Statements:
    """The SQL statements of one dialect. Parameters are the columns' names; `of_caption`, `by_rater`, `photo`
    and `photos` say which rows are meant, `moment` when.
    """

    insert_photo: Insert
    delete_erasure: Delete
    cancel_removal: Update
    lock_photos_shared: "Select[None] | None"
    try_lock_photo: "Select[bool] | None"
    insert_pending: Insert
    leases: "Select[str | None, datetime | None]"
    insert_caption: Insert
    delete_pending: Delete
    may_rate: "Select[str]"
    upsert_rating: Insert
    read_rating: "Select[str, int, str | None, str | None, datetime, datetime]"
    upsert_erasure: Insert


@cache
def statements_for(dialect: str) -> Statements:
    """The statements in the dialect `sqlite` or `postgresql`: both have `ON CONFLICT`."""
    photo, rating, erasure = (insert_into(dialect, table) for table in (Photo, Rating, Erasure))
    of_rating = (Rating.caption_id == bindparam("of_caption"), Rating.rater == bindparam("by_rater"))
    offered = exists().where(
        Offer.caption_id == bindparam("of_caption"), Offer.rater == bindparam("by_rater")
    )
    key, several = bindparam("key", type_=BigInteger), dialect == "postgresql"
    keys = bindparam("keys", type_=postgresql.ARRAY(BigInteger))
    return Statements(
        # A row that is there is not touched: everybody who captions this photo would wait for its lock in
        # turn. The caption's foreign key holds it, shared; if it was erased in between, the caption fails and
        # is done again.
        insert_photo=photo.on_conflict_do_nothing(index_elements=["sha256"]),
        delete_erasure=delete(Erasure).where(Erasure.sha256 == bindparam("photo")),
        # Its tombstones have nothing left to do in archive and feature store: a caption shows it again.
        cancel_removal=update(Tombstone)
        .where(Tombstone.photo_sha256 == bindparam("photo"), Tombstone.archive_done_at.is_(None))
        .values(
            archive_done_at=bindparam("moment"),
            features_done_at=bindparam("moment"),
            leased_by=None,
            leased_until=None,
        ),
        # Only PostgreSQL lets several transactions write at a time.
        lock_photos_shared=select(func.pg_advisory_xact_lock_shared(func.unnest(keys))) if several else None,
        try_lock_photo=select(func.pg_try_advisory_xact_lock(key)) if several else None,
        insert_pending=insert(PendingPhoto),
        leases=select(Tombstone.photo_sha256, Tombstone.leased_until).where(
            Tombstone.photo_sha256.in_(bindparam("photos", expanding=True)),
            Tombstone.archive_done_at.is_(None),
        ),
        insert_caption=insert(Caption),
        delete_pending=delete(PendingPhoto).where(PendingPhoto.caption_id == bindparam("of_caption")),
        # Whose photo nobody agreed to show is rated by those whom its owner told its id; what is shown to
        # others, by those whom it was shown to.
        may_rate=select(Caption.caption_id).where(
            Caption.caption_id == bindparam("of_caption"),
            Caption.shared.is_(False) | (Caption.owner == bindparam("by_rater")) | offered,
        ),
        upsert_rating=rating.on_conflict_do_update(
            index_elements=["caption_id", "rater"],
            set_={
                name: rating.excluded[name]
                for name in ("stars", "correction", "comment", "updated_at", "network")
            },
            # The same opinion again is no change: its time stays, so a repeated request is idempotent.
            where=(
                (Rating.stars != rating.excluded.stars)
                | Rating.correction.is_distinct_from(rating.excluded.correction)
                | Rating.comment.is_distinct_from(rating.excluded.comment)
            ),
        ),
        read_rating=select(
            Rating.caption_id,
            Rating.stars,
            Rating.correction,
            Rating.comment,
            Rating.created_at,
            Rating.updated_at,
        ).where(*of_rating),
        upsert_erasure=erasure.on_conflict_do_update(
            index_elements=["sha256"], set_={"erased_at": erasure.excluded.erased_at}
        ),
    )


T = TypeVar("T")
Row = TypeVar("Row")

ATTEMPTS = 6
PAUSE_SECONDS = 0.02
_TRANSIENT = {"40001", "40P01", "55P03"}
"""PostgreSQL's codes for a serialisation failure, a deadlock, and a lock that was not to be had."""


class WriterFullError(DatabaseError):
    """The queue of writes is full."""


@dataclass(frozen=True, slots=True)
class _Pending:
    locks: tuple[str, ...]
    operation: Callable[[Connection, Sequence[Any]], Sequence[Any]]
    row: Any
    future: "Future[Any]"


class GroupWriter:
    """Runs operations on one connection, in the order they came, several to a commit.

    An operation may be run several times before it counts: it changes nothing but the database.
    """

    def __init__(self, engine: Engine, *, capacity: int = 1024, group: int = 64) -> None:
        self._engine = engine
        self._group = group
        self._waiting: queue.Queue[_Pending | None] = queue.Queue(capacity)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, operation: Callable[[Connection], T], locks: tuple[str, ...] = ()) -> "Future[T]":
        """Hand in an operation; its future is done once it is committed, or has failed and is rolled back.

        Args:
            operation: what to do.
            locks: names the rows it locks. Within a group operations run in the order of these names; of
                those with the same name, which came first runs first.

        Raises:
            WriterFullError: too many operations wait already.
        """
        return self._enqueue(_Pending(locks, lambda connection, _: [operation(connection)], None, Future()))

    def submit_row(
        self,
        operation: Callable[[Connection, Sequence[Row]], Sequence[T]],
        row: Row,
        locks: tuple[str, ...],
    ) -> "Future[T]":
        """Hand in a row for an operation that takes many; the same as `submit` otherwise.

        Args:
            operation: makes a result of each row. It gets those rows together that follow each other in a
                group, in the order of their locks.
            row: what to do it with.
            locks: as of `submit`.

        Raises:
            WriterFullError: too many operations wait already.
        """
        return self._enqueue(_Pending(locks, operation, row, Future()))

    def _enqueue(self, pending: _Pending) -> "Future[Any]":
        try:
            self._waiting.put_nowait(pending)
        except queue.Full:
            raise WriterFullError(
                "the ratings database is behind with writing; try again in a moment"
            ) from None
        if self._thread is None:
            self._start()
        return pending.future

    def waiting(self) -> int:
        """How many operations wait."""
        return self._waiting.qsize()

    def close(self) -> None:
        """Write what waits, then stop.

        What is handed in meanwhile is written by another thread, which begins when this one has ended: of two
        at once, one would take the sign to stop that is meant for the other.
        """
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._waiting.put(None)
                thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ratings-writer", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            group = [first]
            stop = False
            while len(group) < self._group and not stop:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    stop = True
                else:
                    group.append(following)
            self._write([pending for pending in group if pending.future.set_running_or_notify_cancel()])
            if stop:
                return

    def _write(self, group: list[_Pending]) -> None:
        group = sorted(group, key=lambda pending: pending.locks)
        try:
            results = self._commit(group)
        except Exception as error:
            reported = unreachable(error) if isinstance(error, DBAPIError) else error
            for pending in group:
                pending.future.set_exception(reported)
            return
        for pending, (result, failure) in zip(group, results, strict=True):
            if failure is None:
                pending.future.set_result(result)
            else:
                pending.future.set_exception(failure)

    def _commit(self, group: list[_Pending]) -> "list[_Result]":
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._run_group(group) or self._run_separately(group)
            except DBAPIError as error:
                if attempt == ATTEMPTS or not _is_transient(error):
                    raise
            time.sleep(random.uniform(0, PAUSE_SECONDS * 2**attempt))  # noqa: S311 - not two at once again
        raise AssertionError("unreachable")

    def _run_group(self, group: list[_Pending]) -> "list[_Result] | None":
        """The results of all operations in one transaction without savepoints (these cost more than the
        operations); None, rolled back, if one fails.
        """
        results: list[Any] = []
        with self._engine.connect() as connection:
            transaction = connection.begin()
            try:
                for operation, pendings in groupby(group, attrgetter("operation")):
                    results += operation(connection, [pending.row for pending in pendings])
            except Exception as error:
                transaction.rollback()
                if _ends_the_transaction(error):
                    raise
                return None
            transaction.commit()  # where this fails, doing them one by one is no help
        return [(result, None) for result in results]

    def _run_separately(self, group: list[_Pending]) -> "list[_Result]":
        results: list[_Result] = []
        with self._engine.begin() as connection:
            for pending in group:
                try:
                    results.append((_run_with_retry(connection, pending), None))
                except DBAPIError as error:
                    if _ends_the_transaction(error):
                        raise
                    results.append((None, unreachable(error)))
                except Exception as error:
                    results.append((None, error))
        return results


_Result = tuple[Any, Exception | None]


def _is_transient(error: DBAPIError) -> bool:
    """Whether the error is transient: the same may succeed in another transaction."""
    return getattr(error.orig, "sqlstate", None) in _TRANSIENT


def _ends_the_transaction(error: Exception) -> bool:
    """Whether the error ends the whole transaction, so that running operations one by one is no help."""
    return isinstance(error, DBAPIError) and (error.connection_invalidated or _is_transient(error))


def _run_with_retry(connection: Connection, pending: _Pending) -> Any:
    """Run in a savepoint; once more where another process got in between."""
    try:
        return _run_in_savepoint(connection, pending)
    except IntegrityError:
        return _run_in_savepoint(connection, pending)


def _run_in_savepoint(connection: Connection, pending: _Pending) -> Any:
    with connection.begin_nested():
        (result,) = pending.operation(connection, [pending.row])
        return result
