"""The model registry in the Kedro catalog."""

from typing import Any, Literal, NoReturn

from kedro.io import AbstractDataset, DatasetError

from captionloop.datasets.atomic import AtomicJSONDataset
from captionloop.provenance.content_digests import FileDigests, digest_of
from captionloop.registry.model_registry import ModelRegistry


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
        """Of the champion, and until when ratings were learnt from; or nothing."""
        if self._counts == "nothing":
            return None
        registry = self.load()
        champion = registry.champion()
        learnt = [version.lineage.get("feedback_until") for version in registry.versions()]
        return digest_of(champion and (champion.version, champion.fingerprint), learnt)

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
        told = self.load()
        found = ModelRegistryDataset(name=told["name"]).load().with_fingerprint(told["fingerprint"])
        return found is not None and found.version == told["version"]
