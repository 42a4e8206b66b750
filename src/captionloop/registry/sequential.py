"""Whether people rate a candidate higher than the champion, looked at after every rating.

While a canary runs, ratings of both versions come in, in any order. What is followed is the score
`S = d I`: `d` is the difference of the mean stars, and `I = 1 / (v (1/n + 1/m))` the information on it, with
`v` the variance of a rating and `n`, `m` the ratings of each version. In information time `S` is a Brownian
motion whose drift is the true difference (Jennison and Turnbull 2000, "Group Sequential Methods", 3.5 and
11.2). With the information planned, `I_max`, its maximum stays below `z(1 - alpha/2) sqrt(I_max)` with
probability `1 - alpha` where there is no difference (the reflection principle; the boundary of O'Brien and
Fleming 1979). So it may be looked at after each rating, and a decision be taken at the first crossing.

docs/decisions/0076-canary-statistics.md says why this and not an e-value.
"""

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal

from captionloop.errors import ConfigurationError

Verdict = Literal["better", "worse", "not decided yet", "no difference shown"]

USUAL_VARIANCE = 1.1**2
"""Of stars from 1 to 5: what is taken for their variance while few have come in."""
USUAL_RATINGS = 40
"""How many ratings that counts for."""


@dataclass(slots=True)
class Arm:
    """The ratings of one version."""

    ratings: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations from the mean (Welford 1962)."""

    def add(self, stars: float) -> None:
        """One rating more."""
        self.ratings += 1
        before = stars - self.mean
        self.mean += before / self.ratings
        self.squares += before * (stars - self.mean)


@dataclass(slots=True)
class RatingComparison:
    """Ratings of a candidate beside those of the champion.

    Args:
        share: of the ratings that will be the candidate's, as far as it was planned.
        most: ratings of both together after which the canary ends.
        alpha: how often a candidate that is no better may be called better, in the limit of many ratings. It
            is a little more with some hundred, so 0.04 for at most 5 %.
    """

    share: float = 0.5
    most: int = 400
    alpha: float = 0.04
    candidate: Arm = field(default_factory=Arm)
    champion: Arm = field(default_factory=Arm)
    verdict: Verdict = "not decided yet"

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.most >= 20 and 0 < self.alpha < 0.5):
            raise ConfigurationError(
                "A comparison of ratings takes a share between 0 and 1, at least 20 ratings, "
                "and an alpha below 0.5"
            )

    def add(self, stars: float, *, of_candidate: bool) -> Verdict:
        """One rating more, and what is known by then. What was decided stays decided."""
        if self.verdict != "not decided yet":
            return self.verdict
        (self.candidate if of_candidate else self.champion).add(stars)
        low, high = self.interval
        if low > 0:
            self.verdict = "better"
        elif high < 0:
            self.verdict = "worse"
        elif self.candidate.ratings + self.champion.ratings >= self.most:
            self.verdict = "no difference shown"
        return self.verdict

    @property
    def difference(self) -> float:
        """Mean stars of the candidate less those of the champion."""
        return self.candidate.mean - self.champion.mean

    @property
    def interval(self) -> tuple[float, float]:
        """Each end holds the true difference at all looks together with probability 1 - alpha."""
        information = self._information(self.candidate.ratings, self.champion.ratings)
        if information == 0:
            return -math.inf, math.inf
        planned = self._information(self.share * self.most, (1 - self.share) * self.most)
        edge = NormalDist().inv_cdf(1 - self.alpha / 2) * math.sqrt(max(planned, information)) / information
        return self.difference - edge, self.difference + edge

    def _information(self, one: float, other: float) -> float:
        return one * other / (one + other) / self._variance if one and other else 0.0

    @property
    def _variance(self) -> float:
        known = self.candidate.ratings + self.champion.ratings
        squares = self.candidate.squares + self.champion.squares
        return (squares + USUAL_RATINGS * USUAL_VARIANCE) / (known + USUAL_RATINGS)
