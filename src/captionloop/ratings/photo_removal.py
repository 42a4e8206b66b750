"""The ledger of photos: about to be written, or erased and to be removed; and the reconciliation with the
archive.

Photos are named by their content, so the photo of a caption that is erased may be the very one that somebody
is sending at that moment. Two rules keep them apart:

- Before a photo is written there is a pending row that names it; where somebody is removing this photo, the
  writer waits until that is over.
- Before a photo is removed, there must be neither a pending row nor a caption that names it. Then its
  tombstones are leased for a while: of several gateways one removes it.

Neither overlooks what the other has not committed yet: SQLite lets one transaction write at a time, and on
PostgreSQL a lock on the photo's name is held until the commit, shared by those who write and alone by who
removes.

Whoever is stopped in between leaves a row that says what is left to be done, and `reconciliation` does it.

Of the photos that lie in the archive and that nothing names, none is removed here: a database that was
restored from last week's copy, or that belongs to another service, names few of them.
"""

import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from captionloop.photos import ArchiveError, PhotoArchive
from captionloop.ratings.database import unreachable
from captionloop.ratings.group_commit import GroupWriter, statements_for
from captionloop.ratings.rating_tables import PendingPhoto, Photo, Tombstone, now

PENDING: Final = timedelta(minutes=10)
"""After which a photo that was about to be written counts as abandoned; no request takes as long."""
LEASE: Final = timedelta(minutes=2)
"""Within which a photo is removed, or another gateway tries."""


class Lease(Enum):
    """The result of asking for a lease on the removal of a photo."""

    OURS = "ours"
    BUSY = "busy"
    """Somebody else is removing the photo, or is sending it."""
    NEEDED = "needed"
    """A caption shows the photo: it stays."""
    NOTHING = "nothing"
    """There is nothing left to remove."""


@dataclass(frozen=True, slots=True)
class TombstoneRecord:
    """A tombstone: what was erased, when and why, and since when it is gone from which place."""

    tombstone_id: int
    reason: str
    caption_id: str | None
    person: str | None
    photo_sha256: str | None
    erased_at: datetime
    archive_done_at: datetime | None
    features_done_at: datetime | None
    runs_done_at: datetime | None


_COLUMNS = (
    Tombstone.tombstone_id,
    Tombstone.reason,
    Tombstone.caption_id,
    Tombstone.person,
    Tombstone.photo_sha256,
    Tombstone.erased_at,
    Tombstone.archive_done_at,
    Tombstone.features_done_at,
    Tombstone.runs_done_at,
)
_IN_ARCHIVE = Tombstone.archive_done_at.is_(None)


