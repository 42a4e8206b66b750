"""The ratings store: captions that were served, and what people think of them."""

from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import Connection, Engine, delete, exists, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from captionloop.feedback import database
from captionloop.feedback.models import Caption, Erasure, Photo, Rating, now
from captionloop.feedback.records import Opinion, PhotoFacts, ServedCaption, StoredRating
from captionloop.feedback.statements import statements_for
from captionloop.feedback.writer import GroupWriter
from captionloop.vision.embedding import to_bytes

ERASED_PER_STEP = 200


class RatingsStore:
    """Captions and ratings in a database. Writes go through one group-committing writer per process.

    A write returns a future: when it is done, the change is on the disk. Reads block; call them from a
    thread.
    """

    def __init__(self, url: str) -> None:
        self._engine = database.open_engine(url, pool_size=1, deadlines=True)
        self._reader = database.open_reader(url, deadlines=True)
        self._writer = GroupWriter(self._engine)

    @property
    def reader(self) -> Engine:
        """For questions that only read (statistics, keys)."""
        return self._reader

    @property
    def writer(self) -> GroupWriter:
        """For changes other than those below (keys)."""
        return self._writer

    def close(self) -> None:
        """Finish writing and let go of the database."""
        self._writer.close()
        self._engine.dispose()
        self._reader.dispose()

    def check(self) -> None:
        """Ask the database for a sign of life, and whether its tables are those that we write to.

        Raises:
            SchemaError: it has no tables, or older ones.
            DatabaseError: it does not answer.
        """
        try:
            with self._reader.connect() as connection:
                database.check_schema(connection)
        except DBAPIError as error:
            raise database.unreachable(error) from error

    def record(self, served: ServedCaption) -> "Future[None]":
        """Remember a caption that is about to be served."""
        facts = served.photo
        photo = {
            "sha256": facts.sha256,
            "media_type": facts.media_type,
            "byte_count": facts.byte_count,
            "width": facts.width,
            "height": facts.height,
            "created_at": served.created_at,
        }
        caption = {
            "caption_id": served.caption_id,
            "photo_sha256": facts.sha256,
            "sent_sha256": served.sent_sha256,
            "owner": served.owner,
            "text": served.text,
            "confidence": served.confidence,
            "words": served.words,
            "alternatives": served.alternatives,
            "model_name": served.model_name,
            "model_version": served.model_version,
            "created_at": served.created_at,
            "familiarity": served.familiarity,
            "familiar": served.familiar,
            "embedding": None if served.embedding is None else to_bytes(np.asarray(served.embedding)),
        }

        def operation(connection: Connection) -> None:
            statements = statements_for(connection.dialect.name)
            connection.execute(statements.keep_photo, photo)
            connection.execute(statements.forget_erasure, {"photo": facts.sha256})
            connection.execute(statements.keep_caption, caption)

        return self._writer.submit(operation, locks=("1 photo", facts.sha256))

    def rate(self, caption_id: str, rater: str, opinion: Opinion) -> "Future[StoredRating | None]":
        """Keep an opinion, in place of the rater's earlier one; `None` if there is no such caption."""
        moment = now()
        rating = {
            "caption_id": caption_id,
            "rater": rater,
            "stars": opinion.stars,
            "correction": opinion.correction,
            "comment": opinion.comment,
            "created_at": moment,
            "updated_at": moment,
        }

        def operation(connection: Connection) -> StoredRating | None:
            statements = statements_for(connection.dialect.name)
            key = {"of_caption": caption_id, "by_rater": rater}
            if connection.execute(statements.caption_exists, key).first() is None:
                return None
            before = connection.execute(statements.read_rating, key).first()
            connection.execute(statements.keep_rating, rating)
            stored = StoredRating(*connection.execute(statements.read_rating, key).one())
            ours = stored.updated_at == moment  # the same opinion again changes nothing
            return replace(
                stored,
                is_new=stored.created_at == moment,
                adds_correction=ours
                and stored.correction is not None
                and (before is None or before.correction is None),
            )

        return self._writer.submit(operation, locks=("2 rating", caption_id, rater))

    def withdraw(self, caption_id: str, rater: str) -> "Future[bool]":
        """Erase what a rater said about a caption; whether there was anything."""
        wanted = (Rating.caption_id == caption_id, Rating.rater == rater)

        def operation(connection: Connection) -> bool:
            return bool(connection.scalars(delete(Rating).where(*wanted).returning(Rating.rating_id)).all())

        return self._writer.submit(operation, locks=("2 rating", caption_id, rater))

    def erase(self, caption_id: str, *, owner: str | None) -> "Future[list[str] | None]":
        """Erase a caption and its ratings.

        Args:
            caption_id: which.
            owner: whose it must be; `None` for an administrator.

        Returns:
            The photos that nothing refers to any more, to be erased from the archive; `None` if there is no
            such caption.
        """

        def operation(connection: Connection) -> list[str] | None:
            wanted = select(Caption.caption_id).where(Caption.caption_id == caption_id)
            if owner is not None:
                wanted = wanted.where(Caption.owner == owner)
            found = connection.scalars(wanted).all()
            return _erase(connection, list(found)) if found else None

        return self._writer.submit(operation, locks=("3 erasure", caption_id))

    def erase_person(self, rater: str) -> "Future[list[str] | None]":
        """Erase up to `ERASED_PER_STEP` of a person's own captions, at last what they said of others'.

        Returns:
            The photos to erase from the archive; `None` once nothing of this person is left.
        """

        def operation(connection: Connection) -> list[str] | None:
            wanted = select(Caption.caption_id).where(Caption.owner == rater).limit(ERASED_PER_STEP)
            if found := connection.scalars(wanted).all():
                return _erase(connection, list(found))
            connection.execute(delete(Rating).where(Rating.rater == rater))
            return None

        return self._writer.submit(operation, locks=("3 erasure", rater))

    def expire(self, *, unrated: timedelta, rated: timedelta) -> "Future[list[str]]":
        """Erase up to `ERASED_PER_STEP` captions that are past their retention; the photos to erase with
        them.

        Args:
            unrated: how long a caption is kept that nobody rated.
            rated: how long one is kept that somebody did.
        """

        def operation(connection: Connection) -> list[str]:
            has_rating = exists().where(Rating.caption_id == Caption.caption_id)
            past = (~has_rating & (Caption.created_at < now() - unrated)) | (
                Caption.created_at < now() - rated
            )
            found = connection.scalars(select(Caption.caption_id).where(past).limit(ERASED_PER_STEP)).all()
            return _erase(connection, list(found))

        return self._writer.submit(operation)

    def find(self, caption_id: str) -> ServedCaption | None:
        """The caption as it was served."""
        with Session(self._reader) as session:
            row = session.get(Caption, caption_id)
            photo = session.get(Photo, row.photo_sha256) if row else None
            return _served(row, photo) if row and photo else None

    def of_owner(
        self, owner: str, limit: int, before: tuple[datetime, str] | None = None
    ) -> list[tuple[ServedCaption, StoredRating | None]]:
        """A person's own captions with their own ratings, the newest first.

        Args:
            owner: whose.
            limit: how many at most.
            before: when the last caption of the page before was made, and its id.
        """
        own = (Rating.caption_id == Caption.caption_id) & (Rating.rater == owner)
        wanted = (
            select(Caption, Photo, Rating)
            .join(Photo, Photo.sha256 == Caption.photo_sha256)
            .outerjoin(Rating, own)
            .where(Caption.owner == owner)
            .order_by(Caption.created_at.desc(), Caption.caption_id.desc())
            .limit(limit)
        )
        if before is not None:
            moment, last = before
            older = Caption.created_at < moment
            wanted = wanted.where(older | ((Caption.created_at == moment) & (Caption.caption_id < last)))
        with Session(self._reader) as session:
            return [
                (_served(caption, photo), None if rating is None else _stored(rating))
                for caption, photo, rating in session.execute(wanted)
            ]

    def rating(self, caption_id: str, rater: str) -> StoredRating | None:
        """What this rater said about this caption."""
        with self._reader.connect() as connection:
            statements = statements_for(connection.dialect.name)
            row = connection.execute(
                statements.read_rating, {"of_caption": caption_id, "by_rater": rater}
            ).first()
            return None if row is None else StoredRating(*row)

    def erased_since(self, age: timedelta) -> list[str]:
        """Photos erased within `age` that nobody has sent again."""
        with Session(self._reader) as session:
            wanted = select(Erasure.sha256).where(Erasure.erased_at >= now() - age)
            return list(session.scalars(wanted.where(~exists().where(Photo.sha256 == Erasure.sha256))))


