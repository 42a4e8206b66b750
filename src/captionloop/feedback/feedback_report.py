"""Curated ratings in; `feedback_report.json` out: how many are new and count, and what became of the rest."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from captionloop.errors import ConfigurationError
from captionloop.feedback.curation import Curated
from captionloop.feedback.rating_checks import IN_SHORT, RatingIssue


@dataclass(frozen=True)
class Window:
    """From when on ratings count as new: `since` (None: all are new), and where that comes from, in words."""

    since: datetime | None
    origin: str

    @classmethod
    def parse(cls, since: str | None, learnt: str | None, version: int | None) -> "Window":
        """The moment that was asked for, else up to when the champion (`version`) has learnt from ratings.

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
    listened = curated.judged.raters
    return {
        "new_ratings": new,
        "needed": needed,
        "counted_ratings": counted,
        "enough": counted >= needed and counted > 0,
        "sentence": _sentence(new, counted, needed, window),
        "believed": _believed(new, len(ratings), _new(set_aside, window)["reason"], sources),
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
            "all": len(listened),
            "strangers": curated.quarantine.loc[
                curated.quarantine["reason"] == RatingIssue.UNKNOWN, "rater"
            ].nunique(),
            "mean_accuracy": None if listened.empty else round(float(listened["accuracy"].mean()), 3),
            "gold_ratings": int(listened["gold"].sum()),
        },
    }


def _sentence(new: int, counted: int, needed: int, window: Window) -> str:
    """How many are new, and how many of them count: neither those that are doubted, nor gold items."""
    count = "" if counted == new else f", of which {counted} {'counts' if counted == 1 else 'count'}"
    return f"{new} new {'rating' if new == 1 else 'ratings'} {window.origin}{count}, {needed} needed"


def _new(rows: pd.DataFrame, window: Window) -> pd.DataFrame:
    return rows if window.since is None else rows[rows["updated_at"] > window.since]


def _believed(new: int, ratings: int, doubted: pd.Series, sources: pd.Series) -> str:
    """What became of the new ratings: how many are not believed and why; how many corrections are used."""
    counts = doubted.value_counts()
    said = [f"{new} new"]
    if len(counts):
        short = [IN_SHORT.get(str(reason), str(reason)) for reason in counts.index]
        why = (
            [f"{count} {text}" for count, text in zip(counts, short, strict=True)]
            if len(short) > 1
            else short
        )
        said.append(f"{len(doubted)} not believed: {' and '.join(why)}")
    corrections = int(sources.get("correction", 0))
    older = ", those of older ratings included" if ratings > new else ""
    said.append(f"{corrections} {'correction' if corrections == 1 else 'corrections'} used{older}")
    return ", ".join(said)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"since={text!r} is not a moment: write it as in 2026-11-24T18:00:00+00:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
