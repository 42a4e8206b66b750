"""The statements that every caption and every rating runs, built once:
building them anew costs more than running them.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import (
    BigInteger,
    Delete,
    Insert,
    Select,
    Update,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from captionloop.feedback.models import Base, Caption, Erasure, PendingPhoto, Photo, Rating, Tombstone


@dataclass(frozen=True, slots=True)
class Statements:
    """Parameters are the columns' names; `of_caption`, `by_rater` and `photo` say which row is meant,
    `moment` when.
    """

    keep_photo: Insert
    forget_erasure: Delete
    spare_photo: Update
    share_photo: "Select[None] | None"
    seize_photo: "Select[bool] | None"
    keep_pending: Insert
    leases: "Select[datetime | None]"
    keep_caption: Insert
    pending_no_more: Delete
    caption_exists: "Select[str]"
    keep_rating: Insert
    read_rating: "Select[str, int, str | None, str | None, datetime, datetime]"
    keep_erasure: Insert


@cache
def statements_for(dialect: str) -> Statements:
    """In the dialect of `sqlite` or `postgresql`, for both know `ON CONFLICT`."""
    photo, rating, erasure = (_insert(dialect, table) for table in (Photo, Rating, Erasure))
    of_rating = (Rating.caption_id == bindparam("of_caption"), Rating.rater == bindparam("by_rater"))
    key, several = bindparam("key", type_=BigInteger), dialect == "postgresql"
    return Statements(
        # A row that is there is not touched: everybody who captions this photo would wait for its lock in
        # turn. The caption's foreign key holds it, shared; if it was erased in between, the caption fails and
        # is done again.
        keep_photo=photo.on_conflict_do_nothing(index_elements=["sha256"]),
        forget_erasure=delete(Erasure).where(Erasure.sha256 == bindparam("photo")),
        # Its tombstones have nothing left to do in archive and feature store: a caption shows it again.
        spare_photo=update(Tombstone)
        .where(Tombstone.photo_sha256 == bindparam("photo"), Tombstone.archive_done_at.is_(None))
        .values(
            archive_done_at=bindparam("moment"),
            features_done_at=bindparam("moment"),
            leased_by=None,
            leased_until=None,
        ),
        # Only PostgreSQL lets several transactions write at a time.
        share_photo=select(func.pg_advisory_xact_lock_shared(key)) if several else None,
        seize_photo=select(func.pg_try_advisory_xact_lock(key)) if several else None,
        keep_pending=insert(PendingPhoto),
        leases=select(Tombstone.leased_until).where(
            Tombstone.photo_sha256 == bindparam("photo"), Tombstone.archive_done_at.is_(None)
        ),
        keep_caption=insert(Caption),
        pending_no_more=delete(PendingPhoto).where(PendingPhoto.caption_id == bindparam("of_caption")),
        caption_exists=select(Caption.caption_id).where(Caption.caption_id == bindparam("of_caption")),
        keep_rating=rating.on_conflict_do_update(
            index_elements=["caption_id", "rater"],
            set_={name: rating.excluded[name] for name in ("stars", "correction", "comment", "updated_at")},
            # The same opinion again is no change: its time stays, so a repeated request is idempotent.
            where=(
                (Rating.stars != rating.excluded.stars)
                | Rating.correction.is_distinct_from(rating.excluded.correction)
                | Rating.comment.is_distinct_from(rating.excluded.comment)
            ),
        ),
        read_rating=select(
            Rating.caption_id,
            Rating.stars,
            Rating.correction,
            Rating.comment,
            Rating.created_at,
            Rating.updated_at,
        ).where(*of_rating),
        keep_erasure=erasure.on_conflict_do_update(
            index_elements=["sha256"], set_={"erased_at": erasure.excluded.erased_at}
        ),
    )


def _insert(dialect: str, table: type[Base]) -> "postgresql.Insert | sqlite.Insert":
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
