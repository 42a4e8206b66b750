"""How much one rater may say, whatever the order in which it is looked at."""

import pandas as pd

from captionloop.feedback.parameters import Caps

KEY = "key:"
"""How the rater that is an API key begins."""


def beyond_cap(ratings: pd.DataFrame, caps: Caps) -> pd.Series:
    """Which ratings are beyond their rater's cap for the day: of each day the earliest count."""
    ordered = ratings.sort_values(["created_at", "rating_id"])
    number = ordered.groupby([ordered["rater"], ordered["created_at"].dt.floor("D")]).cumcount()
    most = ordered["rater"].str.startswith(KEY).map({True: caps.key_per_day, False: caps.person_per_day})
    return (number >= most).reindex(ratings.index).astype(bool)


def in_burst(ratings: pd.DataFrame, caps: Caps) -> pd.Series:
    """Which ratings are part of a burst: `caps.burst` or more of one person within `caps.burst_seconds`."""
    found = pd.Series(False, index=ratings.index)
    people = ratings[~ratings["rater"].str.startswith(KEY)]
    within = pd.Timedelta(seconds=caps.burst_seconds)
    for _, own in people.sort_values(["created_at", "rating_id"]).groupby("rater"):
        times = own["created_at"].tolist()
        for first in range(len(times) - caps.burst + 1):
            last = first + caps.burst - 1
            if times[last] - times[first] <= within:
                found[own.index[first : last + 1]] = True
    return found


def capped_shares(weights: pd.Series, raters: pd.Series, largest: float) -> pd.Series:
    """The weights, scaled down so that no rater has more than the share `largest` of all.

    With fewer than 1 / `largest` raters that cannot be; then all get the same.
    """
    totals = weights.groupby(raters).sum()
    if totals.empty or totals.sum() == 0:
        return weights
    if len(totals) * largest <= 1:
        limit = float(totals[totals > 0].min())
    else:
        limit = _limit(totals.tolist(), largest)
    scale = (limit / totals.where(totals > 0, 1.0)).clip(upper=1.0)
    return weights * raters.map(scale)


def _limit(totals: list[float], largest: float) -> float:
    """The total down to which large ones are cut, so that each is at most the share `largest` of the sum."""
    ordered = sorted(totals, reverse=True)
    rest = sum(ordered)
    for count, total in enumerate(ordered):
        # With `count` raters cut to x each: x = largest * (count * x + rest).
        limit = largest * rest / (1 - largest * count) if largest * count < 1 else float("inf")
        if total <= limit + 1e-12:
            return max(limit, total)
        rest -= total
    return ordered[-1]
