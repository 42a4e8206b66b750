"""Captioners, encoders, features and the registry in the Kedro catalog."""

import json
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from kedro.io import AbstractDataset, DatasetError
from pydantic import ValidationError

from captionloop.datasets.atomic_datasets import AtomicJSONDataset
from captionloop.errors import StoreError
from captionloop.files import write_file
from captionloop.provenance.output_records import FileDigests, digest_of
from captionloop.registry.model_registry import ModelRegistry
from captionloop.vision.encoder import ENCODER_FILE, Encoder, PretrainedWeights
from captionloop.vision.feature_store import CachedFeatures, FeatureManifest, FeatureStore

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner


class CaptionerDataset(AbstractDataset["Captioner", "Captioner"]):
    """Loads and saves a `Captioner` as a bundle; saving replaces the folder in one step."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def load(self) -> "Captioner":
        """Read and verify the bundle."""
        from captionloop.captioner.captioner import Captioner

        return Captioner.load(Path(self._filepath))

    def save(self, data: "Captioner") -> None:
        """Write the bundle beside its place and rename it."""
        data.save(Path(self._filepath))

    def _exists(self) -> bool:
        from captionloop.captioner.bundle import CHECKSUMS

        return (Path(self._filepath) / CHECKSUMS).is_file()

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:  # noqa: ARG002
        """Of all its files, but for the commit it was trained at: another one made the same captioner."""
        from captionloop.captioner.bundle import CHECKSUMS, LINEAGE

        folder = Path(self._filepath)
        try:
            lineage = _without_commit(json.loads((folder / LINEAGE).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            lineage = None
        rest = files.of_folder(folder, takes=lambda name: name not in {CHECKSUMS, LINEAGE})
        return digest_of(rest, json.dumps(lineage, sort_keys=True))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _without_commit(lineage: Any) -> Any:
    """The same, of the captioners it was trained on from as well."""
    if not isinstance(lineage, dict):
        return lineage
    return {name: _without_commit(value) for name, value in lineage.items() if name != "git_commit"}


class EncoderDataset(AbstractDataset[Encoder, Encoder]):
    """A folder with `encoder.safetensors`. Written beside its place and renamed: never a torn encoder."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> Encoder:
        """The encoder; `EncoderError` where it is missing or damaged."""
        from captionloop.captioner.families import load_encoder

        return load_encoder(self._folder)

    def save(self, data: Encoder) -> None:
        """Puts it in the place of the old one."""
        data.save(self._folder)

    def _exists(self) -> bool:
        return (self._folder / ENCODER_FILE).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}


class PretrainedWeightsDataset(AbstractDataset[PretrainedWeights, PretrainedWeights]):
    """`source`: `none`, a torchvision name, or a path. Empty is torchvision's best for the architecture."""

    def __init__(self, *, source: str | None, metadata: dict[str, Any] | None = None) -> None:
        self._source = str(source or "DEFAULT")
        self.metadata = metadata

    def load(self) -> PretrainedWeights:
        """The weights, not yet read: which ones they are depends on the architecture."""
        return PretrainedWeights(self._source)

    def save(self, data: PretrainedWeights) -> None:  # noqa: ARG002
        """Not possible: weights come from outside."""
        raise DatasetError("Pretrained weights are only read")

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:  # noqa: ARG002
        """Of the file; what torchvision has under a name never changes."""
        path = PretrainedWeights(self._source).path
        return self._source if path is None else files.of_file(path)

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source}


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
        write_file(self._path, lambda path: path.write_text(text, encoding="utf-8"))

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


class ModelRegistryDataset(AbstractDataset[None, ModelRegistry]):
    """Loads as the `ModelRegistry` in the MLflow store that kedro-mlflow is configured with.

    What is registered during a run belongs to that run: its artifacts, its parameters and curves lie
    together. `counts` is what of it can change a result: the champion, for what begins with it; nothing, for
    what is decided against it: that decision stands, whatever is promoted later.
    """

    def __init__(
        self,
        *,
        name: str,
        corpus: str | None = None,
        counts: Literal["champion", "nothing"] = "nothing",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._name = name
        self._corpus = corpus
        self._counts = counts
        self.metadata = metadata

    def load(self) -> ModelRegistry:
        """The registry; the store is opened when it is first asked something."""
        import mlflow

        run = mlflow.active_run()
        return ModelRegistry(
            mlflow.get_tracking_uri(),
            name=self._name,
            run_id=run.info.run_id if run else None,
            corpus=self._corpus,
        )

    def save(self, data: None) -> NoReturn:  # noqa: ARG002
        """Refused: models enter the registry one by one."""
        raise DatasetError("The model registry is not saved as a whole: register a version in a node")

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:  # noqa: ARG002
        """Of the champion, and until when it has learnt from ratings; or nothing."""
        if self._counts == "nothing":
            return None
        registry = self.load()
        champion = registry.champion()
        return digest_of(champion and (champion.version, champion.fingerprint, champion.learnt_until))

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "corpus": self._corpus}


class RegisteredVersionDataset(AtomicJSONDataset):
    """What became of a candidate, as JSON; it exists as long as the registry in use has that version.

    Another MLflow store, or one that was deleted, has not: the candidate is registered there.
    """

    def _exists(self) -> bool:
        if not super()._exists():
            return False
        document = self.load()
        found = ModelRegistryDataset(name=document["name"]).load().with_fingerprint(document["fingerprint"])
        return found is not None and found.version == document["version"]
