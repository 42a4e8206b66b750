"""Guardrails of the gate: a collapse on one kind of photos, a rise of things named that are not there, and
captions that go worse with their photos.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from captionloop.evaluation.hallucination import HallucinationCounter
from captionloop.evaluation.subgroups import Subgroup
from captionloop.registry.gate import PRIMARY
from captionloop.registry.gate_decision import (
    Check,
    Difference,
    GateDecision,
    GateParameters,
    GroupDifference,
    Hallucinations,
)
from captionloop.registry.scored_captions import ScoredCaptions
from captionloop.scoring.bootstrap import mean_interval

Floats = NDArray[np.float64]
ERROR = 0.025
"""That any kind at all is called collapsed, where each has lost just what may be lost."""


def decide_on_groups(
    decision: GateDecision,
    candidate: ScoredCaptions,
    champion: ScoredCaptions,
    groups: Sequence[Subgroup],
    parameters: GateParameters,
) -> GateDecision:
    """The decision, refused where CIDEr on one kind of photos has surely lost more than a share of its value.

    `groups` are over the champion's photos in the order of its scores. Surely: by a one-sided t-test for each
    kind at 2.5 % divided by the number of kinds (Bonferroni), that the candidate's CIDEr there is below
    the champion's less that share.
    """
    if not groups:
        return decision
    places = {image_id: place for place, image_id in enumerate(candidate.scores.image_ids)}
    order = [places[image_id] for image_id in champion.scores.image_ids]
    new, old = candidate.scores.cider()[order], champion.scores.cider()
    table = tuple(_row(group, new, old, len(groups)) for group in groups)
    worst = max(table, key=lambda row: row.worst)
    limit = parameters.guardrails.group_drop
    check = Check.at_most(
        f"share of {PRIMARY} surely lost on photos of one kind ({worst.by} {worst.name} the most)",
        worst.worst,
        limit,
    )
    collapsed = [f"{row.by} {row.name}" for row in table if row.worst > limit]
    reason = (
        f"Not promoted: {PRIMARY} collapses on photos of one kind ({', '.join(collapsed)}). On the "
        f"{worst.photos} photos of {worst.by} {worst.name} it is {100 * worst.candidate:.1f} against "
        f"{100 * worst.champion:.1f} of {champion.name}: more than {100 * limit:g} % are lost."
    )
    return decision.with_check(check, reason, groups=table)


def _row(group: Subgroup, new: Floats, old: Floats, groups: int) -> GroupDifference:
    candidate, champion = new[group.member], old[group.member]
    difference, photos = candidate - champion, len(candidate)
    reach = float(stdtrit(photos - 1, 0.975) * difference.std(ddof=1) / np.sqrt(photos))
    value = float(difference.mean())
    return GroupDifference(
        by=group.by,
        name=group.name,
        photos=photos,
        candidate=float(candidate.mean()),
        champion=float(champion.mean()),
        difference=Difference(value=value, low=value - reach, high=value + reach),
        worst=surely_lost(candidate, champion, ERROR / groups),
    )


def surely_lost(candidate: Floats, champion: Floats, error: float) -> float:
    """The largest share of a mean that is lost by a one-sided paired t-test with this error (Fieller 1954).

    Below 0 where none is. It is the share d for which the mean of `ours - (1 - d) * theirs` is just so far
    below 0 as the error asks.
    """
    photos = len(candidate)
    bound = float(stdtrit(photos - 1, 1 - error)) ** 2 / photos
    covariance = np.cov(candidate, champion)
    x, y = float(candidate.mean()), float(champion.mean())
    # (x - r y)^2 = bound * var(ours - r theirs), for the ratio r = 1 - d; wanted is the larger root.
    a = y * y - bound * float(covariance[1, 1])
    b = x * y - bound * float(covariance[0, 1])
    c = x * x - bound * float(covariance[0, 0])
    inside = b * b - a * c
    if a <= 0 or inside < 0:  # the champion's own value is not above 0 for sure: no share of it is known
        return -1.0
    return 1 - (b + float(np.sqrt(inside))) / a


def decide_on_hallucinations(
    decision: GateDecision,
    candidate: ScoredCaptions,
    champion: ScoredCaptions,
    counter: HallucinationCounter,
    parameters: GateParameters,
) -> GateDecision:
    """The decision, refused where the candidate names clearly more things that are not there.

    The rise is that of the things per caption, photo by photo; it must lie above the limit with its whole
    95 % interval.
    """
    new, old = counter.counts(candidate.captions), counter.counts(champion.captions)
    values = np.array([(new[image_id], old[image_id]) for image_id in new], float)
    rise = mean_interval(values[:, 0] - values[:, 1], seed=parameters.seed, resamples=parameters.resamples)
    limit = parameters.guardrails.hallucinations
    found = Hallucinations(
        measure=counter.measure,
        candidate=float(values[:, 0].mean()),
        champion=float(values[:, 1].mean()),
        difference=Difference(value=rise.value, low=rise.low, high=rise.high),
        limit=limit,
    )
    check = Check.at_most("rise of hallucinations per caption, low end of the 95 % interval", rise.low, limit)
    interval = f"95 % interval {rise.low:+.2f} to {rise.high:+.2f}"
    reason = (
        f"Not promoted: captions name more that is not there than those of {champion.name}, "
        f"{found.candidate:.3f} things a caption against {found.champion:.3f} "
        f"(rise {rise.value:+.2f}, {interval}), where {limit:g} may come on top."
    )
    return decision.with_check(check, reason, hallucinations=found)


def decide_on_photos(
    decision: GateDecision,
    candidate: Mapping[str, float],
    champion: Mapping[str, float],
    parameters: GateParameters,
) -> GateDecision:
    """The decision, refused where captions clearly go worse with their photos than the champion's.

    Both are CLIPScores by image id. What is lost, photo by photo, must lie above the allowed share of the
    champion's mean with its whole 95 % interval.
    """
    values = np.array([(candidate[image_id], champion[image_id]) for image_id in champion], float)
    lost = mean_interval(values[:, 1] - values[:, 0], seed=parameters.seed, resamples=parameters.resamples)
    limit = parameters.guardrails.image_text_drop * float(values[:, 1].mean())
    check = Check.at_most("CLIPScore lost, low end of the 95 % interval", lost.low, limit)
    reason = (
        f"Not promoted: captions go worse with their photos than those of {decision.champion}, CLIPScore "
        f"{values[:, 0].mean():.3f} against {values[:, 1].mean():.3f} (lost {lost.value:.3f}, 95 % "
        f"interval {lost.low:.3f} to {lost.high:.3f}), where {limit:.3f} may be lost."
    )
    return decision.with_check(check, reason)
