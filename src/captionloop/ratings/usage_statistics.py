"""Ratings over time and by model version, as sums that the database makes."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import Engine, Select, case, func, select
from sqlalchemy.orm import Session

from captionloop.ratings.rating_tables import CORPUS, KEY, Caption, Rating, now

Stars = dict[int, int]
SERVED = Caption.owner != CORPUS
NOT_GOLD = Rating.caption_id.not_in(select(Caption.caption_id).where(~SERVED))
"""Gold items are no captions that a version made, and what is said of them tells of raters alone."""


@dataclass(frozen=True, slots=True)
class Day:
    """One day in UTC: captions made and ratings given on it."""

    date: date
    captions: int
    ratings: int
    corrections: int
    mean_stars: float | None


@dataclass(frozen=True, slots=True)
class Tally:
    """Captions and ratings of a period, or of one model version within it."""

    captions: int
    ratings: int
    corrections: int
    mean_stars: float | None
    mean_confidence: float | None
    stars: Stars


@dataclass(frozen=True, slots=True)
class Statistics:
    """The numbers of `GET /v1/statistics`."""

    first: date
    last: date
    totals: Tally
    by_day: tuple[Day, ...]
    by_version: tuple[tuple[str, Tally], ...]


def statistics(engine: Engine, days: int) -> Statistics:
    """The last `days` days in UTC, today included."""
    last = now().date()
    first = last - timedelta(days=days - 1)
    since = datetime.combine(first, time(), UTC)
    with Session(engine) as session:
        versions = _by_version(session, since)
        return Statistics(
            first=first,
            last=last,
            totals=_sum([tally for _, tally in versions]),
            by_day=_by_day(session, first, days, since),
            by_version=tuple(versions),
        )


def count_ratings(engine: Engine, since: datetime | None, gold_items: int = 0) -> int:
    """Ratings given or changed after a moment, or ever; those of gold items are left out.

    With `gold_items`, only those of keys, and of people who rated so many of these rightly, good and bad
    ones: as curation asks (`feedback/rater_reliability.py`), which looks at more than that.
    """
    query = select(func.count()).select_from(Rating).where(NOT_GOLD)
    if since is not None:
        query = query.where(Rating.updated_at > since)
    if gold_items:
        query = query.where(Rating.rater.startswith(KEY) | Rating.rater.in_(known_raters(gold_items)))
    with Session(engine) as session:
        return int(session.execute(query).scalar_one())


def known_raters(gold_items: int) -> "Select[str]":
    """People who rated so many gold items rightly, good and bad ones among them."""
    correct = (Caption.known_good & (Rating.stars > 3)) | (~Caption.known_good & (Rating.stars < 3))
    rated = select(Rating.rater).join(Caption, Caption.caption_id == Rating.caption_id).where(correct)
    kinds = func.count(func.distinct(Caption.known_good))
    return rated.group_by(Rating.rater).having(func.count() >= gold_items, kinds >= min(2, gold_items))


def _by_day(session: Session, first: date, days: int, since: datetime) -> tuple[Day, ...]:
    caption_day = func.date(Caption.created_at)
    captions: dict[object, int] = dict(
        session.execute(
            select(caption_day, func.count()).where(SERVED, Caption.created_at >= since).group_by(caption_day)
        )
        .tuples()
        .all()
    )
    rating_day = func.date(Rating.updated_at)
    corrected = func.count(Rating.correction)
    ratings = {
        str(day): (count, corrections, mean)
        for day, count, corrections, mean in session.execute(
            select(rating_day, func.count(), corrected, func.avg(Rating.stars))
            .where(NOT_GOLD, Rating.updated_at >= since)
            .group_by(rating_day)
        )
    }
    counts = {str(day): count for day, count in captions.items()}
    rows = []
    for offset in range(days):
        day = first + timedelta(days=offset)
        count, corrections, mean = ratings.get(day.isoformat(), (0, 0, None))
        rows.append(Day(day, counts.get(day.isoformat(), 0), count, corrections, _rounded(mean)))
    return tuple(rows)


def _by_version(session: Session, since: datetime) -> list[tuple[str, Tally]]:
    captions_by_version = {
        version: (count, confidence, newest)
        for version, count, confidence, newest in session.execute(
            select(
                Caption.model_version,
                func.count(),
                func.avg(Caption.confidence),
                func.max(Caption.created_at),
            )
            .where(SERVED, Caption.created_at >= since)
            .group_by(Caption.model_version)
        )
    }
    columns = [func.sum(case((Rating.stars == stars, 1), else_=0)) for stars in range(1, 6)]
    ratings_by_version = {
        row[0]: (row[1], {stars: int(row[1 + stars] or 0) for stars in range(1, 6)})
        for row in session.execute(
            select(Caption.model_version, func.count(Rating.correction), *columns)
            .join(Rating, Rating.caption_id == Caption.caption_id)
            .where(SERVED, Rating.updated_at >= since)
            .group_by(Caption.model_version)
        )
    }
    tallies = []
    for version in sorted(
        captions_by_version.keys() | ratings_by_version.keys(), key=_newest_first, reverse=True
    ):
        captions, confidence, _ = captions_by_version.get(version, (0, None, None))
        corrections, stars = ratings_by_version.get(version, (0, dict.fromkeys(range(1, 6), 0)))
        tallies.append((version, _tally(captions, corrections, confidence, stars)))
    return tallies


def _newest_first(version: str) -> tuple[int, str]:
    """Registry versions count upwards; others go by name, after them."""
    return (int(version), "") if version.isdecimal() else (-1, version)


def _tally(captions: int, corrections: int, confidence: float | None, stars: Stars) -> Tally:
    ratings = sum(stars.values())
    mean = sum(value * count for value, count in stars.items()) / ratings if ratings else None
    return Tally(captions, ratings, corrections, _rounded(mean), _rounded(confidence), stars)


def _sum(tallies: list[Tally]) -> Tally:
    captions = sum(tally.captions for tally in tallies)
    weighted = sum(tally.captions * (tally.mean_confidence or 0.0) for tally in tallies)
    stars = {value: sum(tally.stars[value] for tally in tallies) for value in range(1, 6)}
    corrections = sum(tally.corrections for tally in tallies)
    return _tally(captions, corrections, weighted / captions if captions else None, stars)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
