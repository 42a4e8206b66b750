"""What goes into the ratings database and comes out of it."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from captionloop.feedback.models import now

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
    `familiar` say whether the photo looked like what the model learnt from, where it knew that.
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


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a rater says about a caption: 1 to 5 stars, and perhaps a better caption and a comment."""

    stars: int
    correction: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class StoredRating:
    """An opinion that is on the disk.

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
