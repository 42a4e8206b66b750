"""A caption corpus in the Kedro catalog, in any of the forms that `captionloop.corpus.readers` knows."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import fsspec
from kedro.io import AbstractDataset, DatasetError

from captionloop.corpus.readers import (
    read_coco,
    read_csv,
    read_flickr,
    read_karpathy,
    was_written_here,
    write_karpathy,
)
from captionloop.corpus.tables import RawCorpus
from captionloop.errors import ConfigurationError, CorpusError
from captionloop.provenance.content_digests import FileDigests, digest_of


class CorpusDataset(AbstractDataset[RawCorpus, RawCorpus]):
    """Loads as a `RawCorpus`. Which settings a format takes:

    - `karpathy`: `filepath`, a `dataset_*.json`; the only format that can be saved
    - `csv`: `filepath`, with the columns image, caption, split
    - `flickr`: `filepath`, the token file, and `splits`, the list of photos of each split
    - `coco`: `splits`, the annotation file or files of each split, and `folders`, where each split's photos
      lie below the photo folder
    """

    is_peoples_data = True  # what somebody changed in drawn captions is an input, not to be drawn over

    def __init__(
        self,
        *,
        format: Literal["karpathy", "coco", "flickr", "csv"],  # noqa: A002 - what a catalog calls it
        filepath: str | None = None,
        splits: Mapping[str, str | Sequence[str]] | None = None,
        folders: Mapping[str, str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if format not in {"karpathy", "coco", "flickr", "csv"}:
            raise ConfigurationError(
                f"CorpusDataset knows no format {format!r}: give karpathy, coco, flickr or csv"
            )
        if format != "coco" and filepath is None:
            raise ConfigurationError(f"CorpusDataset needs a filepath for the format {format}")
        if format in {"coco", "flickr"} and not splits:
            raise ConfigurationError(
                f"CorpusDataset needs splits, the files of each split, for the format {format}"
            )
        self._format = format
        self._filepath = filepath or ""
        self._splits = {
            split: [paths] if isinstance(paths, str) else list(paths)
            for split, paths in (splits or {}).items()
        }
        self._folders = dict(folders or {})
        self.metadata = metadata

    def load(self) -> RawCorpus:
        """The corpus, unchecked; `CorpusError` where its files are missing or of another structure."""
        if self._format == "karpathy":
            return read_karpathy(self._filepath)
        if self._format == "csv":
            return read_csv(self._filepath)
        if self._format == "flickr":
            return read_flickr(self._filepath, self._splits)
        return read_coco(self._splits, self._folders)

    def save(self, data: RawCorpus) -> None:
        """Writes Karpathy's form. Raises `CorpusError` where the file is there and was not written here."""
        if self._format != "karpathy" or "://" in self._filepath:
            raise DatasetError("A corpus is only saved in the karpathy format, to a local file")
        final = Path(self._filepath)
        if final.exists() and not was_written_here(str(final)):
            raise CorpusError(
                f"{final} holds captions that captionloop did not write, so they stay: "
                "run --pipelines from_corpus, or choose another file"
            )
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".{final.name}.partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write(write_karpathy(data, name=final.parent.name))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(final)

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:  # noqa: ARG002
        """Of its files, and of how they are read."""
        splits = [(split, [_content(path, files) for path in paths]) for split, paths in self._splits.items()]
        return digest_of(self._format, _content(self._filepath, files), splits, sorted(self._folders.items()))

    def _exists(self) -> bool:
        paths = [self._filepath] if self._filepath else []
        paths += [path for several in self._splits.values() for path in several]
        return all("://" in path or Path(path).is_file() for path in paths)

    def _describe(self) -> dict[str, Any]:
        return {"format": self._format, "filepath": self._filepath, "splits": self._splits}


def _content(path: str, files: FileDigests) -> str:
    """A digest of one of its files, near or far; what is far is read for it."""
    if "://" not in path:
        return files.of_file(Path(path)) if path else ""
    with fsspec.open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
