"""Ratings in; those that break a rule, with the reason, out: a Great Expectations suite and the photos' own
checks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pandas as pd

from captionloop.corpus.expectations import Suite
from captionloop.corpus.gx_runner import ROW, ExpectationRunner, Section, site, with_index
from captionloop.corpus.photo_checks import PhotoState, inspect_photo
from captionloop.feedback.feedback_parameters import FeedbackParameters
from captionloop.photos import PhotoFolder, archive_uri
from captionloop.ratings.rating_tables import CORRECTION_LENGTH, now


class RatingIssue:
    """Why a rating is quarantined, as the report and the Data Docs say it."""

    STARS: Final = "its stars are not 1 to 5"
    NO_RATER: Final = "nobody is named as its rater"
    NO_CAPTION: Final = "the caption it is about is empty"
    NO_PHOTO: Final = "its photo is not named by a SHA-256"
    TWICE: Final = "another rating has its number"
    TOO_LONG: Final = "its correction is too long"
    TIME: Final = "it was changed before it was given, or in the future"
    ERASED: Final = "its photo was erased"
    PHOTO_MISSING: Final = "its photo is not in the archive"
    PHOTO_BROKEN: Final = "its photo cannot be decoded, or is too large or too small"
    CAP: Final = "its rater had rated as much as one may in a day"
    BURST: Final = "it is one of many ratings given faster than a person can look"
    ABUSE: Final = "its correction holds a word of the list of abuse"
    NOT_A_CAPTION: Final = "its correction is no sentence about a photo"
    COPY: Final = "nearly the same correction, or one template, was given for too many photos"
    CONTRADICTION: Final = "it praises the caption, and corrects it to something that has nothing of it"
    UNKNOWN: Final = "its rater has not rated enough known photos rightly to be believed"
    UNRELIABLE: Final = "its rater disagrees with other people and with photos that are known"


SHORT_REASONS: Final = {
    RatingIssue.STARS: "with impossible stars",
    RatingIssue.NO_RATER: "of nobody",
    RatingIssue.NO_CAPTION: "about an empty caption",
    RatingIssue.NO_PHOTO: "about no photo",
    RatingIssue.TWICE: "with another's number",
    RatingIssue.TOO_LONG: "too long",
    RatingIssue.TIME: "of an impossible time",
    RatingIssue.ERASED: "about an erased photo",
    RatingIssue.PHOTO_MISSING: "whose photo is missing",
    RatingIssue.PHOTO_BROKEN: "whose photo cannot be used",
    RatingIssue.CAP: "beyond what one may rate in a day",
    RatingIssue.BURST: "faster than a person can look",
    RatingIssue.ABUSE: "abusive",
    RatingIssue.NOT_A_CAPTION: "no sentence about a photo",
    RatingIssue.COPY: "copied for many photos",
    RatingIssue.CONTRADICTION: "contradicting themselves",
    RatingIssue.UNKNOWN: "of people who are not known yet",
    RatingIssue.UNRELIABLE: "of raters who disagree with the others",
}
"""The same in a few words, for a sentence about how many there are."""

STRIKES: Final = (RatingIssue.BURST, RatingIssue.ABUSE, RatingIssue.NOT_A_CAPTION, RatingIssue.COPY)
"""What speaks against the rater, not only against the row."""


TITLE: Final = "Are these ratings fit to learn from?"


@dataclass(frozen=True)
class CheckedRatings:
    """Ratings that passed, those that failed with their `reason`, the findings, and the Data Docs."""

    good: pd.DataFrame
    bad: pd.DataFrame
    findings: list[dict[str, Any]]
    pages: Mapping[str, bytes]


def check_ratings(ratings: pd.DataFrame, erased: frozenset[str]) -> CheckedRatings:
    """Sorts ratings (columns of `RATINGS`) by the suite; a row has the first reason that it gives."""
    table = _with_facts(ratings, erased)
    with ExpectationRunner() as runner:
        findings = runner.run(Suite("ratings", _rules()), table) if len(table) else []
        pages = runner.pages()
    reasons: dict[int, str] = {}
    for finding in findings:
        for row in finding.rows:
            reasons.setdefault(row, finding.reason)
    reason = pd.Series([reasons.get(row, "") for row in range(len(ratings))], index=ratings.index, dtype=str)
    documents = [asdict(finding) | {"rows": len(finding.rows)} for finding in findings]
    bad = ratings[reason != ""].assign(reason=reason[reason != ""])
    return CheckedRatings(ratings[reason == ""], bad, documents, site(pages, TITLE, [], documents))


def feedback_docs(
    pages: Mapping[str, bytes], findings: Sequence[Mapping[str, Any]], report: Mapping[str, Any]
) -> dict[str, bytes]:
    """The Data Docs of ratings, with how many are used, and how many are in quarantine and why."""
    used = report["used"]
    quarantine = sorted(report["quarantined"].items(), key=lambda item: -item[1])
    accepted = report["ratings"] - sum(report["quarantined"].values())
    rows = [
        ["ratings", report["ratings"]],
        ["believed", accepted],
        ["new", report["new_ratings"]],
        ["new, and count", report["counted_ratings"]],
    ]
    sections = [
        Section("Read", ["", "rows"], rows, (f"{report['sentence']}.", f"{report['believed']}.")),
        Section("In quarantine", ["a rating is not believed where", "rows"], quarantine),
        Section("Used", ["", "rows"], [[str(what).replace("_", " "), count] for what, count in used.items()]),
    ]
    return with_index(pages, TITLE, sections, findings)


def _with_facts(ratings: pd.DataFrame, erased: frozenset[str]) -> pd.DataFrame:
    return ratings.assign(
        **{ROW: range(len(ratings))},
        occurrence=ratings.groupby("rating_id").cumcount(),
        erased=ratings["image_id"].isin(erased),
        rater_letters=ratings["rater"].str.strip().str.len(),
        caption_letters=ratings["text"].str.strip().str.len(),
        correction_letters=ratings["correction"].fillna("").astype(str).str.len(),
        in_order=(ratings["updated_at"] >= ratings["created_at"]) & (ratings["updated_at"] <= now()),
    ).drop(columns=["created_at", "updated_at", "correction", "sent_sha256", "network"])


def _expectations() -> Any:
    """Great Expectations' classes, imported where they are needed: it takes a second."""
    from great_expectations import expectations

    return expectations


