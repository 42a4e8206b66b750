"""What was served and said in a window of time, read from the ratings database for the drift report."""

from collections.abc import Collection
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DBAPIError

from captionloop.evaluation.drift import Traffic
from captionloop.feedback.database import unreachable
from captionloop.feedback.models import Caption, Rating
from captionloop.language.languages import ENGLISH, Language
from captionloop.language.words import words_of
from captionloop.vision.embedding import SIZE, from_bytes


def read_traffic(
    engine: Engine,
    since: datetime,
    until: datetime,
    *,
    served: Collection[str],
    comparable: Collection[str],
    most: int,
    language: Language = ENGLISH,
) -> Traffic:
    """Captions and ratings of a window, the newest `most` of each.

    Args:
        engine: of the ratings database.
        since: the window's beginning, included.
        until: its end, excluded.
        served: versions whose confidences and caption lengths count: those of one model.
        comparable: versions whose embeddings count: those with one encoder.
        most: captions and ratings to read.
        language: of the captions.

    Raises:
        DatabaseError: the database does not answer.
    """
    window = (Caption.created_at >= since, Caption.created_at < until)
    said = (
        select(Caption.text, Caption.confidence)
        .where(*window, Caption.model_version.in_(list(served)))
        .order_by(Caption.created_at.desc())
        .limit(most)
    )
    seen = (
        # A photo that was sent twice is seen once.
        select(Caption.photo_sha256, func.max(Caption.embedding))
        .where(*window, Caption.model_version.in_(list(comparable)), Caption.embedding.is_not(None))
        .group_by(Caption.photo_sha256)
        .order_by(func.max(Caption.created_at).desc())
        .limit(most)
    )
    rated = (
        select(Rating.stars, Rating.correction)
        .where(Rating.updated_at >= since, Rating.updated_at < until)
        .order_by(Rating.updated_at.desc())
        .limit(most)
    )
    try:
        with engine.connect() as connection:
            captions = connection.execute(said).all()
            embeddings = [from_bytes(row[1] or b"") for row in connection.execute(seen)]
            ratings = connection.execute(rated).all()
    except DBAPIError as error:
        raise unreachable(error) from error
    return Traffic(
        embeddings=_stacked(embeddings),
        confidences=np.array([row.confidence for row in captions], np.float64),
        lengths=np.array([len(words_of(row.text, language)) for row in captions], np.float64),
        texts=tuple(row.correction for row in ratings if row.correction),
        stars=np.array([row.stars for row in ratings], np.float64),
    )


def _stacked(embeddings: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    whole = [embedding for embedding in embeddings if embedding.shape == (SIZE,)]
    return np.stack(whole) if whole else np.zeros((0, SIZE), np.float32)
