"""Encoders and the weights they start from, in the Kedro catalog."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from captionloop.provenance.content_digests import FileDigests
from captionloop.vision.encoder import ENCODER_FILE, Encoder
from captionloop.vision.weights import PretrainedWeights


class EncoderDataset(AbstractDataset[Encoder, Encoder]):
    """A folder with `encoder.safetensors`. Written beside its place and renamed: never a torn encoder."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> Encoder:
        """The encoder; `EncoderError` where it is missing or damaged."""
        return Encoder.load(self._folder)

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
