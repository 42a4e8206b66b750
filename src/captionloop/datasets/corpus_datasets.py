"""Corpora, photo folders and the ratings database in the Kedro catalog."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

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
from captionloop.datasets.atomic_datasets import AtomicJSONDataset
from captionloop.errors import ConfigurationError, CorpusError
from captionloop.files import begin_folder, replace_folder
from captionloop.photos import PhotoFolder
from captionloop.provenance.output_records import FileDigests, digest_of
from captionloop.ratings.reader import RatingsDatabase


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


_MARK: Final = ".written-by-captionloop"
_BEGUN: Final = ".not-yet-whole"
_AT_ONCE: Final = 8
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
            _write_remote(PhotoFolder(self._filepath), data)
            return
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
        folder = PhotoFolder(self._filepath)
        return folder.exists() and not ("://" in self._filepath and folder.holds(_BEGUN))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


def _write_remote(folder: PhotoFolder, photos: Iterable[tuple[str, bytes]]) -> None:
    """Writes photos into object storage, where no folder can be renamed: until all are there, a mark says so.

    Raises `CorpusError` as for a local folder.
    """
    before = set(folder.names()) if folder.exists() else set()
    if before and not (folder.holds(_MARK) or folder.holds(_BEGUN)):
        raise CorpusError(
            f"{folder.root} holds photos that captionloop did not write, so they stay: "
            "run --pipelines from_corpus, or choose another folder"
        )
    folder.write(_BEGUN, b"1")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        after = set(pool.map(partial(_write_photo, folder), photos))
    for name in before - after:
        folder.remove(name)
    folder.write(_MARK, b"1")
    folder.remove(_BEGUN)


def _write_photo(folder: PhotoFolder, photo: tuple[str, bytes]) -> str:
    folder.write(*photo)
    return photo[0]


class RatingsDataset(AbstractDataset[NoReturn, RatingsDatabase]):
    """`url`: of the database; empty: where the service on this machine keeps it (`CAPTIONLOOP_*`).

    A URL that holds a password belongs into the environment, never into the catalog. `counts` is what of it
    can change a result: every rating, or only which photos were erased (people go on rating during a run).
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        counts: Literal["ratings", "erasures"] = "ratings",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._url = url or ""
        self._counts = counts
        self.metadata = metadata

    def load(self) -> RatingsDatabase:
        """The database; it is opened when it is first asked something."""
        return RatingsDatabase(self._url or _settings().database_url)

    def save(self, data: NoReturn) -> None:  # noqa: ARG002
        """Never: ratings are written by the service."""
        raise DatasetError("Ratings are only read here")

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:  # noqa: ARG002
        """Of the ratings and erasures, or of the latter alone."""
        database = self.load()
        erased = sorted(database.erased())
        if self._counts == "erasures":
            return digest_of(erased)
        return digest_of(erased, database.ratings().to_csv(index=False))

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"url": "as given" if self._url else "the service's"}


class PhotoArchiveDataset(AbstractDataset[NoReturn, PhotoFolder]):
    """`root`: of the photo archive, a path or fsspec URI; empty: where the service keeps it."""

    def __init__(self, *, root: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        self._root = root or ""
        self.metadata = metadata

    def load(self) -> PhotoFolder:
        """The archive as a folder of photos."""
        return PhotoFolder(self._root or _settings().photo_root)

    def save(self, data: NoReturn) -> None:  # noqa: ARG002
        """Never: photos are kept by the service."""
        raise DatasetError("People's photos are only read here")

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:  # noqa: ARG002
        """Nothing counts: photos are named by the SHA-256 of their bytes, and ratings say which."""
        return None

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"root": self._root or "the service's"}


def _settings() -> Any:
    from captionloop.serving.service_settings import Settings

    return Settings.from_environment()


class SceneFactsDataset(AtomicJSONDataset):
    """JSON by the name of each scene's photo; without the file, which only drawn corpora have, `{}`."""

    def load(self) -> dict[str, Any]:
        """The facts of all scenes, or none."""
        if not Path(self._filepath).exists():
            return {}
        found: dict[str, Any] = super().load()
        return found

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:  # noqa: ARG002
        """Of the file, or that there is none."""
        return files.of_file(Path(self._filepath))
