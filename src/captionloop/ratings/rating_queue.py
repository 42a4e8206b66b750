"""Which caption somebody is shown next to rate: one whose owner agreed to that, or a gold item.

Gold items are captions of the corpus's photos, good and bad ones, of which it is known which they are. By
them people become known to curation (`feedback/rater_reliability.py`), so somebody who is not known yet gets
one every other time, and everybody now and then. Nothing tells them from others.
"""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlalchemy import ColumnElement, Connection, Engine, Select, exists, func, select, update
from sqlalchemy.exc import DBAPIError

from captionloop.ratings.database import insert_into, unreachable
from captionloop.ratings.group_commit import GroupWriter
from captionloop.ratings.rating_tables import KEY, Caption, Offer, Photo, Rating, now
from captionloop.ratings.usage_statistics import known_raters

UNKNOWN_RATER_SHARE: Final = 0.5
"""Of what somebody is shown who is not known yet, at least so much are gold items."""
NEWEST_CONSIDERED: Final = 200
"""So many of the newest captions that others agreed to show are looked at for the one to rate next."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What somebody is shown to rate: a caption and its photo (size in pixels)."""

    caption_id: str
    text: str
    photo_sha256: str
    media_type: str
    width: int
    height: int


_OfferQuery: TypeAlias = "Select[str, str, str, str, int, int]"
_OFFERED = (
    Caption.caption_id,
    Caption.text,
    Caption.photo_sha256,
    Photo.media_type,
    Photo.width,
    Photo.height,
)


class RatingQueue:
    """What there is to rate for whom. Reads block; writes return futures.

    Args:
        reader: engine of the ratings database.
        writer: its writer.
        gold_share: of what somebody is shown who is known; 0: no gold items, for nobody.
        chance: evenly distributed over 0 to 1.
    """

    def __init__(
        self,
        reader: Engine,
        writer: GroupWriter,
        gold_share: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._gold_share = gold_share
        self._chance = chance

    def following(self, rater: str) -> Offered | None:
        """The offer that a rater has neither rated nor skipped, else a new one; None if there is nothing.

        A new one must be stored (`offer`) before it is shown.
        """
        try:
            with self._reader.connect() as connection:
                return self._open(connection, rater) or self._new(connection, rater)
        except DBAPIError as error:
            raise unreachable(error) from error

    def offer(self, caption_id: str, rater: str) -> "Future[bool]":
        """Let a rater see and rate a caption; whether it is still there."""

        def operation(connection: Connection) -> bool:
            still = select(Caption.caption_id).where(Caption.caption_id == caption_id, Caption.shared)
            if connection.execute(still).first() is None:
                return False
            row = insert_into(connection.dialect.name, Offer).values(
                caption_id=caption_id, rater=rater, offered_at=now()
            )
            connection.execute(row.on_conflict_do_nothing(index_elements=["caption_id", "rater"]))
            return True

        return self._writer.submit(operation, locks=("2 rating", caption_id, rater))

    def skip(self, caption_id: str, rater: str) -> "Future[None]":
        """Note that a rater does not want to rate what they were shown: they are not shown it again."""
        conditions = (Offer.caption_id == caption_id, Offer.rater == rater)
        skipped = update(Offer).where(*conditions).values(skipped_at=now())

        def operation(connection: Connection) -> None:
            connection.execute(skipped)

        return self._writer.submit(operation, locks=("2 rating", caption_id, rater))

    def shown(self, caption_id: str, rater: str) -> Offered | None:
        """The caption with this id if it was offered to this rater; None if not, or if it is erased."""
        query = _with_photo().join(Offer, Offer.caption_id == Caption.caption_id)
        query = query.where(Offer.caption_id == caption_id, Offer.rater == rater)
        try:
            with self._reader.connect() as connection:
                return _first(connection, query)
        except DBAPIError as error:
            raise unreachable(error) from error

    def _open(self, connection: Connection, rater: str) -> Offered | None:
        query = _with_photo().join(Offer, Offer.caption_id == Caption.caption_id)
        query = query.where(Offer.rater == rater, Offer.skipped_at.is_(None), ~_rated_by(rater))
        return _first(connection, query.order_by(Offer.offered_at).limit(1))

    def _new(self, connection: Connection, rater: str) -> Offered | None:
        known = rater.startswith(KEY) or _is_known(connection, rater)
        share = (
            self._gold_share if known or not self._gold_share else max(self._gold_share, UNKNOWN_RATER_SHARE)
        )
        if self._chance() < share:
            return self._gold(connection, rater) or self._of_others(connection, rater)
        found = self._of_others(connection, rater)
        return found if found or known or not share else self._gold(connection, rater)

    def _gold(self, connection: Connection, rater: str) -> Offered | None:
        """A gold item that a rater was not shown yet, good and bad ones in turn."""
        counts = dict.fromkeys((True, False), 0)
        shown = select(Caption.known_good, func.count()).join(Offer, Offer.caption_id == Caption.caption_id)
        shown = shown.where(Offer.rater == rater, Caption.known_good.is_not(None))
        counts |= {bool(good): n for good, n in connection.execute(shown.group_by(Caption.known_good))}
        for kind in sorted(counts, key=lambda good: (counts[good], self._chance())):
            remaining = select(Caption.caption_id).where(
                Caption.known_good.is_(kind), Caption.shared, ~_shown_to(rater)
            )
            ids = connection.scalars(remaining.order_by(Caption.sent_sha256)).all()
            if ids:
                return self._one_of(connection, ids)
        return None

    def _of_others(self, connection: Connection, rater: str) -> Offered | None:
        """A caption of somebody else who agreed to show the photo: of the newest, one that nobody corrected,
        and of these one with the fewest ratings.
        """
        conditions = (Caption.shared, Caption.known_good.is_(None), Caption.owner != rater)
        newest = select(Caption.caption_id).where(*conditions, ~_shown_to(rater), ~_rated_by(rater))
        newest = newest.order_by(Caption.created_at.desc(), Caption.caption_id).limit(NEWEST_CONSIDERED)
        query = select(Caption.caption_id, func.count(Rating.correction), func.count(Rating.rating_id))
        query = query.outerjoin(Rating, Rating.caption_id == Caption.caption_id)
        query = query.where(Caption.caption_id.in_(newest)).group_by(Caption.caption_id)
        counts = {name: (corrected > 0, rated) for name, corrected, rated in connection.execute(query)}
        if not counts:
            return None
        fewest = min(counts.values())
        return self._one_of(connection, sorted(name for name, count in counts.items() if count == fewest))

    def _one_of(self, connection: Connection, ids: Sequence[str]) -> Offered | None:
        chosen = ids[min(int(self._chance() * len(ids)), len(ids) - 1)]
        return _first(connection, _with_photo().where(Caption.caption_id == chosen))


def _is_known(connection: Connection, rater: str) -> bool:
    """Whether a rater was right about a good and a bad gold item, as curation asks by default."""
    return connection.execute(known_raters(2).where(Rating.rater == rater)).first() is not None


def _with_photo() -> "_OfferQuery":
    return select(*_OFFERED).join(Photo, Photo.sha256 == Caption.photo_sha256)


def _first(connection: Connection, query: "_OfferQuery") -> Offered | None:
    row = connection.execute(query).first()
    return None if row is None else Offered(*row)


def _shown_to(rater: str) -> ColumnElement[bool]:
    return exists().where(Offer.caption_id == Caption.caption_id, Offer.rater == rater)


def _rated_by(rater: str) -> ColumnElement[bool]:
    return exists().where(Rating.caption_id == Caption.caption_id, Rating.rater == rater)