class Ledger:
    """Pending photos and tombstones in the ratings database. Reads block; writes return futures."""

    def __init__(self, reader: Engine, writer: GroupWriter) -> None:
        self._reader = reader
        self._writer = writer

    def begin(self, caption_id: str, sha256: str) -> "Future[bool]":
        """Note that the photo of a caption is about to be written; whether somebody is removing it: then who
        wants to write it waits, see `being_removed`.
        """
        row = {"caption_id": caption_id, "photo_sha256": sha256, "begun_at": now()}
        return self._writer.submit_row(_begin, row, locks=("0 pending", sha256))

    def being_removed(self, sha256: str) -> bool:
        """Whether somebody is removing this photo."""
        try:
            with self._reader.connect() as connection:
                return sha256 in _leased(connection, [sha256])
        except DBAPIError as error:
            raise unreachable(error) from error

    def lease(self, sha256: str, holder: str) -> "Future[Lease]":
        """Ask for the right to remove a photo from the archive; see `Lease`."""

        def operation(connection: Connection) -> Lease:
            statements = statements_for(connection.dialect.name)
            lock = statements.try_lock_photo
            if lock is not None and not connection.execute(lock, {"key": _key(sha256)}).scalar_one():
                return Lease.BUSY
            conditions = (Tombstone.photo_sha256 == sha256, _IN_ARCHIVE)
            leases = select(Tombstone.leased_by, Tombstone.leased_until).where(*conditions)
            tombstones = connection.execute(leases.order_by(Tombstone.tombstone_id).with_for_update()).all()
            if not tombstones:
                return Lease.NOTHING
            moment = now()
            if any(by != holder and until is not None and until > moment for by, until in tombstones):
                return Lease.BUSY
            # In this order: what is pending no more has become a caption, and then there is its photo.
            pending = select(PendingPhoto.caption_id).where(PendingPhoto.photo_sha256 == sha256).limit(1)
            if connection.execute(pending).first() is not None:
                return Lease.BUSY
            if connection.execute(select(Photo.sha256).where(Photo.sha256 == sha256)).first() is not None:
                connection.execute(statements.cancel_removal, {"photo": sha256, "moment": moment})
                return Lease.NEEDED
            lease = {"leased_by": holder, "leased_until": moment + LEASE}
            connection.execute(update(Tombstone).where(*conditions).values(lease))
            return Lease.OURS

        return self._writer.submit(operation, locks=("1 photo", sha256))

    def end_lease(self, sha256: str, holder: str, *, removed: bool) -> "Future[None]":
        """End a lease, after the photo was removed from the archive or could not be."""

        def operation(connection: Connection) -> None:
            moment = now()
            times = {"archive_done_at": moment} if removed else {}
            conditions = (Tombstone.photo_sha256 == sha256, _IN_ARCHIVE, Tombstone.leased_by == holder)
            ended = {"leased_by": None, "leased_until": moment, **times}
            connection.execute(update(Tombstone).where(*conditions).values(ended))

        return self._writer.submit(operation, locks=("1 photo", sha256))

    def request_removal(self, photos: Sequence[str], reason: str) -> "Future[None]":
        """Add tombstones for photos that no row names, so that they are removed."""
        rows = [_row(sha256, reason) for sha256 in photos]

        def operation(connection: Connection) -> None:
            if rows:
                connection.execute(insert(Tombstone), rows)

        return self._writer.submit(operation)

    def abandon_pending(self, limit: int, *, older_than: timedelta = PENDING) -> "Future[list[str]]":
        """Turn up to `limit` abandoned pending photos into tombstones; returns these photos."""

        def operation(connection: Connection) -> list[str]:
            old = select(PendingPhoto.caption_id).where(PendingPhoto.begun_at < now() - older_than)
            abandoned = connection.scalars(
                delete(PendingPhoto)
                .where(PendingPhoto.caption_id.in_(old.limit(limit)))
                .returning(PendingPhoto.photo_sha256)
            ).all()
            photos = sorted(set(abandoned))
            if photos:
                connection.execute(insert(Tombstone), [_row(sha256, "abandoned") for sha256 in photos])
            return photos

        return self._writer.submit(operation)

    def in_archive(self, limit: int) -> list[str]:
        """Up to `limit` photos that are to be removed, those first that nobody has tried for longest."""
        last_attempt = func.min(func.coalesce(Tombstone.leased_until, Tombstone.erased_at))
        query = select(Tombstone.photo_sha256).where(_IN_ARCHIVE)
        return self._scalars(query.group_by(Tombstone.photo_sha256).order_by(last_attempt).limit(limit))

    def in_archive_of(self, *, caption_id: str | None = None, person: str | None = None) -> list[str]:
        """The photos still to be removed of a caption that was erased, or (and) of a person's captions."""
        query = select(Tombstone.photo_sha256).where(_IN_ARCHIVE)
        if caption_id is not None:
            query = query.where(Tombstone.caption_id == caption_id)
        if person is not None:
            query = query.where(Tombstone.person == person)
        return self._scalars(query.distinct())

    def pending_cleanup(self) -> list[TombstoneRecord]:
        """Tombstones whose photos may still be in feature stores or folders of runs, the oldest first."""
        unfinished = Tombstone.features_done_at.is_(None) | Tombstone.runs_done_at.is_(None)
        return self._tombstones(unfinished)

    def tombstones_of(self, name: str) -> list[TombstoneRecord]:
        """Tombstones of a caption, a person, or a photo (as it is kept, or as it was sent)."""
        return self._tombstones(
            (Tombstone.caption_id == name)
            | (Tombstone.person == name)
            | (Tombstone.photo_sha256 == name)
            | (Tombstone.sent_sha256 == name)
        )

    def mark_derived_removed(
        self, *, features: Iterable[int] = (), runs: Iterable[int] = ()
    ) -> "Future[None]":
        """Mark tombstones whose photos are removed from the feature stores, and from the folders of runs."""
        done = ((Tombstone.features_done_at, sorted(features)), (Tombstone.runs_done_at, sorted(runs)))

        def operation(connection: Connection) -> None:
            for column, ids in done:
                for begin in range(0, len(ids), 500):
                    chunk = Tombstone.tombstone_id.in_(ids[begin : begin + 500])
                    connection.execute(update(Tombstone).where(chunk).values({column.key: now()}))

        return self._writer.submit(operation)

    def prune(self, older_than: timedelta) -> "Future[int]":
        """Delete finished tombstones that are older; returns how many."""
        done = Tombstone.archive_done_at.is_not(None) & Tombstone.features_done_at.is_not(None)
        old = Tombstone.erased_at < now() - older_than
        statement = delete(Tombstone).where(done, Tombstone.runs_done_at.is_not(None), old)
        return self._writer.submit(lambda connection: connection.execute(statement).rowcount)

    def referenced(self, prefix: str) -> set[str]:
        """Photos with this prefix that a caption, a pending row or a tombstone refers to."""
        bounds = prefix, prefix + "g"  # after the last hexadecimal digit
        pending = PendingPhoto.photo_sha256
        found = self._scalars(select(pending).where(pending >= bounds[0], pending < bounds[1]))
        # What is pending no more has become a caption: that is asked afterwards.
        found += self._scalars(
            select(Tombstone.photo_sha256).where(
                _IN_ARCHIVE, Tombstone.photo_sha256 >= bounds[0], Tombstone.photo_sha256 < bounds[1]
            )
        )
        return {*found, *self.shown(prefix)}

    def shown(self, prefix: str) -> set[str]:
        """Photos with this prefix that a caption shows."""
        query = select(Photo.sha256).where(Photo.sha256 >= prefix, Photo.sha256 < prefix + "g")
        return set(self._scalars(query))

    def _tombstones(self, condition: object) -> list[TombstoneRecord]:
        query = select(*_COLUMNS).where(condition).order_by(Tombstone.tombstone_id)  # type: ignore[arg-type]
        try:
            with self._reader.connect() as connection:
                return [TombstoneRecord(*row) for row in connection.execute(query)]
        except DBAPIError as error:
            raise unreachable(error) from error

    def _scalars(self, query: object) -> list[str]:
        try:
            with self._reader.connect() as connection:
                return list(connection.scalars(query))  # type: ignore[call-overload]
        except DBAPIError as error:
            raise unreachable(error) from error


