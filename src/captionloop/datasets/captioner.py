"""A trained captioner in the catalog: its bundle, a folder."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

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

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
