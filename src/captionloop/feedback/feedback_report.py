"""Curated ratings in; `feedback_report.json` out: how many are new, counted, used and quarantined."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from captionloop.errors import ConfigurationError
from captionloop.feedback.curation import Curated
from captionloop.feedback.rating_checks import SHORT_REASONS, RatingIssue


@dataclass(frozen=True)
class Window:
    """From when on ratings count as new: `since` (None: all are new), and the same in words."""

    since: datetime | None
    description: str

    @classmethod
    def parse(cls, since: str | None, learnt: str | None, version: int | None) -> "Window":
        """The window from `since`, else from the newest rating that the champion (`version`) has learnt from.

        Raises:
            ConfigurationError: it is not a moment in ISO 8601.
        """
        if since:
            return cls(_moment(since), f"since {since}")
        if learnt and version is not None:
            return cls(_moment(learnt), f"since those that version {version} learnt from")
        return cls(None, "so far")


def summary(
    ratings: pd.DataFrame, bad: pd.DataFrame, curated: Curated, window: Window, needed: int
) -> dict[str, Any]:
    """`feedback_report.json`.

    Args:
        ratings: all that were read.
        bad: those that broke a rule.
        curated: what became of the rest.
        window: which are new.
        needed: how many new ones are enough.
    """
    new, counted = len(_new(ratings, window)), len(_new(curated.counted, window))
    set_aside = pd.concat([bad, curated.quarantine])
    quarantined = set_aside["reason"].value_counts().sort_index()
    sources = curated.references["source"].value_counts()
    raters = curated.rater_scores.raters
    return {
        "new_ratings": new,
        "needed": needed,
        "counted_ratings": counted,
        "enough": counted >= needed and counted > 0,
        "sentence": _sentence(new, counted, needed, window),
        "believed": _usage_sentence(new, len(ratings), _new(set_aside, window)["reason"], sources),
        "since": None if window.since is None else window.since.isoformat(),
        "until": None if ratings.empty else ratings["updated_at"].max().isoformat(),
        "ratings": len(ratings),
        "used": {
            "photos": len(curated.images),
            "corrections": int(sources.get("correction", 0)),
            "approved_captions": int(sources.get("approved", 0)),
            "rejected_captions": len(curated.rejections),
            "held_out_photos": int(curated.held_out["image_id"].nunique()),
            "held_out_corrections": len(curated.held_out),
        },
        "quarantined": {str(reason): int(count) for reason, count in quarantined.items()},
        "raters": {
            "all": len(raters),
            "strangers": curated.quarantine.loc[
                curated.quarantine["reason"] == RatingIssue.UNKNOWN, "rater"
            ].nunique(),
            "mean_accuracy": None if raters.empty else round(float(raters["accuracy"].mean()), 3),
            "gold_ratings": int(raters["gold"].sum()),
        },
    }


def _sentence(new: int, counted: int, needed: int, window: Window) -> str:
    """A sentence: how many ratings are new, and how many of them count (not rejected, no gold items)."""
    count = "" if counted == new else f", of which {counted} {'counts' if counted == 1 else 'count'}"
    return f"{new} new {'rating' if new == 1 else 'ratings'} {window.description}{count}, {needed} needed"


def _new(rows: pd.DataFrame, window: Window) -> pd.DataFrame:
    return rows if window.since is None else rows[rows["updated_at"] > window.since]


def _usage_sentence(new: int, ratings: int, rejected: pd.Series, sources: pd.Series) -> str:
    """A sentence: how many new ratings are rejected and why, and how many corrections are used."""
    counts = rejected.value_counts()
    clauses = [f"{new} new"]
    if len(counts):
        short = [SHORT_REASONS.get(str(reason), str(reason)) for reason in counts.index]
        why = (
            [f"{count} {text}" for count, text in zip(counts, short, strict=True)]
            if len(short) > 1
            else short
        )
        clauses.append(f"{len(rejected)} not believed: {' and '.join(why)}")
    corrections = int(sources.get("correction", 0))
    older = ", those of older ratings included" if ratings > new else ""
    clauses.append(f"{corrections} {'correction' if corrections == 1 else 'corrections'} used{older}")
    return ", ".join(clauses)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"since={text!r} is not a moment: write it as in 2026-11-24T18:00:00+00:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