def _begin(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[bool]:
    """Notes several photos that are about to be written; of each, whether somebody is removing it."""
    photos = [row["photo_sha256"] for row in rows]
    share = statements_for(connection.dialect.name).lock_photos_shared
    if share is not None:
        connection.execute(share, {"keys": [_key(sha256) for sha256 in photos]})
    connection.execute(statements_for(connection.dialect.name).insert_pending, rows)
    leased = _leased(connection, photos)
    return [sha256 in leased for sha256 in photos]


def _leased(connection: Connection, photos: Sequence[str]) -> set[str]:
    """Which of these photos somebody is removing."""
    leases = connection.execute(statements_for(connection.dialect.name).leases, {"photos": photos})
    return {str(sha256) for sha256, until in leases if until is not None and until > now()}


def _key(sha256: str) -> int:
    """The photo's name as PostgreSQL names its locks: 60 bits."""
    return int(sha256[:15], 16)


def _row(sha256: str, reason: str) -> dict[str, object]:
    return {"photo_sha256": sha256, "reason": reason, "erased_at": now()}


WRITE_SECONDS: Final = 30.0
"""How long a change of the ledger may take; the writer itself gives up before."""


@dataclass(frozen=True, slots=True)
class RemovalResult:
    """How many removals are done (removed, or needed again), and the photos that remain."""

    settled: int
    remaining: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Differences:
    """Photos in the archive that nothing names, and photos that captions show and that are not there."""

    orphans: tuple[str, ...]
    lost: tuple[str, ...]


def remove_photo(ledger: Ledger, archive: PhotoArchive, sha256: str) -> Lease:
    """Remove a photo from the archive, unless somebody needs it or is at it; see `Lease` for what came of it.

    Raises:
        ArchiveError: the storage refuses; the tombstone stays, and the next one tries again.
        DatabaseError: the ledger cannot be written.
    """
    holder = uuid.uuid4().hex  # of this attempt: two threads of one gateway are two
    lease = ledger.lease(sha256, holder).result(WRITE_SECONDS)
    if lease is not Lease.OURS:
        return lease
    try:
        archive.erase(sha256)
    except ArchiveError:
        ledger.end_lease(sha256, holder, removed=False).result(WRITE_SECONDS)
        raise
    ledger.end_lease(sha256, holder, removed=True).result(WRITE_SECONDS)
    return lease


def remove_photos(ledger: Ledger, archive: PhotoArchive, photos: Iterable[str]) -> RemovalResult:
    """As `remove_photo`, one after the other; once the archive refuses, the others remain.

    Raises:
        DatabaseError: the ledger cannot be written.
    """
    settled, remaining, problem = 0, [], ""
    for sha256 in photos:
        try:
            busy = bool(problem) or remove_photo(ledger, archive, sha256) is Lease.BUSY
        except ArchiveError as error:
            busy, problem = True, str(error)
        if busy:
            remaining.append(sha256)
        else:
            settled += 1
    return RemovalResult(settled, tuple(remaining), problem)


def finish_removals(ledger: Ledger, archive: PhotoArchive, limit: int) -> RemovalResult:
    """Abandon old pending photos, and remove up to `limit` photos whose removal was not finished.

    Raises:
        DatabaseError: the ledger does not answer.
    """
    ledger.abandon_pending(limit).result(WRITE_SECONDS)
    return remove_photos(ledger, archive, ledger.in_archive(limit))


def differences(ledger: Ledger, archive: PhotoArchive, prefix: str) -> Differences:
    """What differs between database and archive of the photos whose names begin with `prefix`.

    Raises:
        ArchiveError: the archive does not answer.
        DatabaseError: the database does not.
    """
    archive.remove_abandoned(prefix, PENDING.total_seconds())
    # A photo is named before it is written, so what lies there is looked at first.
    archived = archive.names(prefix)
    referenced = ledger.referenced(prefix)
    missing = sorted(ledger.shown(prefix) - set(archived))
    # In between it may have been written, or its caption erased.
    lost = [sha256 for sha256 in missing if not archive.holds(sha256)] if missing else []
    if lost:
        shown = ledger.shown(prefix)
        lost = [sha256 for sha256 in lost if sha256 in shown]
    return Differences(tuple(sha256 for sha256 in archived if sha256 not in referenced), tuple(lost))
