"""Where something that was erased was, where it is no more, and where something of it remains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import DBAPIError

from captionloop.feedback.archive import PhotoArchive
from captionloop.feedback.database import unreachable
from captionloop.feedback.derived import Derived
from captionloop.feedback.ledger import Buried
from captionloop.feedback.models import Caption, PendingPhoto, Photo, Rating
from captionloop.feedback.store import RatingsStore


@dataclass(frozen=True)
class Place:
    """A place, and what remains there; nothing, where that is empty."""

    name: str
    remains: str = ""
    gone_since: datetime | None = None


@dataclass(frozen=True)
class Whereabouts:
    """All that is known of a caption, a person or a photo."""

    erasures: tuple[Buried, ...]
    places: tuple[Place, ...]
    notes: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether there ever was anything, as far as is remembered."""
        return bool(self.erasures) or any(place.remains for place in self.places)

    @property
    def gone(self) -> bool:
        """Whether nothing remains anywhere."""
        return not any(place.remains for place in self.places)


def whereabouts(
    names: Sequence[str], store: RatingsStore, archive: PhotoArchive, derived: Derived | None
) -> Whereabouts:
    """What is known of all these names of one thing: ids of captions, people, SHA-256 of photos.

    Without `derived`, the ledger is believed about feature stores and runs; all else is looked at.

    Raises:
        CaptionloopError: database, archive or a store do not answer.
    """
    buried = {each.tombstone_id: each for name in names for each in store.ledger.of(name)}
    erasures = tuple(buried[number] for number in sorted(buried))
    photos = {each.photo_sha256 for each in erasures if each.photo_sha256}
    photos |= {name for name in names if len(name) == 64}
    shown = {sha256 for sha256 in photos if _count(store, Photo.sha256 == sha256)}
    places = [_in_database(names, store)]
    mine = sorted(photos - shown)
    places.append(_in_archive(mine, archive, erasures))
    if derived is None:
        places.append(_as_noted("feature stores", erasures, lambda each: each.features_done_at))
        places.append(_as_noted("folders of runs", erasures, lambda each: each.runs_done_at))
    else:
        count = len(derived.features_of(mine))
        places.append(Place("feature stores", f"features of {_counted(count, 'photo')}" if count else ""))
        files = derived.files_naming(erasures)
        told = f"{_counted(len(files), 'file')}, the first {files[0]}" if files else ""
        places.append(Place("folders of runs", told))
    notes = tuple(f"photo {sha256} stays: a caption of somebody else shows it" for sha256 in sorted(shown))
    return Whereabouts(erasures, tuple(places), notes if erasures else ())


def _in_database(names: Sequence[str], store: RatingsStore) -> Place:
    captions = (
        Caption.caption_id.in_(names)
        | Caption.owner.in_(names)
        | Caption.photo_sha256.in_(names)
        | Caption.sent_sha256.in_(names)
    )
    pending = PendingPhoto.caption_id.in_(names) | PendingPhoto.photo_sha256.in_(names)
    counts = {
        "caption": _count(store, captions),
        "rating": _count(store, Rating.rater.in_(names)),
        "photo about to be written": _count(store, pending),
    }
    return Place("database", ", ".join(_counted(count, what) for what, count in counts.items() if count))


def _in_archive(photos: Sequence[str], archive: PhotoArchive, erasures: Sequence[Buried]) -> Place:
    there = [sha256 for sha256 in photos if archive.holds(sha256)]
    done = [each.archive_done_at for each in erasures if each.archive_done_at is not None]
    remains = f"{_counted(len(there), 'photo')}, the first {there[0]}" if there else ""
    return Place("photo archive", remains, max(done, default=None))


def _as_noted(place: str, erasures: Sequence[Buried], done_at: Callable[[Buried], datetime | None]) -> Place:
    pending = sum(done_at(each) is None for each in erasures)
    if pending:
        return Place(place, f"{_counted(pending, 'erasure')} not heeded yet")
    done = [moment for each in erasures if (moment := done_at(each)) is not None]
    return Place(place, gone_since=max(done, default=None))


def _count(store: RatingsStore, wanted: ColumnElement[bool]) -> int:
    try:
        with store.reader.connect() as connection:
            return int(connection.execute(select(func.count()).where(wanted)).scalar_one())
    except DBAPIError as error:
        raise unreachable(error) from error


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
