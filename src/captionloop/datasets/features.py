"""The feature store, and a corpus's features in it, in the Kedro catalog."""

import os
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from pydantic import ValidationError

from captionloop.errors import StoreError
from captionloop.provenance.content_digests import FileDigests, digest_of
from captionloop.vision.durable import write_and_rename
from captionloop.vision.features import CachedFeatures, FeatureManifest
from captionloop.vision.store import FeatureStore


class FeatureStoreDataset(AbstractDataset[FeatureStore, FeatureStore]):
    """`root`: a local path or an fsspec URI. Nodes write through the store itself, an entry at a time."""

    def __init__(self, *, root: str, metadata: dict[str, Any] | None = None) -> None:
        self._root = root
        self.metadata = metadata

    def load(self) -> FeatureStore:
        """The store; it may be empty."""
        return FeatureStore(self._root)

    def save(self, data: FeatureStore) -> None:  # noqa: ARG002
        """Not possible: a store grows through its writers."""
        raise DatasetError("A feature store is written through its writers")

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:  # noqa: ARG002
        """Nothing counts: what is there is never another than what would be computed."""
        return None

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"root": self._root}


class FeaturesDataset(AbstractDataset[FeatureManifest, CachedFeatures]):
    """Saves which features a corpus needs; loads them. It exists once the store holds every one of them.

    A store on the same disk is named relative to the manifest, so that the data folder can be moved.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> CachedFeatures:
        """The features; `StoreError` where some are missing, with their number."""
        return self._manifest().open()

    def save(self, data: FeatureManifest) -> None:
        """Writes the manifest, beside its place and then onto it."""
        folder = self._path.parent
        store = data.store if "://" in data.store else os.path.relpath(data.store, folder)
        text = data.model_copy(update={"store": store}).model_dump_json(indent=1)
        write_and_rename(self._path, lambda path: path.write_text(text, encoding="utf-8"))

    def _manifest(self) -> FeatureManifest:
        try:
            manifest = FeatureManifest.model_validate_json(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise StoreError(f"no features at {self._path}; run feature_caching") from error
        except (ValidationError, ValueError) as error:
            raise StoreError(f"{self._path} is not a list of features; run feature_caching again") from error
        if "://" in manifest.store:
            return manifest
        return manifest.model_copy(update={"store": os.path.normpath(self._path.parent / manifest.store)})

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:
        """Of how photos were looked at: on that alone features depend, and tables say of which photos."""
        del files, beside
        try:
            manifest = self._manifest()
        except StoreError:
            return None
        return digest_of(manifest.model_dump(mode="json", exclude={"photos", "store"}))

    def _exists(self) -> bool:
        try:
            return self._path.exists() and self._manifest().missing() == 0
        except StoreError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
