"""Kedro's own file datasets, made safe against being killed while they save.

A file dataset of kedro-datasets writes in place: a process killed half-way leaves half a file, which looks
like a finished one to whoever asks only whether it is there. Here the file is written beside its place and
renamed onto it, which on one file system is atomic: the old content or the new one is there, never a part.
"""

import os
from pathlib import Path, PurePosixPath
from typing import Any

from kedro_datasets.json import JSONDataset
from kedro_datasets.matplotlib import MatplotlibDataset
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.text import TextDataset


class _RenameIntoPlace:
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


class AtomicParquetDataset(_RenameIntoPlace, ParquetDataset):  # type: ignore[misc]
    """`pandas.ParquetDataset` that never leaves a torn table."""


class AtomicJSONDataset(_RenameIntoPlace, JSONDataset):  # type: ignore[misc]
    """`json.JSONDataset` that never leaves a torn document."""


class AtomicTextDataset(_RenameIntoPlace, TextDataset):  # type: ignore[misc]
    """`text.TextDataset` that never leaves a torn page."""


class AtomicFigureDataset(_RenameIntoPlace, MatplotlibDataset):  # type: ignore[misc]
    """`matplotlib.MatplotlibDataset` that never leaves a torn picture."""
