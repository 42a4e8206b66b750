"""Whether people rate a candidate higher than the champion, looked at after every rating.

While a canary runs, ratings of both versions come in, in any order. What is followed is the score
`S = d I`: `d` is the difference of the mean stars, and `I = 1 / (v (1/n + 1/m))` the information on it, with
`v` the variance of a rating and `n`, `m` the ratings of each version. In information time `S` is a Brownian
motion whose drift is the true difference (Jennison and Turnbull 2000, "Group Sequential Methods", 3.5 and
11.2). With the information planned, `I_max`, its maximum stays below `z(1 - alpha/2) sqrt(I_max)` with
probability `1 - alpha` where there is no difference (the reflection principle; the boundary of O'Brien and
Fleming 1979). So it may be looked at after each rating, and a decision be taken at the first crossing.

What one person says several times is not as many opinions. So a person's mean counts as `n / (1 + (n - 1) c)`
ratings, where `c` is how alike one person's ratings are taken to be (Kish 1965, the design effect): with one
half, ten ratings of one person count as 1.8, and nobody counts for more than two.

docs/decisions/0076-canary-statistics.md says why this and not an e-value.
"""

import math
from dataclasses import dataclass, field
from functools import cache
from statistics import NormalDist
from typing import Literal

from captionloop.errors import ConfigurationError

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
        most: ratings of both together after which the canary ends, by what they count for.
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
