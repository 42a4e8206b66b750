"""Reading ratings for training: every rating beside the caption and the photo that it is about.

Only reads. What people erased is not in these tables any more, so it is in nothing that is made of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
from sqlalchemy import Engine, exists, select
from sqlalchemy.exc import DBAPIError

from captionloop.captioner.confidence import sureness
from captionloop.feedback.database import DatabaseError, normalise_url, open_reader, sqlite_file, unreachable
from captionloop.feedback.models import Caption, Erasure, Photo, Rating

RATINGS: Final = {
    "rating_id": "int64",
    "caption_id": "str",
    "rater": "str",
    "stars": "int64",
    "correction": "object",
    "created_at": "datetime64[us, UTC]",
    "updated_at": "datetime64[us, UTC]",
    "text": "str",
    "model_version": "str",
    "image_id": "str",
    "sent_sha256": "object",
}
"""Columns: `text` is the caption that was rated, `image_id` the SHA-256 of its photo as it is kept, and
`sent_sha256` that of the photo as it was sent, where that is known.
"""


@dataclass(frozen=True)
class RatingsDatabase:
    """Where ratings are, and the storage of their photos."""

    url: str

    def ratings(self) -> pd.DataFrame:
        """Every rating there is, the oldest first, with the columns of `RATINGS`.

        Raises:
            DatabaseError: the database is missing, does not answer, or has no ratings tables.
        """
        wanted = (
            select(
                Rating.rating_id,
                Rating.caption_id,
                Rating.rater,
                Rating.stars,
                Rating.correction,
                Rating.created_at,
                Rating.updated_at,
                Caption.text,
                Caption.model_version,
                Caption.photo_sha256,
                Caption.sent_sha256,
            )
            .join(Caption, Caption.caption_id == Rating.caption_id)
            .order_by(Rating.created_at, Rating.rating_id)
        )
        engine = self.engine()
        try:
            with engine.connect() as connection:
                rows = [tuple(row) for row in connection.execute(wanted)]
        except DBAPIError as error:
            raise unreachable(error) from error
        finally:
            engine.dispose()
        return ratings_table(rows)

    def erased(self) -> frozenset[str]:
        """Photos (SHA-256) that people erased and nobody has sent again.

        Raises:
            DatabaseError: as `ratings`.
        """
        wanted = select(Erasure.sha256).where(~exists().where(Photo.sha256 == Erasure.sha256))
        engine = self.engine()
        try:
            with engine.connect() as connection:
                return frozenset(connection.scalars(wanted))
        except DBAPIError as error:
            raise unreachable(error) from error
        finally:
            engine.dispose()

    def surenesses(self) -> pd.DataFrame:
        """How sure every rated caption was by its words (columns `caption_id`, `sureness`).

        Left out are captions of photos that were unlike anything their model had learnt from: of these no
        confidence is claimed.

        Raises:
            DatabaseError: as `ratings`.
        """
        rated = exists().where(Rating.caption_id == Caption.caption_id)
        wanted = select(Caption.caption_id, Caption.words).where(rated, Caption.familiar.is_not(False))
        engine = self.engine()
        try:
            with engine.connect() as connection:
                rows = [
                    (caption_id, sureness([word["confidence"] for word in words]))
                    for caption_id, words in connection.execute(wanted)
                    if words
                ]
        except DBAPIError as error:
            raise unreachable(error) from error
        finally:
            engine.dispose()
        return pd.DataFrame(rows, columns=["caption_id", "sureness"]).astype(
            {"caption_id": "str", "sureness": "float64"}
        )

    def engine(self) -> Engine:
        """For reading; whoever asks for it disposes of it. Raises `DatabaseError` where there is none."""
        url = normalise_url(self.url)
        path = sqlite_file(url)
        if path is not None and not Path(path).is_file():  # reading must not make an empty one
            raise DatabaseError(
                f"there is no ratings database at {path}: start the service once (make serve), "
                "or set CAPTIONLOOP_DATABASE or CAPTIONLOOP_STATE"
            )
        return open_reader(url, pool_size=1)


def names_in_corpus(ratings: pd.DataFrame, images: pd.DataFrame) -> pd.Series:
    """The SHA-256 by which the corpus may know the photo of each rating.

    As it was sent, if the corpus has that: photos of a corpus may carry metadata. Else as it is kept.
    """
    return ratings["image_id"].mask(ratings["sent_sha256"].isin(images["sha256"]), ratings["sent_sha256"])


def ratings_table(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    """Rows in the order of `RATINGS` as a table of its types."""
    return pd.DataFrame(rows, columns=list(RATINGS)).astype(RATINGS)
