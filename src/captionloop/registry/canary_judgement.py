"""Whether people like the canary better than the champion: from the ratings database to a verdict.

Who is answered by the canary is chosen by a hash of the person, so the two groups differ in nothing else.
What counts is a person's rating of a caption of their own photo, made since the canary began by the version
of their group. In the order in which they were given, ratings are played through `RatingComparison`:

- stars, which alone can make the canary *better*;
- whether a correction came with the rating, and how many of the caption's words it changes (edit distance in
  words over the longer one's words; 0 without one). These can only make it *worse*, as stars can.

So an equal version is called better as seldom as stars alone would say, and worse by any of the three in at
most `ALPHA`: each has a third of it (Bonferroni).

What is followed is the score `S = d I`: `d` is the difference of the mean stars, and
`I = 1 / (v (1/n + 1/m))` the information on it, with `v` the variance of a rating and `n`, `m` the ratings of
each version. In information time `S` is a Brownian motion whose drift is the true difference (Jennison and
Turnbull 2000, "Group Sequential Methods", 3.5 and 11.2). With the information planned, `I_max`, its maximum
stays below `z(1 - alpha/2) sqrt(I_max)` with probability `1 - alpha` where there is no difference (the
reflection principle; the boundary of O'Brien and Fleming 1979). So it may be looked at after each rating, and
a decision be taken at the first crossing.

What one person says several times is not as many opinions. So a person's mean counts as `n / (1 + (n - 1) c)`
ratings, where `c` is how alike one person's ratings are taken to be (Kish 1965, the design effect): with one
half, ten ratings of one person count as 1.8, and nobody counts for more than two.

docs/decisions/0076-canary-statistics.md says why this and not an e-value.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from statistics import NormalDist
from typing import Literal, Self

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from captionloop.errors import ConfigurationError
from captionloop.languages import ENGLISH, Language
from captionloop.ratings.database import unreachable
from captionloop.ratings.rating_tables import Caption, Rating
from captionloop.ratings.reader import RatingsDatabase
from captionloop.registry.trials import Plan, Trial
from captionloop.tokenizer import word_tokens

Verdict = Literal["better", "worse", "not decided yet", "no difference shown"]


USUAL_VARIANCE = 1.1**2
"""Of stars from 1 to 5: what is taken for their variance while few have come in."""
USUAL_RATINGS = 40
"""How many ratings that counts for."""
RATER_CORRELATION = 0.5
"""The correlation of two ratings by one person: more than was ever seen, so that it errs on the safe side."""


@dataclass(slots=True)
class Arm:
    """The ratings of one version.

    Attributes:
        ratings: how many there are.
        weight: how many they count for: as many, if each is another person's.
    """

    ratings: int = 0
    weight: float = 0.0
    _total: float = 0.0
    _squares: float = 0.0
    _people: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    """Of each person: how many ratings, their sum, the sum of their squares."""

    def add(self, value: float, rater: str | None = None) -> None:
        """One rating more; without a rater, of somebody who gave no other one."""
        self.ratings += 1
        count, total, squares = (0, 0.0, 0.0) if rater is None else self._people.get(rater, (0, 0.0, 0.0))
        self._count(count, total, squares, -1)
        count, total, squares = count + 1, total + value, squares + value**2
        self._count(count, total, squares, +1)
        if rater is not None:
            self._people[rater] = (count, total, squares)

    def _count(self, count: int, total: float, squares: float, sign: int) -> None:
        if count == 0:
            return
        each = sign / (1 + (count - 1) * RATER_CORRELATION)
        self.weight += each * count
        self._total += each * total
        self._squares += each * squares

    @property
    def raters(self) -> int:
        """People who gave them, as far as these were told."""
        return len(self._people)

    @property
    def mean(self) -> float:
        """Of the ratings, each person's mean by what it counts for."""
        return self._total / self.weight if self.weight else 0.0

    @property
    def deviations(self) -> float:
        """Sum of squared deviations from the mean, by what they count for."""
        return max(0.0, self._squares - self.weight * self.mean**2)


@dataclass(slots=True)
class RatingComparison:
    """Ratings of a candidate beside those of the champion.

    Args:
        share: of the ratings that will be the candidate's, as far as it was planned.
        max_ratings: of both together, after which the canary ends, by what they count for.
        alpha: how often a candidate that is no better may be called better, in the limit of many ratings. It
            is a little more with some hundred, so 0.04 for at most 5 %.
        alpha_worse: how often one that is no worse may be called worse.
        usual_variance: of one rating, while few have come in.
    """

    share: float = 0.5
    max_ratings: int = 400
    alpha: float = 0.04
    alpha_worse: float = 0.04
    usual_variance: float = USUAL_VARIANCE
    candidate: Arm = field(default_factory=Arm)
    champion: Arm = field(default_factory=Arm)
    verdict: Verdict = "not decided yet"

    def __post_init__(self) -> None:
        alphas = (self.alpha, self.alpha_worse)
        if not (0 < self.share < 1 and self.max_ratings >= 20 and all(0 < each < 0.5 for each in alphas)):
            raise ConfigurationError(
                "A comparison of ratings takes a share between 0 and 1, at least 20 ratings, "
                "and an alpha below 0.5"
            )

    def add(self, value: float, *, of_candidate: bool, rater: str | None = None) -> Verdict:
        """One rating more, and what is known by then. What was decided stays decided."""
        if self.verdict != "not decided yet":
            return self.verdict
        (self.candidate if of_candidate else self.champion).add(value, rater)
        low, high = self.interval
        if low > 0:
            self.verdict = "better"
        elif high < 0:
            self.verdict = "worse"
        elif self.candidate.weight + self.champion.weight >= self.max_ratings:
            self.verdict = "no difference shown"
        return self.verdict

    @property
    def difference(self) -> float:
        """Mean stars of the candidate less those of the champion."""
        return self.candidate.mean - self.champion.mean

    @property
    def interval(self) -> tuple[float, float]:
        """Its lower end is at most the true difference at all looks together with probability 1 - alpha, its
        upper end at least that with probability 1 - alpha_worse.
        """
        information = self._information(self.candidate.weight, self.champion.weight)
        if information == 0:
            return -math.inf, math.inf
        planned = self._information(self.share * self.max_ratings, (1 - self.share) * self.max_ratings)
        step = math.sqrt(max(planned, information)) / information
        low, high = _quantile(self.alpha) * step, _quantile(self.alpha_worse) * step
        return self.difference - low, self.difference + high

    def _information(self, one: float, other: float) -> float:
        return one * other / (one + other) / self._variance if one and other else 0.0

    @property
    def _variance(self) -> float:
        known = self.candidate.weight + self.champion.weight
        squares = self.candidate.deviations + self.champion.deviations
        return (squares + USUAL_RATINGS * self.usual_variance) / (known + USUAL_RATINGS)


@cache
def _quantile(alpha: float) -> float:
    """What the largest of a path exceeds, in standard deviations of its end, in `alpha` of cases."""
    return NormalDist().inv_cdf(1 - alpha / 2)


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
