"""The ratings database and the photos that people sent, in the Kedro catalog: only read here."""

from typing import Any, Literal, NoReturn

from kedro.io import AbstractDataset, DatasetError

from captionloop.corpus.photos import PhotoFolder
from captionloop.feedback.reading import RatingsDatabase
from captionloop.provenance.content_digests import FileDigests, digest_of


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
    from captionloop.serving.settings import Settings

    return Settings.from_environment()
