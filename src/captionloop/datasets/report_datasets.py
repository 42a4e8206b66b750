"""Datasets of what people look at: pictures, tables, and sites of several pages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets.matplotlib import MatplotlibDataset
from kedro_datasets.pandas import ParquetDataset

from captionloop.datasets.atomic_datasets import RenameIntoPlace
from captionloop.files import begin_folder, replace_folder


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
