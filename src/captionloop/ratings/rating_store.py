"""The ratings store: captions that were served, and what people think of them."""

from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Engine, delete, exists, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from captionloop.ratings import database
from captionloop.ratings.caption_recording import caption_row, insert_captions
from captionloop.ratings.group_commit import GroupWriter, statements_for
from captionloop.ratings.idempotency_store import Claim
from captionloop.ratings.networks import forget_salts, network_name
from captionloop.ratings.photo_removal import Ledger
from captionloop.ratings.rating_tables import (
    CORPUS,
    Caption,
    Offer,
    Photo,
    PhotoFacts,
    Rating,
    RatingInput,
    ServedCaption,
    StoredRating,
    Tombstone,
    now,
)

ERASED_PER_STEP = 200
PERSON = "person"
"""The reason of a tombstone of somebody, not of a photo."""


def open_store(url: str, *, is_embedded: bool) -> "RatingsStore":
    """The ratings store. An embedded database is brought up to date; a shared one is not touched unasked.

    Raises:
        DatabaseError: it does not answer, or `captionloop database upgrade` is needed first.
    """
    if is_embedded:
        database.upgrade(url)
    return RatingsStore(url)


class RatingsStore:
    """Captions and ratings in a database. Writes go through one group-committing writer per process.

    A write returns a future: when it is done, the change is on the disk. Reads block; call them from a
    thread.
    """

    def __init__(self, url: str) -> None:
        self._engine = database.open_engine(url, pool_size=1, deadlines=True)
        self._reader = database.open_reader(url, deadlines=True)
        self._writer = GroupWriter(self._engine)
        self.ledger = Ledger(self._reader, self._writer)

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

    def record(self, served: ServedCaption, claim: Claim | None = None) -> "Future[None]":
        """Remember a caption that is about to be served, under the claim of a request that may be repeated
        if there is one; its photo is pending no more.
        """
        row = caption_row(served, claim)
        return self._writer.submit_row(insert_captions, row, locks=("1 photo", served.photo.sha256))

    def rate(
        self, caption_id: str, rater: str, given: RatingInput, block: str | None = None
    ) -> "Future[StoredRating | None]":
        """Store a rating, in place of the rater's earlier one; `None` if there is no such caption, or it is
        shown to others and not to this rater. `block` is that of the rater's address (`networks.py`).
        """
        moment = now()
        rating = {
            "caption_id": caption_id,
            "rater": rater,
            "stars": given.stars,
            "correction": given.correction,
            "comment": given.comment,
            "created_at": moment,
            "updated_at": moment,
        }

        def operation(connection: Connection) -> StoredRating | None:
            statements = statements_for(connection.dialect.name)
            key = {"of_caption": caption_id, "by_rater": rater}
            if connection.execute(statements.may_rate, key).first() is None:
                return None
            before = connection.execute(statements.read_rating, key).first()
            network = None if block is None else network_name(connection, block)
            connection.execute(statements.upsert_rating, rating | {"network": network})
            stored = StoredRating(*connection.execute(statements.read_rating, key).one())
            changed = stored.updated_at == moment  # the same opinion again changes nothing
            return replace(
                stored,
                is_new=stored.created_at == moment,
                adds_correction=changed
                and stored.correction is not None
                and (before is None or before.correction is None),
            )

        return self._writer.submit(operation, locks=("2 rating", caption_id, rater))

    def withdraw(self, caption_id: str, rater: str) -> "Future[bool]":
        """Erase the rating of a caption by a rater; whether there was one."""
        condition = (Rating.caption_id == caption_id) & (Rating.rater == rater)

        def operation(connection: Connection) -> bool:
            return _withdraw(connection, condition, limit=1) > 0

        return self._writer.submit(operation, locks=("2 rating", caption_id, rater))

    def erase(self, caption_id: str, *, owner: str | None) -> "Future[list[str] | None]":
        """Erase a caption and its ratings.

        Args:
            caption_id: which.
            owner: whose it must be; `None` for an administrator.

        Returns:
            The photos that nothing refers to any more, to be removed from the archive; `None` if there is no
            such caption.
        """
        condition = Caption.caption_id == caption_id
        if owner is not None:
            condition &= Caption.owner == owner
        return self._writer.submit(
            lambda connection: _erase(connection, condition, "asked for"), locks=("3 erasure", caption_id)
        )

    def erase_person(self, rater: str) -> "Future[list[str] | None]":
        """Erase up to `ERASED_PER_STEP` of a person's own captions, at last what they said of others'.

        Returns:
            The photos to remove from the archive; `None` once nothing of this person is left.
        """

        def operation(connection: Connection) -> list[str] | None:
            erased = _erase(connection, Caption.owner == rater, "asked for")
            connection.execute(delete(Offer).where(Offer.rater == rater))
            if erased is None and _withdraw(connection, Rating.rater == rater, limit=ERASED_PER_STEP):
                return []
            if erased is None:
                _add_person_tombstone(connection, rater)
            return erased

        return self._writer.submit(operation, locks=("3 erasure", rater))

    def erase_photo(self, sha256: str) -> "Future[list[str] | None]":
        """Erase up to `ERASED_PER_STEP` captions of a photo, named as it is kept or as it was sent, whoever
        owns them.

        Returns:
            The photos to remove from the archive; `None` once no caption shows it.
        """
        condition = (Caption.photo_sha256 == sha256) | (Caption.sent_sha256 == sha256)
        return self._writer.submit(
            lambda connection: _erase(connection, condition, "asked for"), locks=("3 erasure", sha256)
        )

    def expire(self, *, unrated: timedelta, rated: timedelta) -> "Future[list[str] | None]":
        """Erase up to `ERASED_PER_STEP` captions that are past their retention; the photos to remove with
        them, `None` once there are no such captions.

        Args:
            unrated: how long a caption is kept that nobody rated.
            rated: how long one is kept that somebody did; and offers, and what was said of gold items, which
                stay themselves.
        """
        has_rating = exists().where(Rating.caption_id == Caption.caption_id)
        expired = (~has_rating & (Caption.created_at < now() - unrated)) | (
            Caption.created_at < now() - rated
        )
        gold = select(Caption.caption_id).where(Caption.owner == CORPUS)
        old_gold_ratings = Rating.caption_id.in_(gold) & (Rating.updated_at < now() - rated)

        def operation(connection: Connection) -> list[str] | None:
            forget_salts(connection)
            connection.execute(delete(Offer).where(Offer.offered_at < now() - rated))
            if _withdraw(connection, old_gold_ratings, limit=ERASED_PER_STEP):
                return []
            return _erase(connection, expired & (Caption.owner != CORPUS), "retention")

        return self._writer.submit(operation)

    def find(self, caption_id: str) -> ServedCaption | None:
        """The caption as it was served."""
        with Session(self._reader) as session:
            row = session.get(Caption, caption_id)
            photo = session.get(Photo, row.photo_sha256) if row else None
            return _served(row, photo) if row and photo else None

    def gold_photos(self) -> set[str]:
        """The photos of the corpus, by their names there, that are shown as gold items."""
        with self._reader.connect() as connection:
            query = select(Caption.sent_sha256).where(Caption.owner == CORPUS)
            return {sha256 for sha256 in connection.scalars(query) if sha256 is not None}

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
        query = (
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
            query = query.where(older | ((Caption.created_at == moment) & (Caption.caption_id < last)))
        with Session(self._reader) as session:
            return [
                (_served(caption, photo), None if rating is None else _stored(rating))
                for caption, photo, rating in session.execute(query)
            ]

    def rating(self, caption_id: str, rater: str) -> StoredRating | None:
        """What this rater said about this caption."""
        with self._reader.connect() as connection:
            statements = statements_for(connection.dialect.name)
            row = connection.execute(
                statements.read_rating, {"of_caption": caption_id, "by_rater": rater}
            ).first()
            return None if row is None else StoredRating(*row)


def _erase(connection: Connection, condition: ColumnElement[bool], reason: str) -> list[str] | None:
    """Up to `ERASED_PER_STEP` captions, their ratings (by the foreign key), and photos that are left alone.

    Returns those photos; None where there are no such captions.
    """
    statements = statements_for(connection.dialect.name)
    ids = connection.scalars(select(Caption.caption_id).where(condition).limit(ERASED_PER_STEP)).all()
    removed = connection.execute(
        delete(Caption)
        .where(Caption.caption_id.in_(ids))
        .returning(Caption.caption_id, Caption.owner, Caption.photo_sha256, Caption.sent_sha256)
    ).all()
    if not removed:
        return None
    unreferenced = ~exists().where(Caption.photo_sha256 == Photo.sha256)
    shown = {row.photo_sha256 for row in removed}
    photos = connection.scalars(
        delete(Photo).where(Photo.sha256.in_(shown), unreferenced).returning(Photo.sha256)
    ).all()
    moment = now()
    for sha256 in photos:
        connection.execute(statements.upsert_erasure, {"sha256": sha256, "erased_at": moment})
    rows = []
    for caption_id, owner, sha256, sent_sha256 in removed:
        done = None if sha256 in photos else moment  # another caption shows it
        rows.append(
            _photo_done(done)
            | {
                "reason": reason,
                "caption_id": caption_id,
                "person": owner,
                "photo_sha256": sha256,
                "sent_sha256": sent_sha256,
                "erased_at": moment,
            }
        )
    connection.execute(insert(Tombstone), rows)
    return list(photos)


def _withdraw(connection: Connection, condition: ColumnElement[bool], *, limit: int) -> int:
    """Up to `limit` ratings; how many there were."""
    ids = select(Rating.rating_id).where(condition).limit(limit)
    withdrawn = connection.execute(
        delete(Rating).where(Rating.rating_id.in_(ids)).returning(Rating.caption_id, Rating.rater)
    ).all()
    if not withdrawn:
        return 0
    rated = {row.caption_id for row in withdrawn}
    photos = dict(
        connection.execute(
            select(Caption.caption_id, Caption.photo_sha256).where(Caption.caption_id.in_(rated))
        )
        .tuples()
        .all()
    )
    moment = now()
    # The photo stays: its caption is another's.
    rows = [
        _photo_done(moment)
        | {
            "reason": "withdrawn",
            "caption_id": caption,
            "person": rater,
            "photo_sha256": photos[caption],
            "erased_at": moment,
        }
        for caption, rater in withdrawn
    ]
    connection.execute(insert(Tombstone), rows)
    return len(rows)


def _add_person_tombstone(connection: Connection, rater: str) -> None:
    """Add one tombstone for a person, unless one of theirs still waits for the folders of runs."""
    conditions = (Tombstone.person == rater, Tombstone.runs_done_at.is_(None))
    reasons = set(connection.scalars(select(Tombstone.reason).where(*conditions).distinct()))
    if reasons and PERSON not in reasons:
        row = {"reason": PERSON, "person": rater, "erased_at": now()}
        connection.execute(insert(Tombstone), row | _photo_done(now()))


def _photo_done(moment: datetime | None) -> dict[str, object]:
    """The columns that say since when the photo of a tombstone needs no removal; None: it does."""
    return {"archive_done_at": moment, "features_done_at": moment}


def _stored(row: Rating) -> StoredRating:
    return StoredRating(
        row.caption_id, row.stars, row.correction, row.comment, row.created_at, row.updated_at
    )


def _served(row: Caption, photo: Photo) -> ServedCaption:
    return ServedCaption(
        caption_id=row.caption_id, owner=row.owner, text=row.text, confidence=row.confidence, words=row.words,
        alternatives=row.alternatives, model_name=row.model_name, model_version=row.model_version,
        created_at=row.created_at, sent_sha256=row.sent_sha256,
        familiarity=row.familiarity, familiar=row.familiar, shared=row.shared, known_good=row.known_good,
        photo=PhotoFacts(photo.sha256, photo.media_type, photo.byte_count, photo.width, photo.height),
    )  # fmt: skip
