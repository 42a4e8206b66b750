"""Kedro's own file datasets, safe against being killed while they save; folders of checkpoints.

A file dataset of kedro-datasets writes in place: a process killed half-way leaves half a file, which looks
like a finished one to whoever asks only whether it is there. Here the file is written beside its place and
renamed onto it, which on one file system is atomic: the old content or the new one is there, never a part.
"""

import os
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets.json import JSONDataset
from kedro_datasets.text import TextDataset

from captionloop.provenance.code_versions import CodeVersion
from captionloop.provenance.output_records import FileDigests
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


class WorkbenchDataset(AbstractDataset[NoReturn, Path]):
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
        raise DatasetError(f"{self._filepath} is a workbench: it is handed to a node, not saved.")

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
