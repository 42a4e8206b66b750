"""Kedro's file datasets, safe against being killed while they save; pictures, sites, checkpoint folders.

A file dataset of kedro-datasets writes in place: a process killed half-way leaves half a file, which looks
like a finished one to whoever asks only whether it is there. Here the file is written beside its place and
renamed onto it, which on one file system is atomic: the old content or the new one is there, never a part.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets.json import JSONDataset
from kedro_datasets.matplotlib import MatplotlibDataset
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.text import TextDataset

from captionloop.files import begin_folder, replace_folder
from captionloop.provenance.code_versions import CodeVersion
from captionloop.provenance.output_records import FileDigests, digest_of
from captionloop.provenance.recording import CodeStamp


class RenameIntoPlace:
    """Mixin: saves under `.<name>.partial<suffix>` first. For single local files without Kedro versioning."""

    _filepath: PurePosixPath

    def _get_save_path(self) -> PurePosixPath:
        return self._filepath.with_name(f".{self._filepath.stem}.partial{self._filepath.suffix}")

    def save(self, data: Any) -> None:
        """Write beside the final place, flush to disk, rename."""
        partial, final = Path(self._get_save_path()), Path(self._filepath)
        final.parent.mkdir(parents=True, exist_ok=True)
        super().save(data)  # type: ignore[misc]
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(final)


class AtomicJSONDataset(RenameIntoPlace, JSONDataset):  # type: ignore[misc]
    """`json.JSONDataset` that never leaves a torn document."""


class AtomicTextDataset(RenameIntoPlace, TextDataset):  # type: ignore[misc]
    """`text.TextDataset` that never leaves a torn page."""


class JSONFilesDataset(AbstractDataset[NoReturn, dict[str, Any]]):
    """Loads as every `<folder>/<name>/<file>` that is there, by name. There may be none."""

    def __init__(self, *, folder: str, file: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(folder)
        self._file = file
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        """The documents."""
        return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in self._paths()}

    def save(self, data: NoReturn) -> None:  # noqa: ARG002
        """Never: each is written by whoever makes it."""
        raise DatasetError(f"{self._folder} is only read: each {self._file} has an entry of its own.")

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:  # noqa: ARG002
        """Of all of them."""
        return digest_of(*((path.parent.name, files.of_file(path)) for path in self._paths()))

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob(f"*/{self._file}"))

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"folder": str(self._folder), "file": self._file}


class CheckpointFolderDataset(AbstractDataset[NoReturn, Path]):
    """Loads as the path of a folder, made when it is not there; what lies in it is the node's affair."""

    is_half_done_work = True  # which a step that was killed goes on from

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """The folder."""
        self._filepath.mkdir(parents=True, exist_ok=True)
        return self._filepath

    def save(self, data: NoReturn) -> None:  # noqa: ARG002
        """Never: nodes write into the folder themselves."""
        raise DatasetError(f"{self._filepath} is a checkpoint folder: it is handed to a node, not saved.")

    def begin(self, version: CodeVersion) -> None:
        """Makes sure that only work of this code is in the folder: what other code began is begun anew."""
        CodeStamp(self._filepath).begin(version)

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:  # noqa: ARG002
        """Nothing counts: half-done work saves time, and what it is worth the node sees for itself."""
        return None

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class AtomicParquetDataset(RenameIntoPlace, ParquetDataset):  # type: ignore[misc]
    """`pandas.ParquetDataset` that never leaves a torn table."""


class AtomicFigureDataset(RenameIntoPlace, MatplotlibDataset):  # type: ignore[misc]
    """`matplotlib.MatplotlibDataset` that never leaves a torn picture."""


class SiteDataset(AbstractDataset[Mapping[str, bytes], dict[str, bytes]]):
    """Saves `{"index.html": b"..."}` as a new folder in the place of the old; loads the same."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, bytes]:
        """Every page by its path."""
        paths = (path for path in sorted(self._filepath.rglob("*")) if path.is_file())
        return {path.relative_to(self._filepath).as_posix(): path.read_bytes() for path in paths}

    def save(self, data: Mapping[str, bytes]) -> None:
        """Writes all pages beside the old site, then renames."""
        partial = begin_folder(self._filepath)
        for name, page in data.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(page)
        replace_folder(partial, self._filepath)

    def _exists(self) -> bool:
        return (self._filepath / "index.html").is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
