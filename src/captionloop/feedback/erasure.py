"""Erasure of derived data: removes erased photos and words from feature stores and folders of runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import DBAPIError

from captionloop.feedback.run_folders import Run
from captionloop.photos import PhotoArchive
from captionloop.ratings.database import unreachable
from captionloop.ratings.photo_removal import WRITE_SECONDS, Ledger, TombstoneRecord
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import Caption, PendingPhoto, Photo, Rating
from captionloop.vision.feature_store import FeatureStore, drop_features, held
from captionloop.workspaces import display_path as shown_path


@dataclass(frozen=True)
class RemovedData:
    """How much was removed, and the runs that must end before the rest can be."""

    features: int
    files: int
    waits_for: tuple[str, ...]


@dataclass(frozen=True)
class DerivedData:
    """The feature stores and folders of runs that may hold data derived from photos and ratings.

    Attributes:
        store: the feature store that corpora share.
        runs: the folders of runs.
        corpus: photos that a corpus has as well: their features are the corpus's, whoever sent them too.
        own: folder of the run that looks, which counts as ended.
    """

    store: FeatureStore
    runs: Sequence[Run]
    corpus: frozenset[str] = field(default=frozenset())
    own: Path | None = None

    def remove(self, ledger: Ledger) -> RemovedData:
        """Remove what was erased, and note it in the ledger.

        Nothing is taken from a run that is under way, nor from the store that it reads.

        Raises:
            StoreError: a store cannot be read or written.
            DatabaseError: the ledger does not answer.
        """
        tombstones = ledger.pending_cleanup()
        if not tombstones:
            return RemovedData(0, 0, ())
        busy = [run for run in self.runs if self._is_busy(run)]
        ended = [run for run in self.runs if run not in busy]
        photo_tombstones = [each for each in tombstones if each.features_done_at is None]
        photos = {each.photo_sha256 for each in photo_tombstones if each.photo_sha256} - self.corpus
        stores = [run.store for run in ended] + ([] if busy else [self.store])
        features = sum(drop_features(store, photos) for store in stores) if photos else 0
        run_tombstones = [each for each in tombstones if each.runs_done_at is None]
        files = sum(self._remove_files(run, run_tombstones) for run in ended)
        earliest = min((run.started_at() for run in busy), default=None)
        ledger.mark_derived_removed(
            features=[] if busy else [each.tombstone_id for each in photo_tombstones],
            runs=[
                each.tombstone_id for each in run_tombstones if earliest is None or each.erased_at < earliest
            ],
        ).result(WRITE_SECONDS)
        return RemovedData(features, files, tuple(run.name for run in busy))

    def features_of(self, photos: Sequence[str]) -> set[str]:
        """Those of these photos of which a store holds features, and no corpus has them."""
        own_photos = set(photos) - self.corpus
        stores = [self.store, *(run.store for run in self.runs)]
        return set[str]().union(*(held(store, own_photos) for store in stores)) if own_photos else set()

    def files_naming(self, tombstones: Sequence[TombstoneRecord]) -> list[Path]:
        """The files of runs that name what was erased after they had begun."""
        return [path for run in self.runs for path in _files(run, tombstones)]

    def _remove_files(self, run: Run, tombstones: Sequence[TombstoneRecord]) -> int:
        # The oldest last: it tells when the run was begun, should this be stopped in its middle.
        files = sorted(_files(run, tombstones), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files:
            run.remove_file(path)
        return len(files)

    def _is_busy(self, run: Run) -> bool:
        return run.folder != self.own and run.is_active()


def _files(run: Run, tombstones: Sequence[TombstoneRecord]) -> list[Path]:
    begun = run.started_at()
    names = {each.photo_sha256 or each.person for each in tombstones if each.erased_at > begun}
    found = run.files_naming({name for name in names if name})
    return sorted({path for paths in found.values() for path in paths})


@dataclass(frozen=True)
class Location:
    """A place of data, and what remains there; empty: nothing."""

    name: str
    remains: str = ""
    gone_since: datetime | None = None


@dataclass(frozen=True)
class DataLocations:
    """Where data of a caption, a person or a photo was erased, and where some remains."""

    erasures: tuple[TombstoneRecord, ...]
    places: tuple[Location, ...]
    notes: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether there ever was anything, as far as is remembered."""
        return bool(self.erasures) or any(place.remains for place in self.places)

    @property
    def gone(self) -> bool:
        """Whether nothing remains anywhere."""
        return not any(place.remains for place in self.places)


def locate_data(
    names: Sequence[str], store: RatingsStore, archive: PhotoArchive, derived: DerivedData | None
) -> DataLocations:
    """Looks in all places for these names of one thing: ids of captions, people, SHA-256 of photos.

    Without `derived`, the ledger is believed about feature stores and runs; all else is looked at.

    Raises:
        CaptionloopError: database, archive or a store do not answer.
    """
    tombstones = {each.tombstone_id: each for name in names for each in store.ledger.tombstones_of(name)}
    erasures = tuple(tombstones[number] for number in sorted(tombstones))
    photos = {each.photo_sha256 for each in erasures if each.photo_sha256}
    photos |= {name for name in names if len(name) == 64}
    shown = {sha256 for sha256 in photos if _count(store, Photo.sha256 == sha256)}
    places = [_in_database(names, store)]
    unshown = sorted(photos - shown)
    places.append(_in_archive(unshown, archive, erasures))
    if derived is None:
        places.append(_by_ledger("feature stores", erasures, lambda each: each.features_done_at))
        places.append(_by_ledger("folders of runs", erasures, lambda each: each.runs_done_at))
    else:
        count = len(derived.features_of(unshown))
        places.append(
            Location("feature stores", f"features of {_with_unit(count, 'photo')}" if count else "")
        )
        files = derived.files_naming(erasures)
        remains = f"{_with_unit(len(files), 'file')}, the first {shown_path(files[0])}" if files else ""
        places.append(Location("folders of runs", remains))
    notes = tuple(f"photo {sha256} stays: a caption of somebody else shows it" for sha256 in sorted(shown))
    return DataLocations(erasures, tuple(places), notes if erasures else ())


def _in_database(names: Sequence[str], store: RatingsStore) -> Location:
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
    return Location("database", ", ".join(_with_unit(count, what) for what, count in counts.items() if count))


def _in_archive(
    photos: Sequence[str], archive: PhotoArchive, erasures: Sequence[TombstoneRecord]
) -> Location:
    archived = [sha256 for sha256 in photos if archive.holds(sha256)]
    done = [each.archive_done_at for each in erasures if each.archive_done_at is not None]
    remains = f"{_with_unit(len(archived), 'photo')}, the first {archived[0]}" if archived else ""
    return Location("photo archive", remains, max(done, default=None))


def _by_ledger(
    place: str, erasures: Sequence[TombstoneRecord], done_at: Callable[[TombstoneRecord], datetime | None]
) -> Location:
    pending = sum(done_at(each) is None for each in erasures)
    if pending:
        return Location(place, f"{_with_unit(pending, 'erasure')} not heeded yet")
    done = [moment for each in erasures if (moment := done_at(each)) is not None]
    return Location(place, gone_since=max(done, default=None))


def _count(store: RatingsStore, condition: ColumnElement[bool]) -> int:
    try:
        with store.reader.connect() as connection:
            return int(connection.execute(select(func.count()).where(condition)).scalar_one())
    except DBAPIError as error:
        raise unreachable(error) from error


def _with_unit(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
