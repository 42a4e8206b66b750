"""Keeping what is captioned, and erasing it: photo and caption are there together, or neither is."""

import asyncio
from collections.abc import Sequence
from time import monotonic

import structlog

from captionloop.errors import CaptionloopError
from captionloop.feedback.ledger import Lease
from captionloop.feedback.reconciliation import remove_photo
from captionloop.feedback.records import ServedCaption
from captionloop.feedback.repeats import Claim
from captionloop.serving import metrics
from captionloop.serving.parts import Parts
from captionloop.serving.photos import Photo
from captionloop.serving.problems import Problem
from captionloop.serving.storage import ARCHIVE_SECONDS, storage_unavailable, with_archive

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 0.05


async def keep(parts: Parts, photo: Photo, served: ServedCaption, claim: Claim | None = None) -> None:
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


async def erase(parts: Parts, caption_id: str, *, owner: str | None) -> bool | None:
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


async def erase_person(parts: Parts, rater: str) -> bool:
    """Erase a person's captions with their photos, and their ratings of others'; whether all photos are gone.

    Raises:
        Problem: 503, if the database does not answer.
    """
    while await parts.written(lambda: parts.store.erase_person(rater)) is not None:
        metrics.ERASURES.inc()
    return await _remove(parts, await parts.read(lambda: parts.store.ledger.in_archive_of(person=rater)))


async def _remove(parts: Parts, photos: Sequence[str]) -> bool:
    gone = True
    for sha256 in photos:
        try:
            outcome = await with_archive(remove_photo, parts.store.ledger, parts.archive, sha256)
        except Problem:
            return False  # their tombstones stay, and the others are not tried in vain
        gone = gone and outcome is not Lease.BUSY
    return gone


async def _until_nobody_removes(parts: Parts, sha256: str) -> None:
    until = monotonic() + ARCHIVE_SECONDS
    while await parts.read(parts.store.ledger.being_removed, sha256):
        if monotonic() > until:
            raise storage_unavailable(CaptionloopError(f"photo {sha256} is being removed"))
        await asyncio.sleep(LOOK_SECONDS)