def _erase(connection: Connection, caption_ids: list[str]) -> list[str]:
    """Captions, their ratings (by the foreign key), and photos that are left alone."""
    statements = statements_for(connection.dialect.name)
    removed = connection.scalars(
        delete(Caption).where(Caption.caption_id.in_(caption_ids)).returning(Caption.photo_sha256)
    ).all()
    alone = ~exists().where(Caption.photo_sha256 == Photo.sha256)
    photos = connection.scalars(
        delete(Photo).where(Photo.sha256.in_(set(removed)), alone).returning(Photo.sha256)
    ).all()
    for sha256 in photos:
        connection.execute(statements.keep_erasure, {"sha256": sha256, "erased_at": now()})
    return list(photos)


def _stored(row: Rating) -> StoredRating:
    return StoredRating(
        row.caption_id, row.stars, row.correction, row.comment, row.created_at, row.updated_at
    )


def _served(row: Caption, photo: Photo) -> ServedCaption:
    return ServedCaption(
        caption_id=row.caption_id, owner=row.owner, text=row.text, confidence=row.confidence, words=row.words,
        alternatives=row.alternatives, model_name=row.model_name, model_version=row.model_version,
        created_at=row.created_at, sent_sha256=row.sent_sha256,
        familiarity=row.familiarity, familiar=row.familiar,
        photo=PhotoFacts(photo.sha256, photo.media_type, photo.byte_count, photo.width, photo.height),
    )  # fmt: skip
