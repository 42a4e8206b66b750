"""Whether people like the canary better than the champion: from the ratings database to a verdict.

Who is answered by the canary is chosen by a hash of the person, so the two groups differ in nothing else.
What counts is a person's rating of a caption of their own photo, made since the canary began by the version
of their group. In the order in which they were given, ratings are played through `sequential.py`:

- stars, which alone can make the canary *better*;
- whether a correction came with the rating, and how many of the caption's words it changes (edit distance in
  words over the longer one's words; 0 without one). These can only make it *worse*, as stars can.

So an equal version is called better as seldom as stars alone would say, and worse by any of the three in at
most `ALPHA`: each has a third of it (Bonferroni).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Self

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from captionloop.languages import ENGLISH, Language
from captionloop.ratings.database import unreachable
from captionloop.ratings.reader import RatingsDatabase
from captionloop.ratings.records import Caption, Rating
from captionloop.registry.sequential import RatingComparison
from captionloop.registry.trials import Plan, Trial
from captionloop.tokenizer import word_tokens

Advice = Literal["promote", "roll back", "stop", "extend"]

ALPHA = 0.04
"""For at most 5 % with some hundred ratings; docs/decisions/0076-canary-statistics.md."""
USUAL_CORRECTED = 0.2
"""Variance of whether a rating corrects: somewhat more than one in four does."""
USUAL_CHANGED = 0.05
"""Variance of the share of words that are changed."""
LOADING = timedelta(minutes=10)
"""After which the canary should have made its first caption."""
FEWEST_CAPTIONS = 20
MOST_REPLACED = 0.1
"""Of the captions for people of the canary: more that the champion had to make instead is a version that does
not answer.
"""


@dataclass(frozen=True, slots=True)
class CanaryRating:
    """A person's rating of a caption of their own photo, and the version that made the caption."""

    rater: str
    version: str
    stars: int
    text: str
    correction: str | None


@dataclass(frozen=True)
class CanaryEvidence:
    """What the database holds since the canary began.

    Attributes:
        ratings: in the order in which they were given.
        captions: how many each version made, for each person.
    """

    ratings: Sequence[CanaryRating]
    captions: dict[tuple[str, str], int]


@dataclass(frozen=True)
class Measures:
    """Candidate beside champion in three ways. Of the last two less is better: they are compared negated."""

    stars: RatingComparison
    corrected: RatingComparison
    changed: RatingComparison

    @classmethod
    def planned(cls, plan: Plan) -> Self:
        """Nothing yet, by the canary's plan."""
        third = ALPHA / 3
        return cls(
            RatingComparison(plan.share, plan.most, ALPHA, third),
            RatingComparison(plan.share, plan.most, third, third, USUAL_CORRECTED),
            RatingComparison(plan.share, plan.most, third, third, USUAL_CHANGED),
        )

    @property
    def advice(self) -> Advice:
        """The advice that follows from the three comparisons."""
        if "worse" in {self.stars.verdict, self.corrected.verdict, self.changed.verdict}:
            return "roll back"
        of_stars: dict[str, Advice] = {"better": "promote", "no difference shown": "stop"}
        return of_stars.get(self.stars.verdict, "extend")


@dataclass(frozen=True)
class CanaryAssessment:
    """The advice about the canary from the ratings so far.

    Attributes:
        advice: what follows.
        reason: a sentence.
        measures: what was compared.
        answered: captions that the canary made for its people.
        replaced: captions that the champion made for them since the canary made its first, or should have.
    """

    advice: Advice
    reason: str
    measures: Measures
    answered: int
    replaced: int


def read_evidence(database: RatingsDatabase, trial: Trial) -> CanaryEvidence:
    """Reads ratings and counts of captions of both versions since the canary began.

    Raises:
        DatabaseError: the database is missing, does not answer, or has no ratings tables.
    """
    both = [str(trial.version.version), str(trial.plan.champion)]
    of_either = (
        Caption.model_name == trial.version.name,
        Caption.model_version.in_(both),
        Caption.created_at >= trial.plan.began,
    )
    ratings_query = (
        select(Rating.rater, Caption.model_version, Rating.stars, Caption.text, Rating.correction)
        .join(Caption, Caption.caption_id == Rating.caption_id)
        .where(*of_either, Caption.owner == Rating.rater)
        .order_by(Rating.created_at, Rating.rating_id)
    )
    first = select(func.min(Caption.created_at)).where(*of_either, Caption.model_version == both[0])
    engine = database.engine()
    try:
        with engine.connect() as connection:
            ratings = [CanaryRating(*row) for row in connection.execute(ratings_query)]
            began = connection.scalar(first)
            counts = (
                select(Caption.owner, Caption.model_version, func.count())
                .where(*of_either, Caption.created_at >= (began or trial.plan.began + LOADING))
                .group_by(Caption.owner, Caption.model_version)
            )
            captions = {(owner, version): count for owner, version, count in connection.execute(counts)}
    except DBAPIError as error:
        raise unreachable(error) from error
    finally:
        engine.dispose()
    return CanaryEvidence(ratings, captions)


