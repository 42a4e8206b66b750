"""The tables of the ratings database, and the records that go in and come out.

Text is kept as it was given (it is data, never markup), times are UTC, and a photo is named by the SHA-256 of
its bytes. A change here needs a migration in `migrations/versions/`; `tests/unit/ratings/test_database.py`
compares the two.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def now() -> datetime:
    """The present moment in UTC, to the microsecond."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC: SQLite forgets time zones, so they are taken off going in and put back coming out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC; SQLite gets it without the offset, so that its own date functions can read it."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """What comes out is aware, whichever database it was in."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """All tables of the ratings database."""


class Photo(Base):
    """A photo that was captioned; its bytes, without metadata, are in the photo archive under
    `sha256`.
    """

    __tablename__ = "photos"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    media_type: Mapped[str] = mapped_column(String(40))
    byte_count: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


KEY = "key:"
"""How the names of raters with an API key begin."""
CORPUS = "corpus"
"""The owner of captions of the corpus's photos, which are shown to find out who can be believed."""


class Caption(Base):
    """A caption that was served: only these can be rated."""

    __tablename__ = "captions"
    __table_args__ = (Index("ix_captions_shared_created_at", "shared", "created_at"),)

    caption_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    photo_sha256: Mapped[str] = mapped_column(ForeignKey("photos.sha256"), index=True)
    sent_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    """Of the photo as it was sent, with its metadata: so the corpus may know it, and so do people."""
    owner: Mapped[str] = mapped_column(String(80), index=True)
    text: Mapped[str] = mapped_column(Text)
    confidence: Mapped[float] = mapped_column(Float)
    words: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    alternatives: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    model_name: Mapped[str] = mapped_column(String(80))
    model_version: Mapped[str] = mapped_column(String(80), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)
    embedding: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The photo in 32 float16 (`vision/embedding.py`), by which drift is noticed; erased with the caption."""
    familiarity: Mapped[float | None] = mapped_column(Float)
    familiar: Mapped[bool | None] = mapped_column(Boolean)
    """Whether the photo looked like what the model learnt from (`vision/embedding.py`), where it knew."""
    shared: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    """Whoever sent the photo agreed that others see it to rate its caption."""
    known_good: Mapped[bool | None] = mapped_column(Boolean)
    """Of a gold item: whether it is a good one."""


class Offer(Base):
    """A caption that somebody was shown to rate: they may see its photo and rate it, and nobody else."""

    __tablename__ = "offers"

    caption_id: Mapped[str] = mapped_column(
        ForeignKey("captions.caption_id", ondelete="CASCADE"), primary_key=True
    )
    rater: Mapped[str] = mapped_column(String(80), primary_key=True, index=True)
    offered_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    skipped_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class NetworkSalt(Base):
    """What names of networks are made with on one day (`networks.py`)."""

    __tablename__ = "network_salts"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    salt: Mapped[str] = mapped_column(String(64))


class Rating(Base):
    """What one rater thinks of one caption; rating again replaces it."""

    __tablename__ = "ratings"
    __table_args__ = (
        UniqueConstraint("caption_id", "rater", name="uq_ratings_caption_id_rater"),
        CheckConstraint("stars BETWEEN 1 AND 5", name="ck_ratings_stars"),
    )

    rating_id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    caption_id: Mapped[str] = mapped_column(ForeignKey("captions.caption_id", ondelete="CASCADE"))
    rater: Mapped[str] = mapped_column(String(80), index=True)
    stars: Mapped[int] = mapped_column(Integer)
    correction: Mapped[str | None] = mapped_column(Text)
    comment: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)
    network: Mapped[str | None] = mapped_column(String(32))
    """Whom it came from, as it is named on that day; None of a key and of an address that is not public."""


class Erasure(Base):
    """A photo that somebody asked to erase: later runs drop what they have derived from it."""

    __tablename__ = "erasures"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    erased_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class PendingPhoto(Base):
    """A photo that is about to be written to the archive: the row is there before the file, and is gone in
    the transaction that makes its caption. One that stays was abandoned.
    """

    __tablename__ = "pending_photos"

    caption_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    photo_sha256: Mapped[str] = mapped_column(String(64), index=True)
    begun_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)


class Tombstone(Base):
    """Something that was erased from this database, and since when it is gone from elsewhere as well.

    Every erasure has rows of its own, so that erasing locks nothing that others want.
    """

    __tablename__ = "tombstones"

    tombstone_id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    reason: Mapped[str] = mapped_column(String(20))
    caption_id: Mapped[str | None] = mapped_column(String(32), index=True)
    person: Mapped[str | None] = mapped_column(String(80), index=True)
    """Whose the caption, or the rating, was."""
    photo_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    """None where the person was erased, of whom tables of runs may tell."""
    sent_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    erased_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)
    archive_done_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    features_done_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    runs_done_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    leased_by: Mapped[str | None] = mapped_column(String(32))
    """Who is removing the photo from the archive at present."""
    leased_until: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ApiKey(Base):
    """An API key, of which only the SHA-256 of the secret is kept."""

    __tablename__ = "api_keys"

    key_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    secret_sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """To the minute or so: written now and then, not at every use."""


class RepeatableRequest(Base):
    """A request with an `Idempotency-Key`, for a day (`idempotency_store.py`)."""

    __tablename__ = "repeatable_requests"

    name_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Of caller and key together."""
    content_sha256: Mapped[str] = mapped_column(String(64))
    holder: Mapped[str] = mapped_column(String(32))
    held_until: Mapped[datetime] = mapped_column(UtcDateTime)
    caption_id: Mapped[str | None] = mapped_column(String(32))
    """What came of it; no foreign key: that it was erased is remembered."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)


CORRECTION_LENGTH = 500
COMMENT_LENGTH = 2000

_LINE_BREAKS = re.compile(r"\r\n?|\n")


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """What is known of a photo apart from its bytes; width and height as it is seen upright, in pixels."""

    sha256: str
    media_type: str
    byte_count: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class ServedCaption:
    """A caption as it was served, by which model, to whom; and its photo in 32 numbers, where known.

    `sent_sha256` is that of the photo's bytes before its metadata were taken out; `familiarity` and
    `familiar` say whether the photo looked like what the model learnt from, where it knew that; `shared`,
    whether others may see it to rate it; `known_good`, of a gold item, whether it is a good one.
    """

    caption_id: str
    owner: str
    photo: PhotoFacts
    text: str
    confidence: float
    words: list[dict[str, Any]]
    alternatives: list[dict[str, Any]]
    model_name: str
    model_version: str
    created_at: datetime = field(default_factory=now)
    embedding: Sequence[float] | None = None
    sent_sha256: str | None = None
    familiarity: float | None = None
    familiar: bool | None = None
    shared: bool = False
    known_good: bool | None = None


@dataclass(frozen=True, slots=True)
class RatingInput:
    """What a rater says about a caption: 1 to 5 stars, and perhaps a better caption and a comment."""

    stars: int
    correction: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class StoredRating:
    """A rating as it is stored.

    `is_new` and `adds_correction` say what the request that it answers has changed, for counting.
    """

    caption_id: str
    stars: int
    correction: str | None
    comment: str | None
    created_at: datetime
    updated_at: datetime
    is_new: bool = field(default=False, compare=False)
    adds_correction: bool = field(default=False, compare=False)


def clean_line(text: str) -> str | None:
    """One line of text, NFC, outer and repeated white space removed; `None` if nothing is left.

    Raises:
        ValueError: it holds characters that are not text (controls, lone surrogates, unassigned direction
        marks).
    """
    return _cleaned(" ".join(_LINE_BREAKS.sub(" ", text).split()))


def clean_prose(text: str) -> str | None:
    """As `clean_line`, but line breaks stay.

    Raises:
        ValueError: it holds characters that are not text.
    """
    return _cleaned("\n".join(line.strip() for line in _LINE_BREAKS.split(text)).strip())


def _cleaned(text: str) -> str | None:
    normal = unicodedata.normalize("NFC", text)
    for character in normal:
        if character != "\n" and unicodedata.category(character) in {"Cc", "Cs"}:
            raise ValueError(f"must not hold control characters (found U+{ord(character):04X})")
    return normal or None
