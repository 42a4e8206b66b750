"""Bringing archive and database together again: what was begun is finished, and what differs is found.

Of the photos that lie in the archive and that nothing names, none is removed here: a database that was
restored from last week's copy, or that belongs to another service, names few of them.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from captionloop.feedback.archive import ArchiveError, PhotoArchive
from captionloop.feedback.ledger import PENDING, Lease, Ledger

WRITE_SECONDS: Final = 30.0
"""How long a change of the ledger may take; the writer itself gives up before."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of photos that were to be removed: gone or needed again, and those that remain."""

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
        ledger.settle(sha256, holder, removed=False).result(WRITE_SECONDS)
        raise
    ledger.settle(sha256, holder, removed=True).result(WRITE_SECONDS)
    return lease


def remove_photos(ledger: Ledger, archive: PhotoArchive, photos: Iterable[str]) -> Finished:
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
    return Finished(settled, tuple(remaining), problem)


def finish(ledger: Ledger, archive: PhotoArchive, limit: int) -> Finished:
    """Give up what was begun and abandoned, and remove up to `limit` photos whose removal was not finished.

    Raises:
        DatabaseError: the ledger does not answer.
    """
    ledger.give_up(limit).result(WRITE_SECONDS)
    return remove_photos(ledger, archive, ledger.in_archive(limit))


def differences(ledger: Ledger, archive: PhotoArchive, prefix: str) -> Differences:
    """What differs between database and archive of the photos whose names begin with `prefix`.

    Raises:
        ArchiveError: the archive does not answer.
        DatabaseError: the database does not.
    """
    archive.remove_abandoned(prefix, PENDING.total_seconds())
    # A photo is named before it is written, so what lies there is looked at first.
    there = archive.names(prefix)
    named = ledger.named(prefix)
    missing = sorted(ledger.kept(prefix) - set(there))
    # In between it may have been written, or its caption erased.
    lost = [sha256 for sha256 in missing if not archive.holds(sha256)] if missing else []
    if lost:
        kept = ledger.kept(prefix)
        lost = [sha256 for sha256 in lost if sha256 in kept]
    return Differences(tuple(sha256 for sha256 in there if sha256 not in named), tuple(lost))
