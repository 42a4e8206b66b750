"""Puts the gateway's parts together as the settings say."""

from functools import partial

from captionloop.feedback.archive import PhotoArchive
from captionloop.feedback.database import upgrade
from captionloop.feedback.repeats import Repeats
from captionloop.feedback.statistics import statistics
from captionloop.feedback.store import RatingsStore
from captionloop.serving.access import Access
from captionloop.serving.admission import Admission
from captionloop.serving.keys import KeyRing
from captionloop.serving.parts import Parts
from captionloop.serving.photos import PhotoReader
from captionloop.serving.settings import Settings
from captionloop.serving.storage import Remembered
from captionloop.serving.upstream import CaptionModel, ModelWatch

STATISTICS_SECONDS = 60.0
STORING_SECONDS = 30.0
"""Which a request that was captioned may still take, before it counts as given up."""


def open_store(settings: Settings) -> RatingsStore:
    """The ratings store. An embedded database is brought up to date; a shared one is not touched unasked.

    Raises:
        DatabaseError: it does not answer, or `captionloop database upgrade` is needed first.
    """
    if settings.embedded_database:
        upgrade(settings.database_url)
    return RatingsStore(settings.database_url)


def assemble(settings: Settings, model: CaptionModel) -> Parts:
    """All parts of a gateway in front of `model`."""
    store = open_store(settings)
    return Parts(
        settings=settings,
        store=store,
        repeats=Repeats(store.writer, settings.caption_seconds + STORING_SECONDS),
        archive=PhotoArchive(settings.photo_root),
        access=Access(settings, KeyRing(store)),
        admission=Admission(
            settings.captions_at_once,
            settings.upload_memory_bytes,
            largest_body=2 * settings.max_body_bytes,
            per_caller=settings.captions_at_once_per_caller,
        ),
        photos=PhotoReader(settings.decode_threads, settings.max_pixels),
        model=ModelWatch(model, settings.caption_seconds),
        statistics=Remembered(partial(statistics, store.reader), STATISTICS_SECONDS),
    )
