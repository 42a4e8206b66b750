"""What pipelines made of people's photos and words, and where something that was erased was and remains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import DBAPIError

from captionloop.feedback.run_folders import Run
from captionloop.photos import PhotoArchive
from captionloop.ratings.database import unreachable
from captionloop.ratings.ledger import WRITE_SECONDS, Buried, Ledger
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.records import Caption, PendingPhoto, Photo, Rating
from captionloop.vision.feature_store import FeatureStore, drop_features, held
from captionloop.workspaces import display_path as shown_path


@dataclass(frozen=True)
class Removed:
    """What went, and the runs that must end before the rest can go."""

    features: int
    files: int
    waits_for: tuple[str, ...]


@dataclass(frozen=True)
class Derived:
    """Where to look.

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

    def remove(self, ledger: Ledger) -> Removed:
        """Remove what was erased, and note it in the ledger.

        Nothing is taken from a run that is under way, nor from the store that it reads.

        Raises:
            StoreError: a store cannot be read or written.
            DatabaseError: the ledger does not answer.
        """
        buried = ledger.underived()
        if not buried:
            return Removed(0, 0, ())
        busy = [run for run in self.runs if self._is_busy(run)]
        ended = [run for run in self.runs if run not in busy]
        of_photos = [each for each in buried if each.features_done_at is None]
        photos = {each.photo_sha256 for each in of_photos if each.photo_sha256} - self.corpus
        stores = [run.store for run in ended] + ([] if busy else [self.store])
        features = sum(drop_features(store, photos) for store in stores) if photos else 0
        of_runs = [each for each in buried if each.runs_done_at is None]
        files = sum(self._remove_files(run, of_runs) for run in ended)
        earliest = min((run.begun() for run in busy), default=None)
        ledger.derived_removed(
            features=[] if busy else [each.tombstone_id for each in of_photos],
            runs=[each.tombstone_id for each in of_runs if earliest is None or each.erased_at < earliest],
        ).result(WRITE_SECONDS)
        return Removed(features, files, tuple(run.name for run in busy))

    def features_of(self, photos: Sequence[str]) -> set[str]:
        """Those of these photos of which a store holds features, and no corpus has them."""
        wanted = set(photos) - self.corpus
        stores = [self.store, *(run.store for run in self.runs)]
        return set[str]().union(*(held(store, wanted) for store in stores)) if wanted else set()

    def files_naming(self, buried: Sequence[Buried]) -> list[Path]:
        """The files of runs that name what was erased after they had begun."""
        return [path for run in self.runs for path in _files(run, buried)]

    def _remove_files(self, run: Run, buried: Sequence[Buried]) -> int:
        # The oldest last: it tells when the run was begun, should this be stopped in its middle.
        files = sorted(_files(run, buried), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files:
            run.forget(path)
        return len(files)

    def _is_busy(self, run: Run) -> bool:
        return run.folder != self.own and run.under_way()


def _files(run: Run, buried: Sequence[Buried]) -> list[Path]:
    begun = run.begun()
    names = {each.photo_sha256 or each.person for each in buried if each.erased_at > begun}
    found = run.naming({name for name in names if name})
    return sorted({path for paths in found.values() for path in paths})


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
        told = f"{_counted(len(files), 'file')}, the first {shown_path(files[0])}" if files else ""
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
