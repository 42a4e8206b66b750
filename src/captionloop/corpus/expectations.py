"""What a corpus must fulfil, as Great Expectations suites written in code.

The suites `photos`, `captions` and `corpus` look at what was read, in this order; each expectation names the
reason for which the rows that break it go to quarantine. The suites `released_images` and `released_captions`
look at the tables that are handed on, and must hold as a whole.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from captionloop.corpus.photo_checks import PhotoLimits, SimilarityLimits
from captionloop.corpus.tables import CAPTIONS, IMAGES, SPLITS

SuiteName = Literal["photos", "captions", "corpus", "released_images", "released_captions"]


class CorpusRules(BaseModel):
    """The numbers in the expectations; the parameters of `data_validation`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_side: int = Field(16, ge=1, description="px, of the shorter side")
    max_side: int = Field(20_000, ge=1, description="px, of the longer side")
    photo: PhotoLimits = PhotoLimits()
    min_words: int = Field(1, ge=1)
    max_words: int = Field(80, ge=1)
    max_characters: int = Field(600, ge=1)
    min_captions: int = Field(1, ge=1, description="per image")
    similarity: SimilarityLimits = SimilarityLimits()
    duplicates_in_split: Literal["keep", "quarantine"] = "keep"


class CorpusIssue:
    """Why a row is in quarantine."""

    AMBIGUOUS_IMAGE_ID: Final = "its id names several photos"
    DUPLICATE_IMAGE_ID: Final = "another image has this id"
    UNKNOWN_SPLIT: Final = "its split is none of train, val, test"
    PHOTO_MISSING: Final = "the photo does not exist"
    PHOTO_TOO_HEAVY: Final = "the photo's file is too large"
    PHOTO_TOO_MANY_PIXELS: Final = "the photo takes more to decode than is allowed"
    PHOTO_UNDECODABLE: Final = "the photo cannot be decoded"
    PHOTO_TOO_SMALL: Final = "the photo's shorter side is too short"
    PHOTO_TOO_LONG: Final = "the photo's longer side is too long"
    DUPLICATE_CAPTION_ID: Final = "another caption has this id"
    REPEATED_ROW: Final = "its row is a repeated row"
    NOT_TEXT: Final = "the caption is not text"
    EMPTY: Final = "the caption is empty"
    TOO_SHORT: Final = "the caption has too few words"
    TOO_LONG: Final = "the caption is too long"
    NO_PHOTO: Final = "the caption names a photo that does not exist"
    NO_IMAGE: Final = "the caption's image is in no split"
    IMAGE_REJECTED: Final = "its image is in quarantine"
    DUPLICATE_ELSEWHERE: Final = "the same photo is in another split"
    DUPLICATE_HERE: Final = "the same photo is earlier in the same split"
    TOO_FEW_CAPTIONS: Final = "the image has too few captions"


DUPLICATE_REASONS: Final = (CorpusIssue.DUPLICATE_ELSEWHERE, CorpusIssue.DUPLICATE_HERE)


@dataclass(frozen=True)
class Suite:
    """A named list of Great Expectations' `Expectation` objects."""

    name: str
    expectations: tuple[Any, ...]


def suites(rules: CorpusRules) -> Mapping[SuiteName, Suite]:
    """Every suite by name."""
    makers: Mapping[SuiteName, Callable[[CorpusRules], tuple[Any, ...]]] = {
        "photos": _photos,
        "captions": _captions,
        "corpus": _corpus,
        "released_images": _released_images,
        "released_captions": _released_captions,
    }
    return {name: Suite(name, make(rules)) for name, make in makers.items()}


def _gx_classes() -> Any:
    """Great Expectations' classes, imported where they are needed: it takes a second."""
    from great_expectations import expectations

    return expectations


def _because(reason: str) -> dict[str, Any]:
    return {"meta": {"reason": reason}, "description": f"no row where {reason}"}


def _is(column: str, value: object, reason: str) -> Any:
    return _gx_classes().ExpectColumnValuesToBeInSet(column=column, value_set=[value], **_because(reason))


