"""Ratings for training and traffic for drift, read from the ratings database.

Only reads. What people erased is not in these tables any more, so it is in nothing that is made of them.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Engine, exists, func, select
from sqlalchemy.exc import DBAPIError

from captionloop.captioner.model_config import sureness
from captionloop.languages import ENGLISH, Language
from captionloop.ratings.database import DatabaseError, normalise_url, open_reader, sqlite_file, unreachable
from captionloop.ratings.rating_tables import CORPUS, Caption, Erasure, Photo, Rating
from captionloop.tokenizer import word_tokens
from captionloop.vision.embedding import SIZE, from_bytes

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
    "gold": "bool",
    "network": "object",
}
"""Columns: `text` is the caption that was rated, `image_id` the SHA-256 of its photo as it is kept,
`sent_sha256` that of the photo as it was sent, where that is known; `gold`: the service showed a photo of
the corpus; `network` is that of the rater's address on that day (`networks.py`), where it is a public one.
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
        query = (
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
                Caption.owner == CORPUS,
                Rating.network,
            )
            .join(Caption, Caption.caption_id == Rating.caption_id)
            .order_by(Rating.created_at, Rating.rating_id)
        )
        engine = self.engine()
        try:
            with engine.connect() as connection:
                rows = [tuple(row) for row in connection.execute(query)]
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
        query = select(Erasure.sha256).where(~exists().where(Photo.sha256 == Erasure.sha256))
        engine = self.engine()
        try:
            with engine.connect() as connection:
                return frozenset(connection.scalars(query))
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
        query = select(Caption.caption_id, Caption.words).where(rated, Caption.familiar.is_not(False))
        engine = self.engine()
        try:
            with engine.connect() as connection:
                rows = [
                    (caption_id, sureness([word["confidence"] for word in words]))
                    for caption_id, words in connection.execute(query)
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


@dataclass(frozen=True)
class Traffic:
    """What was served and said in a window of time, or, for comparison, at training and evaluation.

    `embeddings` `[n, 32]`; `confidences` `[n]` (0 to 1); `lengths` `[n]` in words; `texts`: what people wrote
    (corrections; for comparison, references of photos that were held out); `stars` `[n]`;
    `from_feedback`: for comparison, the photos that came with feedback, and what is said about them.
    """

    embeddings: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, SIZE), np.float32))
    confidences: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    lengths: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    texts: tuple[str, ...] = ()
    stars: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    from_feedback: "Traffic | None" = None


def read_traffic(
    engine: Engine,
    since: datetime,
    until: datetime,
    *,
    served: Collection[str],
    comparable: Collection[str],
    limit: int,
    language: Language = ENGLISH,
) -> Traffic:
    """Captions and ratings of a window, the newest `limit` of each.

    Args:
        engine: of the ratings database.
        since: the window's beginning, included.
        until: its end, excluded.
        served: versions whose confidences and caption lengths count: those of one model.
        comparable: versions whose embeddings count: those with one encoder.
        limit: captions and ratings to read, of each.
        language: of the captions.

    Raises:
        DatabaseError: the database does not answer.
    """
    window = (Caption.created_at >= since, Caption.created_at < until)
    caption_query = (
        select(Caption.text, Caption.confidence)
        .where(*window, Caption.model_version.in_(list(served)))
        .order_by(Caption.created_at.desc())
        .limit(limit)
    )
    embedding_query = (
        # A photo that was sent twice is seen once.
        select(Caption.photo_sha256, func.max(Caption.embedding))
        .where(*window, Caption.model_version.in_(list(comparable)), Caption.embedding.is_not(None))
        .group_by(Caption.photo_sha256)
        .order_by(func.max(Caption.created_at).desc())
        .limit(limit)
    )
    rating_query = (
        select(Rating.stars, Rating.correction)
        .join(Caption, Caption.caption_id == Rating.caption_id)
        .where(Rating.updated_at >= since, Rating.updated_at < until, Caption.owner != CORPUS)
        .order_by(Rating.updated_at.desc())
        .limit(limit)
    )
    try:
        with engine.connect() as connection:
            captions = connection.execute(caption_query).all()
            embeddings = [from_bytes(row[1] or b"") for row in connection.execute(embedding_query)]
            ratings = connection.execute(rating_query).all()
    except DBAPIError as error:
        raise unreachable(error) from error
    return Traffic(
        embeddings=_stacked(embeddings),
        confidences=np.array([row.confidence for row in captions], np.float64),
        lengths=np.array([len(word_tokens(row.text, language)) for row in captions], np.float64),
        texts=tuple(row.correction for row in ratings if row.correction),
        stars=np.array([row.stars for row in ratings], np.float64),
    )


def _stacked(embeddings: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    complete = [embedding for embedding in embeddings if embedding.shape == (SIZE,)]
    return np.stack(complete) if complete else np.zeros((0, SIZE), np.float32)
