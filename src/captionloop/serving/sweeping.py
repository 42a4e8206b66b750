"""What the gateway does by itself now and then: what is past its retention goes, what was begun is finished,
and what differs between database and archive is found.

Several gateways do so at once; leases keep two from removing one photo.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import cycle, islice

import structlog

from captionloop.errors import CaptionloopError
from captionloop.feedback.archive import PREFIXES
from captionloop.feedback.reconciliation import Differences, differences, finish
from captionloop.serving import keeping, metrics
from captionloop.serving.parts import Parts
from captionloop.serving.problems import Problem
from captionloop.serving.storage import with_archive

logger = structlog.get_logger(__name__)

LEDGER_SECONDS = 60.0
SWEEP_SECONDS = 3600.0
PHOTOS_AT_ONCE = 20
"""Removed in one go, within the deadline of the archive."""
PHOTOS_PER_MINUTE = 1000
PREFIXES_PER_SWEEP = 16
"""So a whole archive is looked at within sixteen hours."""


async def sweep_regularly(parts: Parts) -> None:
    """Until it is cancelled."""
    prefixes = cycle(PREFIXES)

    async def look() -> None:
        await look_for_differences(parts, list(islice(prefixes, PREFIXES_PER_SWEEP)))

    await asyncio.gather(
        _regularly(lambda: finish_what_was_begun(parts), LEDGER_SECONDS),
        _regularly(lambda: end_retention(parts), SWEEP_SECONDS),
        _regularly(look, SWEEP_SECONDS),
    )


async def end_retention(parts: Parts) -> None:
    """Erase what is past its retention, claims of requests as well; photos follow with the ledger."""
    unrated = timedelta(days=parts.settings.retention_unrated_days)
    rated = timedelta(days=parts.settings.retention_rated_days)
    while await parts.written(lambda: parts.store.expire(unrated=unrated, rated=rated)) is not None:
        await asyncio.sleep(0)
    while await parts.written(parts.repeats.prune):
        await asyncio.sleep(0)
    await parts.written(lambda: parts.store.ledger.forget(rated))


async def finish_what_was_begun(parts: Parts) -> None:
    """Erase what nobody was told of, and remove photos whose removal was begun and not finished."""
    for caption_id in sorted(parts.abandoned):
        await keeping.erase(parts, caption_id, owner=None)
        parts.abandoned.discard(caption_id)
    for _ in range(PHOTOS_PER_MINUTE // PHOTOS_AT_ONCE):
        done = await with_archive(finish, parts.store.ledger, parts.archive, PHOTOS_AT_ONCE)
        metrics.PHOTOS_TO_REMOVE.set(len(done.remaining))
        if done.problem:
            logger.warning("photos to be removed remain", photos=len(done.remaining), reason=done.problem)
        if done.settled < PHOTOS_AT_ONCE:
            break


async def look_for_differences(parts: Parts, prefixes: list[str]) -> Differences:
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