def _rules() -> tuple[Any, ...]:
    gxe = _expectations()

    def because(reason: str) -> dict[str, Any]:
        return {"meta": {"reason": reason}, "description": f"no rating where {reason}"}

    return (
        gxe.ExpectColumnValuesToBeInSet(column="occurrence", value_set=[0], **because(RatingIssue.TWICE)),
        gxe.ExpectColumnValuesToBeBetween(
            column="stars", min_value=1, max_value=5, **because(RatingIssue.STARS)
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="rater_letters", min_value=1, **because(RatingIssue.NO_RATER)
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="caption_letters", min_value=1, **because(RatingIssue.NO_CAPTION)
        ),
        gxe.ExpectColumnValuesToMatchRegex(
            column="image_id", regex="^[0-9a-f]{64}$", **because(RatingIssue.NO_PHOTO)
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="correction_letters", max_value=CORRECTION_LENGTH, **because(RatingIssue.TOO_LONG)
        ),
        gxe.ExpectColumnValuesToBeInSet(column="in_order", value_set=[True], **because(RatingIssue.TIME)),
        gxe.ExpectColumnValuesToBeInSet(column="erased", value_set=[False], **because(RatingIssue.ERASED)),
    )


def inspect_rated_photos(
    ratings: pd.DataFrame, archive: PhotoFolder, parameters: FeedbackParameters
) -> pd.DataFrame:
    """One row for each photo of `ratings`: `sha256`, `width`, `height` (px), `good`, `missing`, `detail`.

    A photo is good where its bytes are those of its name, and can be decoded, and it is neither too large
    nor too small.
    """
    rows = []
    for sha256 in sorted(set(ratings["image_id"])):
        facts = inspect_photo(archive, archive_uri(sha256), parameters.photo)
        is_valid = facts.state == PhotoState.GOOD and facts.sha256 == sha256
        is_large = min(facts.width, facts.height) >= parameters.min_side
        detail = facts.detail or ("" if facts.sha256 == sha256 else "its bytes do not match its name")
        rows.append(
            {
                "sha256": sha256,
                "width": facts.width,
                "height": facts.height,
                "good": is_valid and is_large,
                "missing": facts.state == PhotoState.MISSING,
                "detail": detail or ("" if is_large else "too small"),
            }
        )
    columns = {
        "sha256": "str",
        "width": "int64",
        "height": "int64",
        "good": "bool",
        "missing": "bool",
        "detail": "str",
    }
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
