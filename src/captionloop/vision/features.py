"""Cached features as training and evaluation read them: grids by photo and view."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from captionloop.errors import StoreError
from captionloop.vision.shards import Grids, Means
from captionloop.vision.store import FeatureReader, FeatureStore, missing_from


class FeatureManifest(BaseModel):
    """Which features a corpus needs, and of what shape they are; the numbers themselves are in the store.

    Attributes:
        fingerprint: the encoder's.
        views: the fingerprint of each view by the view's name, in the precision it was computed in.
        photos: SHA-256 (hex) of every photo of the corpus.
        store: root of the feature store.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    rows: int
    columns: int
    channels: int
    views: dict[str, str]
    photos: tuple[str, ...]
    store: str

    def missing(self) -> int:
        """How many photos lack an entry in at least one view.

        Raises:
            StoreError: the store is damaged.
        """
        store, absent = FeatureStore(self.store), set[str]()
        for fingerprint in self.views.values():
            absent.update(missing_from(store.reader(fingerprint), self.photos))
        return len(absent)

    def open(self) -> "CachedFeatures":
        """The features, all of them.

        Raises:
            StoreError: some are missing, or the store is damaged.
        """
        missing = self.missing()
        if missing:
            raise StoreError(
                f"features in {self.store} are not complete: {missing} photos are missing;"
                " run the other shards of feature_caching, or run it without shards"
            )
        return CachedFeatures(self, FeatureStore(self.store))


class CachedFeatures:
    """Grids of a corpus's photos by SHA-256 and view. Small and safe to fork; nothing is kept in memory."""

    def __init__(self, manifest: FeatureManifest, store: FeatureStore) -> None:
        self.manifest = manifest
        self.fingerprint = manifest.fingerprint
        self.rows = manifest.rows
        self.columns = manifest.columns
        self.regions = manifest.rows * manifest.columns
        self.channels = manifest.channels
        self.views: tuple[str, ...] = tuple(manifest.views)
        self._readers = {view: store.reader(key) for view, key in manifest.views.items()}

    def grids(self, sha256s: Sequence[str], view: str = "whole") -> Grids:
        """Grids float16 `[n, regions, channels]` of these photos, in this order.

        Raises:
            StoreError: a photo or the view has not been cached, or an entry is damaged.
        """
        return self._reader(view).grids(sha256s)

    def means(self, sha256s: Sequence[str], view: str = "whole") -> Means:
        """Grids averaged over their regions, float32 `[n, channels]`.

        Raises:
            StoreError: as `grids`.
        """
        return self._reader(view).means(sha256s)

    def _reader(self, view: str) -> FeatureReader:
        if view not in self._readers:
            known = ", ".join(self.views)
            raise StoreError(
                f"view '{view}' has not been cached (there are {known}); add it to feature_caching.views"
            )
        return self._readers[view]