def _within(column: str, low: float | None, high: float | None, reason: str) -> Any:
    return _gx_classes().ExpectColumnValuesToBeBetween(
        column=column, min_value=low, max_value=high, **_because(reason)
    )


def _photos(rules: CorpusRules) -> tuple[Any, ...]:
    return (
        _is("ambiguous", False, CorpusIssue.AMBIGUOUS_IMAGE_ID),
        _is("occurrence", 0, CorpusIssue.DUPLICATE_IMAGE_ID),
        _gx_classes().ExpectColumnValuesToBeInSet(
            column="split", value_set=list(SPLITS), **_because(CorpusIssue.UNKNOWN_SPLIT)
        ),
        _is("missing", False, CorpusIssue.PHOTO_MISSING),
        _is("too_heavy", False, CorpusIssue.PHOTO_TOO_HEAVY),
        _is("too_many_pixels", False, CorpusIssue.PHOTO_TOO_MANY_PIXELS),
        _is("undecodable", False, CorpusIssue.PHOTO_UNDECODABLE),
        _within("shorter_side", rules.min_side, None, CorpusIssue.PHOTO_TOO_SMALL),
        _within("longer_side", None, rules.max_side, CorpusIssue.PHOTO_TOO_LONG),
    )


def _captions(rules: CorpusRules) -> tuple[Any, ...]:
    return (
        _is("photo_exists", True, CorpusIssue.NO_PHOTO),
        _is("image_listed", True, CorpusIssue.NO_IMAGE),
        _is("image_good", True, CorpusIssue.IMAGE_REJECTED),
        _is("occurrence", 0, CorpusIssue.DUPLICATE_CAPTION_ID),
        _is("repeated", False, CorpusIssue.REPEATED_ROW),
        _is("empty", False, CorpusIssue.EMPTY),
        _is("is_text", True, CorpusIssue.NOT_TEXT),
        _within("words", rules.min_words, None, CorpusIssue.TOO_SHORT),
        _within("words", None, rules.max_words, CorpusIssue.TOO_LONG),
        _within("characters", None, rules.max_characters, CorpusIssue.TOO_LONG),
    )


def _corpus(rules: CorpusRules) -> tuple[Any, ...]:
    duplicates = [_is("duplicate_elsewhere", "", CorpusIssue.DUPLICATE_ELSEWHERE)]
    if rules.duplicates_in_split == "quarantine":
        duplicates.append(_is("duplicate_here", "", CorpusIssue.DUPLICATE_HERE))
    return *duplicates, _within("captions", rules.min_captions, None, CorpusIssue.TOO_FEW_CAPTIONS)


def _released_images(rules: CorpusRules) -> tuple[Any, ...]:
    gxe = _gx_classes()
    return (
        gxe.ExpectTableColumnsToMatchOrderedList(column_list=list(IMAGES)),
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectColumnValuesToBeUnique(column="image_id"),
        *(gxe.ExpectColumnValuesToNotBeNull(column=column) for column in IMAGES),
        gxe.ExpectColumnValuesToMatchRegex(column="sha256", regex="^[0-9a-f]{64}$"),
        gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(SPLITS)),
        gxe.ExpectColumnValuesToBeInSet(column="source", value_set=["corpus", "feedback"]),
        gxe.ExpectColumnValuesToBeBetween(column="width", min_value=rules.min_side, max_value=rules.max_side),
        gxe.ExpectColumnValuesToBeBetween(
            column="height", min_value=rules.min_side, max_value=rules.max_side
        ),
    )


def _released_captions(rules: CorpusRules) -> tuple[Any, ...]:
    gxe = _gx_classes()
    return (
        gxe.ExpectTableColumnsToMatchOrderedList(column_list=list(CAPTIONS)),
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectColumnValuesToBeUnique(column="caption_id"),
        *(gxe.ExpectColumnValuesToNotBeNull(column=column) for column in CAPTIONS),
        gxe.ExpectColumnValueLengthsToBeBetween(column="text", min_value=1, max_value=rules.max_characters),
        gxe.ExpectColumnValuesToBeInSet(column="source", value_set=["human", "correction", "approved"]),
        gxe.ExpectColumnValuesToBeBetween(column="weight", min_value=0, strict_min=True),
    )
