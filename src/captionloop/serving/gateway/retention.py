"""What is kept of a caption and its photo, erased together, and swept when its time is over.

Several gateways do so at once; leases keep two from removing one photo.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from itertools import cycle, islice
from time import monotonic

import structlog

from captionloop.errors import CaptionloopError
from captionloop.photos import PREFIXES
from captionloop.ratings.ledger import Differences, Lease, differences, finish_removals, remove_photo
from captionloop.ratings.records import ServedCaption
from captionloop.ratings.repeats import Claim
from captionloop.serving import telemetry
from captionloop.serving.gateway.dependencies import Services
from captionloop.serving.gateway.problems import Problem
from captionloop.serving.gateway.storage import ARCHIVE_SECONDS, storage_unavailable, with_archive
from captionloop.serving.gateway.uploads import Photo

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 0.05


async def keep(parts: Services, photo: Photo, served: ServedCaption, claim: Claim | None = None) -> None:
    """First a note of the photo, then the photo, then the caption that names it, and the note is gone.

    A caption that is answered is on the disk, with the claim of its request if that may be repeated. Where
    this fails in between, the note stays, and by it the photo is found and removed.

    Raises:
        Problem: 503, if one of them cannot be stored.
    """
    sha256, ledger = photo.facts.sha256, parts.store.ledger
    if await parts.written(lambda: ledger.begin(served.caption_id, sha256)):
        await _until_nobody_removes(parts, sha256)
    await with_archive(parts.archive.write, sha256, photo.kept)
    try:
        await parts.written(lambda: parts.store.record(served, claim))
    except BaseException:
        parts.abandoned.add(served.caption_id)  # it may be on the disk all the same
        raise


async def erase(parts: Services, caption_id: str, *, owner: str | None) -> bool | None:
    """Erase a caption of this owner (or of anybody), and its photo; whether the photo is gone as well.

    None if there is no such caption, and nothing left of one that was erased.

    Raises:
        Problem: 503, if the database does not answer. If the archive does not, the photo is removed later.
    """
    photos = await parts.written(lambda: parts.store.erase(caption_id, owner=owner))
    if photos is None:  # erased before, perhaps not from everywhere
        ledger = parts.store.ledger
        photos = await parts.read(lambda: ledger.in_archive_of(caption_id=caption_id, person=owner))
        if not photos:
            return None
    return await _remove(parts, photos)


async def erase_person(parts: Services, rater: str) -> bool:
    """Erase a person's captions with their photos, and their ratings of others'; whether all photos are gone.

    Raises:
        Problem: 503, if the database does not answer.
    """
    while await parts.written(lambda: parts.store.erase_person(rater)) is not None:
        telemetry.ERASURES.inc()
    return await _remove(parts, await parts.read(lambda: parts.store.ledger.in_archive_of(person=rater)))


async def _remove(parts: Services, photos: Sequence[str]) -> bool:
    gone = True
    for sha256 in photos:
        try:
            outcome = await with_archive(remove_photo, parts.store.ledger, parts.archive, sha256)
        except Problem:
            return False  # their tombstones stay, and the others are not tried in vain
        gone = gone and outcome is not Lease.BUSY
    return gone


async def _until_nobody_removes(parts: Services, sha256: str) -> None:
    until = monotonic() + ARCHIVE_SECONDS
    while await parts.read(parts.store.ledger.being_removed, sha256):
        if monotonic() > until:
            raise storage_unavailable(CaptionloopError(f"photo {sha256} is being removed"))
        await asyncio.sleep(LOOK_SECONDS)


LEDGER_SECONDS = 60.0
SWEEP_SECONDS = 3600.0
PHOTOS_AT_ONCE = 20
"""Removed in one go, within the deadline of the archive."""
PHOTOS_PER_MINUTE = 1000
PREFIXES_PER_SWEEP = 16
"""So a whole archive is looked at within sixteen hours."""


async def sweep_regularly(parts: Services) -> None:
    """Until it is cancelled."""
    prefixes = cycle(PREFIXES)

    async def look() -> None:
        await look_for_differences(parts, list(islice(prefixes, PREFIXES_PER_SWEEP)))

    await asyncio.gather(
        _regularly(lambda: finish_what_was_begun(parts), LEDGER_SECONDS),
        _regularly(lambda: end_retention(parts), SWEEP_SECONDS),
        _regularly(look, SWEEP_SECONDS),
    )


async def end_retention(parts: Services) -> None:
    """Erase what is past its retention, claims of requests as well; photos follow with the ledger."""
    unrated = timedelta(days=parts.settings.retention_unrated_days)
    rated = timedelta(days=parts.settings.retention_rated_days)
    while await parts.written(lambda: parts.store.expire(unrated=unrated, rated=rated)) is not None:
        await asyncio.sleep(0)
    while await parts.written(parts.repeats.prune):
        await asyncio.sleep(0)
    await parts.written(lambda: parts.store.ledger.prune(rated))


async def finish_what_was_begun(parts: Services) -> None:
    """Erase what nobody was told of, and remove photos whose removal was begun and not finished."""
    for caption_id in sorted(parts.abandoned):
        await erase(parts, caption_id, owner=None)
        parts.abandoned.discard(caption_id)
    for _ in range(PHOTOS_PER_MINUTE // PHOTOS_AT_ONCE):
        done = await with_archive(finish_removals, parts.store.ledger, parts.archive, PHOTOS_AT_ONCE)
        telemetry.PHOTOS_TO_REMOVE.set(len(done.remaining))
        if done.problem:
            logger.warning("photos to be removed remain", photos=len(done.remaining), reason=done.problem)
        if done.settled < PHOTOS_AT_ONCE:
            break


async def look_for_differences(parts: Services, prefixes: list[str]) -> Differences:
    """Say in the log which photos nothing names, and which are gone, of those whose names begin so."""
    orphans: list[str] = []
    lost: list[str] = []
    for prefix in prefixes:
        found = await with_archive(differences, parts.store.ledger, parts.archive, prefix)
        orphans += found.orphans
        lost += found.lost
    if orphans or lost:
        logger.warning(
            "archive and database differ: run captionloop reconcile",
            unnamed=len(orphans),
            lost=len(lost),
            examples=[*orphans[:3], *lost[:3]],
        )
    return Differences(tuple(orphans), tuple(lost))


async def _regularly(work: Callable[[], Awaitable[object]], seconds: float) -> None:
    while True:
        try:
            await work()
        except (Problem, CaptionloopError):
            pass  # the storage is away, and it is in the log
        except Exception:
            logger.exception("sweep failed; it is tried again", seconds=seconds)
        await asyncio.sleep(seconds)
