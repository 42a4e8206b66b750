"""What ratings must fulfil, as a Great Expectations suite; rows that break a rule go to quarantine."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from captionloop.corpus.docs_site import Section, site
from captionloop.corpus.examination import ROW, Examination
from captionloop.corpus.expectations import Suite
from captionloop.feedback.models import now
from captionloop.feedback.reasons import Reason
from captionloop.feedback.records import CORRECTION_LENGTH


@dataclass(frozen=True)
class CheckedRatings:
    """The ratings that hold, the ones that do not with their `reason`, the findings, and the Data Docs."""

    good: pd.DataFrame
    bad: pd.DataFrame
    findings: list[dict[str, Any]]
    pages: Mapping[str, bytes]


def check_ratings(ratings: pd.DataFrame, erased: frozenset[str]) -> CheckedRatings:
    """Sorts ratings (columns of `RATINGS`) by the suite; a row has the first reason that it gives."""
    table = _with_facts(ratings, erased)
    with Examination() as examination:
        findings = examination.examine(Suite("ratings", _rules()), table) if len(table) else []
        pages = examination.pages()
    reasons: dict[int, str] = {}
    for finding in findings:
        for row in finding.rows:
            reasons.setdefault(row, finding.reason)
    reason = pd.Series([reasons.get(row, "") for row in range(len(ratings))], index=ratings.index, dtype=str)
    told = [asdict(finding) | {"rows": len(finding.rows)} for finding in findings]
    bad = ratings[reason != ""].assign(reason=reason[reason != ""])
    counts = bad["reason"].value_counts().sort_index()
    sections = [
        Section("Read", ["", "rows"], [["ratings", len(ratings)], ["sound", len(ratings) - len(bad)]]),
        Section("In quarantine", ["reason", "rows"], [[str(k), int(n)] for k, n in counts.items()]),
    ]
    title = "Are these ratings fit to learn from?"
    return CheckedRatings(ratings[reason == ""], bad, told, site(pages, title, sections, told))


def _with_facts(ratings: pd.DataFrame, erased: frozenset[str]) -> pd.DataFrame:
    return ratings.assign(
        **{ROW: range(len(ratings))},
        occurrence=ratings.groupby("rating_id").cumcount(),
        erased=ratings["image_id"].isin(erased),
        rater_letters=ratings["rater"].str.strip().str.len(),
        caption_letters=ratings["text"].str.strip().str.len(),
        correction_letters=ratings["correction"].fillna("").astype(str).str.len(),
        in_order=(ratings["updated_at"] >= ratings["created_at"]) & (ratings["updated_at"] <= now()),
    ).drop(columns=["created_at", "updated_at", "correction", "sent_sha256"])


def _vocabulary() -> Any:
    """Great Expectations' classes, imported where they are needed: it takes a second."""
    from great_expectations import expectations

    return expectations


def _rules() -> tuple[Any, ...]:
    gxe = _vocabulary()

    def because(reason: str) -> dict[str, Any]:
        return {"meta": {"reason": reason}, "description": f"no rating where {reason}"}

    return (
        gxe.ExpectColumnValuesToBeInSet(column="occurrence", value_set=[0], **because(Reason.TWICE)),
        gxe.ExpectColumnValuesToBeBetween(column="stars", min_value=1, max_value=5, **because(Reason.STARS)),
        gxe.ExpectColumnValuesToBeBetween(column="rater_letters", min_value=1, **because(Reason.NO_RATER)),
        gxe.ExpectColumnValuesToBeBetween(
            column="caption_letters", min_value=1, **because(Reason.NO_CAPTION)
        ),
        gxe.ExpectColumnValuesToMatchRegex(
            column="image_id", regex="^[0-9a-f]{64}$", **because(Reason.NO_PHOTO)
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="correction_letters", max_value=CORRECTION_LENGTH, **because(Reason.TOO_LONG)
        ),
        gxe.ExpectColumnValuesToBeInSet(column="in_order", value_set=[True], **because(Reason.TIME)),
        gxe.ExpectColumnValuesToBeInSet(column="erased", value_set=[False], **because(Reason.ERASED)),
    )
