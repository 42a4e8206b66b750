"""A folder of photos in the Kedro catalog."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from kedro.io import AbstractDataset, DatasetError

from captionloop.corpus.photos import PhotoFolder
from captionloop.errors import CorpusError
from captionloop.provenance.content_digests import FileDigests, digest_of
from captionloop.vision.durable import begin_folder, replace_folder

_MARK: Final = ".written-by-captionloop"
LISTING: Final = frozenset(
    {"images", "training_images", "evaluation_photos", "base_images", "base_evaluation_photos"}
)
"""Tables that name photos by the SHA-256 of their bytes: who reads one of them sees there what changed."""


class PhotoFolderDataset(AbstractDataset[Iterable[tuple[str, bytes]], PhotoFolder]):
    """Loads as a `PhotoFolder`; saves (name, bytes) pairs as a new folder in the place of the old."""

    is_peoples_data = True  # what somebody changed among drawn photos is an input, not to be drawn over

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> PhotoFolder:
        """The folder; `CorpusError` where it is missing."""
        folder = PhotoFolder(self._filepath)
        if not folder.exists():
            raise CorpusError(f"There is no photo folder {self._filepath}: check the path, see docs/data.md")
        return folder

    def save(self, data: Iterable[tuple[str, bytes]]) -> None:
        """Writes every photo of `data`, which may be a generator.

        Raises `CorpusError` where the folder holds photos that were not written here: nobody's photos are
        replaced by drawn ones because a run was started with the wrong environment.
        """
        if "://" in self._filepath:
            raise DatasetError(
                f"Photos can be read from {self._filepath}, but are only written to a local folder"
            )
        final = Path(self._filepath)
        if final.is_dir() and any(final.iterdir()) and not (final / _MARK).exists():
            raise CorpusError(
                f"{final} holds photos that captionloop did not write, so they stay: "
                "run --pipelines from_corpus, or choose another folder"
            )
        partial = begin_folder(final)
        folder = PhotoFolder(str(partial))
        for name, photo in data:
            folder.write(name, photo)
        (partial / _MARK).touch()
        replace_folder(partial, final)

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:
        """Of all photos; of none where the node reads a table that lists those it looks at."""
        if beside & LISTING:
            return None
        folder = PhotoFolder(self._filepath)
        if "://" not in self._filepath:
            return files.of_folder(Path(self._filepath))
        return digest_of(folder.listing())

    def _exists(self) -> bool:
        return PhotoFolder(self._filepath).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