def assess_canary(
    trial: Trial, evidence: CanaryEvidence, now: datetime, language: Language = ENGLISH
) -> CanaryAssessment:
    """Compares the ratings of both versions: whether to promote, roll back, stop, or wait for more."""
    measures = _compare_ratings(trial, evidence, language)
    ratings = measures.stars.candidate.ratings + measures.stars.champion.ratings
    answered, replaced = _caption_counts(trial, evidence)
    total = answered + replaced
    advice, reason = measures.advice, _reason(measures)
    if trial.is_void:
        advice, reason = "stop", f"version {trial.plan.champion} is not the champion any more"
    elif advice == "extend" and trial.plan.is_over(now):
        advice, reason = "stop", f"its {trial.plan.days:g} days are over, and {ratings} ratings show nothing"
    elif advice != "roll back" and total >= FEWEST_CAPTIONS and replaced > MOST_REPLACED * total:
        advice = "stop"
        reason = f"it does not answer: of {total} captions for its people the champion gave {replaced}"
    return CanaryAssessment(advice, reason, measures, answered, replaced)


def _compare_ratings(trial: Trial, evidence: CanaryEvidence, language: Language) -> Measures:
    """The ratings in their order, until they decide."""
    measures = Measures.planned(trial.plan)
    for rating in evidence.ratings:
        chosen = trial.answers(rating.rater)
        if (rating.version == str(trial.version.version)) != chosen:
            continue  # made by the champion in the canary's place, or asked for by its number
        words = words_changed(rating.text, rating.correction, language) if rating.correction else 0.0
        measures.stars.add(rating.stars, of_candidate=chosen, rater=rating.rater)
        measures.corrected.add(-float(bool(rating.correction)), of_candidate=chosen, rater=rating.rater)
        measures.changed.add(-words, of_candidate=chosen, rater=rating.rater)
        if measures.advice != "extend":
            break
    return measures


def _caption_counts(trial: Trial, evidence: CanaryEvidence) -> tuple[int, int]:
    """Captions for people of the canary: by the canary, and by the champion in its place."""
    canary = str(trial.version.version)
    of_its_people = [
        (version, count) for (owner, version), count in evidence.captions.items() if trial.answers(owner)
    ]
    answered = sum(count for version, count in of_its_people if version == canary)
    return answered, sum(count for _, count in of_its_people) - answered


def _reason(measures: Measures) -> str:
    stars, corrected, changed = measures.stars, measures.corrected, measures.changed
    if not stars.candidate.ratings or not stars.champion.ratings:
        return "there are no ratings of both versions yet"
    low, high = stars.interval
    verdicts = {
        "its captions are corrected more often": corrected.verdict,
        "more of their words are changed": changed.verdict,
        "people give it fewer stars": stars.verdict,
    }
    worse = [name for name, verdict in verdicts.items() if verdict == "worse"]
    text = (
        f"{stars.difference:+.2f} stars [{low:+.2f}, {high:+.2f}]: {stars.candidate.mean:.2f} of "
        f"{stars.candidate.ratings} ratings by {stars.candidate.raters} people, beside "
        f"{stars.champion.mean:.2f} of {stars.champion.ratings} by {stars.champion.raters}"
    )
    return f"{worse[0]}; {text}" if worse else text


def words_changed(text: str, correction: str, language: Language = ENGLISH) -> float:
    """Words to put in, take out or exchange to come from one to the other, over those of the longer one."""
    one, other = word_tokens(text, language), word_tokens(correction, language)
    if not one and not other:
        return 0.0
    previous = list(range(len(other) + 1))
    for number, word in enumerate(one, start=1):
        row = [number]
        for place, target in enumerate(other, start=1):
            row.append(min(previous[place] + 1, row[-1] + 1, previous[place - 1] + (word != target)))
        previous = row
    return previous[-1] / max(len(one), len(other))
