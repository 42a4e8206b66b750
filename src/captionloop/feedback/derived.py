"""What pipelines have made of people's photos and words: features in stores, tables in folders of runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captionloop.feedback.ledger import Buried, Ledger
from captionloop.feedback.reconciliation import WRITE_SECONDS
from captionloop.feedback.runs import Run
from captionloop.vision.removal import drop_features, held
from captionloop.vision.store import FeatureStore


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
            path.unlink(missing_ok=True)
        return len(files)

    def _is_busy(self, run: Run) -> bool:
        return run.folder != self.own and run.under_way()


def _files(run: Run, buried: Sequence[Buried]) -> list[Path]:
    begun = run.begun()
    names = {each.photo_sha256 or each.person for each in buried if each.erased_at > begun}
    found = run.naming({name for name in names if name})
    return sorted({path for paths in found.values() for path in paths})
