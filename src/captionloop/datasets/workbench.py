"""A folder that a node works in and may find half-done work in: given to it by the catalog, not behind it."""

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from captionloop.provenance.code_versions import CodeVersion
from captionloop.provenance.content_digests import FileDigests
from captionloop.provenance.recording import CodeStamp


class WorkbenchDataset(AbstractDataset[NoReturn, Path]):
    """Loads as the path of a folder, made when it is not there; what lies in it is the node's affair."""

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
