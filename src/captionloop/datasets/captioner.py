"""A trained captioner in the catalog: its bundle, a folder."""

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

from captionloop.provenance.content_digests import FileDigests, digest_of

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner


class CaptionerDataset(AbstractDataset["Captioner", "Captioner"]):
    """Loads and saves a `Captioner` as a bundle; saving replaces the folder in one step."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def load(self) -> "Captioner":
        """Read and verify the bundle."""
        from captionloop.captioner.captioner import Captioner

        return Captioner.load(Path(self._filepath))

    def save(self, data: "Captioner") -> None:
        """Write the bundle beside its place and rename it."""
        data.save(Path(self._filepath))

    def _exists(self) -> bool:
        from captionloop.captioner.bundle import CHECKSUMS

        return (Path(self._filepath) / CHECKSUMS).is_file()

    def content_digest(self, files: FileDigests, beside: frozenset[str]) -> str | None:  # noqa: ARG002
        """Of all its files, but for the commit it was trained at: another one made the same captioner."""
        from captionloop.captioner.bundle import CHECKSUMS, LINEAGE

        folder = Path(self._filepath)
        try:
            lineage = _without_commit(json.loads((folder / LINEAGE).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            lineage = None
        rest = files.of_folder(folder, takes=lambda name: name not in {CHECKSUMS, LINEAGE})
        return digest_of(rest, json.dumps(lineage, sort_keys=True))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _without_commit(lineage: Any) -> Any:
    """The same, of the captioners it was trained on from as well."""
    if not isinstance(lineage, dict):
        return lineage
    return {name: _without_commit(value) for name, value in lineage.items() if name != "git_commit"}
