"""Stores a caption with its photo, erases both, and sweeps what is past its retention.

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
from captionloop.ratings.idempotency_store import Claim
from captionloop.ratings.photo_removal import Differences, Lease, differences, finish_removals, remove_photo
from captionloop.ratings.rating_tables import ServedCaption
from captionloop.serving import telemetry
from captionloop.serving.gateway.dependencies import Services
from captionloop.serving.gateway.problems import Problem
from captionloop.serving.gateway.storage import ARCHIVE_SECONDS, storage_unavailable, with_archive
from captionloop.serving.gateway.uploads import Photo

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 0.05


async def store_caption(
    services: Services, photo: Photo, served: ServedCaption, claim: Claim | None = None
) -> None:
    """Stores a pending row, then the photo, then the caption, which removes the pending row.

    A caption that is answered is on the disk, with the claim of its request if that may be repeated. Where
    this fails in between, the note stays, and by it the photo is found and removed.

    Raises:
        Problem: 503, if one of them cannot be stored.
    """
    sha256, ledger = photo.facts.sha256, services.store.ledger
    if await services.write(lambda: ledger.begin(served.caption_id, sha256)):
        await _wait_for_removal(services, sha256)
    await with_archive(services.archive.write, sha256, photo.stored)
    try:
        await services.write(lambda: services.store.record(served, claim))
    except BaseException:
        services.abandoned.add(served.caption_id)  # it may be on the disk all the same
        raise


async def erase(services: Services, caption_id: str, *, owner: str | None) -> bool | None:
    """Erase a caption of this owner (or of anybody), and its photo; whether the photo is gone as well.

    None if there is no such caption, and nothing left of one that was erased.

    Raises:
        Problem: 503, if the database does not answer. If the archive does not, the photo is removed later.
    """
    photos = await services.write(lambda: services.store.erase(caption_id, owner=owner))
    if photos is None:  # erased before, perhaps not from everywhere
        ledger = services.store.ledger
        photos = await services.read(lambda: ledger.in_archive_of(caption_id=caption_id, person=owner))
        if not photos:
            return None
    return await _remove(services, photos)


async def erase_person(services: Services, rater: str) -> bool:
    """Erase a person's captions with their photos, and their ratings of others'; whether all photos are gone.

    Raises:
        Problem: 503, if the database does not answer.
    """
    while await services.write(lambda: services.store.erase_person(rater)) is not None:
        telemetry.ERASURES.inc()
    return await _remove(
        services, await services.read(lambda: services.store.ledger.in_archive_of(person=rater))
    )


async def _remove(services: Services, photos: Sequence[str]) -> bool:
    is_complete = True
    for sha256 in photos:
        try:
            lease = await with_archive(remove_photo, services.store.ledger, services.archive, sha256)
        except Problem:
            return False  # their tombstones stay, and the others are not tried in vain
        is_complete = is_complete and lease is not Lease.BUSY
    return is_complete


async def _wait_for_removal(services: Services, sha256: str) -> None:
    until = monotonic() + ARCHIVE_SECONDS
    while await services.read(services.store.ledger.being_removed, sha256):
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


async def sweep_regularly(services: Services) -> None:
    """Runs all sweeps at their intervals until it is cancelled."""
    prefixes = cycle(PREFIXES)

    async def compare() -> None:
        await look_for_differences(services, list(islice(prefixes, PREFIXES_PER_SWEEP)))

    await asyncio.gather(
        _repeat(lambda: finish_pending(services), LEDGER_SECONDS),
        _repeat(lambda: end_retention(services), SWEEP_SECONDS),
        _repeat(compare, SWEEP_SECONDS),
    )


async def end_retention(services: Services) -> None:
    """Erase what is past its retention, claims of requests as well; photos follow with the ledger."""
    unrated = timedelta(days=services.settings.retention_unrated_days)
    rated = timedelta(days=services.settings.retention_rated_days)
    while await services.write(lambda: services.store.expire(unrated=unrated, rated=rated)) is not None:
        await asyncio.sleep(0)
    while await services.write(services.repeats.prune):
        await asyncio.sleep(0)
    await services.write(lambda: services.store.ledger.prune(rated))


async def finish_pending(services: Services) -> None:
    """Erase abandoned captions, and remove photos whose removal was begun and not finished."""
    for caption_id in sorted(services.abandoned):
        await erase(services, caption_id, owner=None)
        services.abandoned.discard(caption_id)
    for _ in range(PHOTOS_PER_MINUTE // PHOTOS_AT_ONCE):
        done = await with_archive(finish_removals, services.store.ledger, services.archive, PHOTOS_AT_ONCE)
        telemetry.PHOTOS_TO_REMOVE.set(len(done.remaining))
        if done.problem:
            logger.warning("photos to be removed remain", photos=len(done.remaining), reason=done.problem)
        if done.settled < PHOTOS_AT_ONCE:
            break


async def look_for_differences(services: Services, prefixes: list[str]) -> Differences:
    """Say in the log which photos nothing names, and which are gone, of those whose names begin so."""
    orphans: list[str] = []
    lost: list[str] = []
    for prefix in prefixes:
        found = await with_archive(differences, services.store.ledger, services.archive, prefix)
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


async def _repeat(work: Callable[[], Awaitable[object]], seconds: float) -> None:
    while True:
        try:
            await work()
        except (Problem, CaptionloopError):
            pass  # the storage is away, and it is in the log
        except Exception:
            logger.exception("sweep failed; it is tried again", seconds=seconds)
        await asyncio.sleep(seconds)
