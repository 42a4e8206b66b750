"""What the feedback amounts to, for people and for whoever decides whether to retrain."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from captionloop.errors import ConfigurationError
from captionloop.feedback.curation import Curated


@dataclass(frozen=True)
class Window:
    """From when on ratings count as new: `since` (None: all are new), and where that comes from, in words."""

    since: datetime | None
    origin: str

    @classmethod
    def parse(cls, since: str | None, newest: str | None, version: int | None) -> "Window":
        """The moment that was asked for, else up to when the newest retrained version has seen ratings.

        Raises:
            ConfigurationError: it is not a moment in ISO 8601.
        """
        if since:
            return cls(_moment(since), f"since {since}")
        if newest and version is not None:
            return cls(_moment(newest), f"since version {version} was retrained")
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
    new = len(ratings) if window.since is None else int((ratings["updated_at"] > window.since).sum())
    quarantined = pd.concat([bad["reason"], curated.quarantine["reason"]]).value_counts().sort_index()
    sources = curated.references["source"].value_counts()
    listened = curated.judged.raters
    return {
        "new_ratings": new,
        "needed": needed,
        "enough": new >= needed and new > 0,
        "sentence": f"{new} new {'rating' if new == 1 else 'ratings'} {window.origin}, {needed} needed",
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
            "mean_accuracy": None if listened.empty else round(float(listened["accuracy"].mean()), 3),
            "gold_ratings": int(listened["gold"].sum()),
        },
    }


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"since={text!r} is not a moment: write it as in 2026-11-24T18:00:00+00:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
