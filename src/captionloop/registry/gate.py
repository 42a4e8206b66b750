"""The promotion gate: whether a candidate may take the champion's place.

The claim it makes is one of *non-inferiority*: promoted is a candidate whose CIDEr, by the 95 % interval
of a paired bootstrap over the photos (Koehn 2004, "Statistical significance tests for machine translation
evaluation"), is not lower than the champion's by more than a margin, and which breaks no guardrail.
docs/gate.md says how the margin was chosen and how often the gate errs.
"""

from captionloop.errors import RegistryError
from captionloop.registry.gate_decision import (
    Check,
    Difference,
    Floors,
    Fresh,
    GateDecision,
    GateParameters,
    Guardrails,
)
from captionloop.registry.scored_captions import ScoredCaptions
from captionloop.scoring.bootstrap import paired_bootstrap, paired_differences, sign_flip_interval
from captionloop.scoring.scores import left_out

__all__ = [
    "Check",
    "Difference",
    "Floors",
    "Fresh",
    "GateDecision",
    "GateParameters",
    "Guardrails",
    "decide",
    "decide_on_fresh",
    "refuse_rolled_back",
]

PRIMARY = "CIDEr"
GUARDED = ("BLEU-4", "METEOR", "ROUGE-L")


def decide(
    candidate: ScoredCaptions, champion: ScoredCaptions | None, parameters: GateParameters
) -> GateDecision:
    """Compares the candidate with the champion on the same photos and references.

    Without a champion the candidate is promoted where it passes the sanity floors. The same input always
    gives the same decision. Raises `RegistryError` where the two were not evaluated on the same set: there
    is nothing to compare then.
    """
    if champion is None:
        return _decide_first_version(candidate, parameters)
    refuse_unless_same_set(candidate, champion)
    difference = difference_of(candidate, champion, parameters)
    inferiority = Check.at_least(
        f"{PRIMARY} difference, low end of the 95 % interval", difference.low, -parameters.margin
    )
    guardrails = _guardrails(candidate, champion, parameters.guardrails)
    checks = (inferiority, _no_empty_captions(candidate), *guardrails)
    return _decision(
        candidate,
        parameters,
        checks,
        reason=_reason(difference, parameters.margin, champion.name, checks),
        champion=champion.name,
        difference=difference,
    )


def decide_on_fresh(
    decision: GateDecision, candidate: ScoredCaptions, champion: ScoredCaptions, parameters: GateParameters
) -> GateDecision:
    """The decision, with what fresh feedback has to say: a candidate that does worse there is refused.

    Fresh feedback is small and new every time, so it cannot show that a candidate is no worse by a margin;
    but it can show that one is worse: the whole interval of the difference lies below zero. The interval is
    that of a permutation test, as photos are few: equal versions are refused in 2.5 % of cases at most.
    Raises `RegistryError` where the two were not evaluated on the same feedback.
    """
    refuse_unless_same_set(candidate, champion)
    difference = _fresh_difference(candidate, champion, parameters)
    photos = len(candidate.captions)
    fresh = Fresh(
        evaluation_set=candidate.evaluation_set,
        photos=photos,
        decides=photos >= parameters.fresh_photos,
        candidate=candidate.scores.values[PRIMARY],
        champion=champion.scores.values[PRIMARY],
        difference=difference,
    )
    if not fresh.decides:
        return decision.model_copy(update={"fresh": fresh})
    check = Check.at_least(
        f"{PRIMARY} difference on fresh feedback, high end of the 95 % interval", difference.high, 0.0
    )
    interval = f"{difference.value:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f}"
    reason = (
        f"Not promoted: on {photos} photos of fresh feedback, {PRIMARY} is worse than that of "
        f"{champion.name} (difference {interval}), though it holds on the frozen set."
    )
    return decision.with_check(check, reason, fresh=fresh)


def refuse_rolled_back(decision: GateDecision, rolled_back: str) -> GateDecision:
    """The decision about a model that people took out of service before: it does not return by itself."""
    reason = (
        f"Not promoted: this very model was rolled back on {rolled_back}; if that was a mistake, promote it "
        f"by hand with captionloop models promote. The gate alone would have said: {decision.reason}"
    )
    return decision.model_copy(update={"promoted": False, "reason": reason})


def _decision(
    candidate: ScoredCaptions,
    parameters: GateParameters,
    checks: tuple[Check, ...],
    *,
    reason: str,
    champion: str | None = None,
    difference: Difference | None = None,
) -> GateDecision:
    return GateDecision(
        promoted=all(check.passed for check in checks),
        reason=reason,
        candidate=candidate.name,
        champion=champion,
        evaluation_set=candidate.evaluation_set,
        photos=len(candidate.captions),
        margin=parameters.margin,
        seed=parameters.seed,
        difference=difference,
        checks=checks,
        left_out=left_out(candidate.language),
    )


def _decide_first_version(candidate: ScoredCaptions, parameters: GateParameters) -> GateDecision:
    floors, photos = parameters.floors, max(len(candidate.captions), 1)
    checks = (
        Check.at_least(PRIMARY, candidate.scores.values[PRIMARY], floors.cider),
        _no_empty_captions(candidate),
        Check.at_least("distinct words", candidate.distinct_words, floors.words),
        Check.at_least("distinct captions per photo", candidate.distinct_captions / photos, floors.captions),
        Check.at_least("words per caption", candidate.mean_length, floors.shortest),
        Check.at_most("words per caption", candidate.mean_length, floors.longest),
    )
    failed = [check for check in checks if not check.passed]
    reason = (
        "Not promoted: there is no champion yet, and a first version must pass every sanity floor; "
        f"{failed[0]}."
        if failed
        else "Promoted: there is no champion yet, and the candidate passes every sanity floor."
    )
    return _decision(candidate, parameters, checks, reason=reason)


def refuse_unless_same_set(candidate: ScoredCaptions, champion: ScoredCaptions) -> None:
    """Raises `RegistryError` where the two were not evaluated on the same photos and references."""
    if candidate.evaluation_set != champion.evaluation_set:
        raise RegistryError(
            f"{candidate.name} and {champion.name} cannot be compared: they were evaluated on different sets "
            f"({candidate.evaluation_set[:12]} and {champion.evaluation_set[:12]}); "
            "evaluate both on the same photos and references"
        )
    if set(candidate.captions) != set(champion.captions):
        missing = len(set(candidate.captions) ^ set(champion.captions))
        raise RegistryError(
            f"{candidate.name} and {champion.name} cannot be compared: {missing} photos have a caption "
            "of only one of them; evaluate both on the same photos"
        )


def difference_of(
    candidate: ScoredCaptions, other: ScoredCaptions, parameters: GateParameters, confidence: float = 0.95
) -> Difference:
    """CIDEr of the candidate less that of another, with the interval of the paired bootstrap."""
    interval = paired_bootstrap(
        other.scores,
        candidate.scores,
        PRIMARY,
        seed=parameters.seed,
        resamples=parameters.resamples,
        confidence=confidence,
    ).interval
    return Difference(value=interval.value, low=interval.low, high=interval.high)


def _fresh_difference(
    candidate: ScoredCaptions, champion: ScoredCaptions, parameters: GateParameters
) -> Difference:
    interval = sign_flip_interval(
        paired_differences(champion.scores, candidate.scores, PRIMARY),
        seed=parameters.seed,
        resamples=parameters.resamples,
    )
    return Difference(value=interval.value, low=interval.low, high=interval.high)


def _no_empty_captions(candidate: ScoredCaptions) -> Check:
    return Check.at_most("empty captions", candidate.empty_captions, 0)


def _guardrails(candidate: ScoredCaptions, champion: ScoredCaptions, limits: Guardrails) -> list[Check]:
    new, old = candidate.scores.values, champion.scores.values
    checks = [
        Check.at_least(metric, new[metric], (1 - limits.largest_drop) * old[metric], champion=old[metric])
        for metric in GUARDED
        if metric in new and metric in old
    ]
    length, words = champion.mean_length, champion.distinct_words
    checks += [
        Check.at_least("words per caption", candidate.mean_length, limits.shortest * length, champion=length),
        Check.at_most("words per caption", candidate.mean_length, limits.longest * length, champion=length),
        Check.at_least(
            "distinct words", candidate.distinct_words, limits.fewest_words * words, champion=words
        ),
    ]
    fast, slow = champion.seconds_per_photo, candidate.seconds_per_photo
    if fast is not None and slow is not None:
        checks.append(Check.at_most("seconds per photo", slow, limits.slowest * fast, champion=fast))
    return checks


def _reason(difference: Difference, margin: float, champion: str, checks: tuple[Check, ...]) -> str:
    interval = f"{difference.value:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f}"
    failed = [check for check in checks[1:] if not check.passed]
    if not checks[0].passed:
        verdict = "is worse" if difference.high < -margin else "may be worse"
        return (
            f"Not promoted: {PRIMARY} {verdict} than that of {champion} by more than the margin "
            f"of {margin:g} (difference {interval})."
        )
    if failed:
        return (
            f"Not promoted: {PRIMARY} holds against {champion} (difference {interval}), "
            f"but a guardrail broke: {'; '.join(map(str, failed))}."
        )
    verdict = "better" if difference.low > 0 else f"no worse within the margin of {margin:g}"
    return (
        f"Promoted: {PRIMARY} is {verdict} than that of {champion} (difference {interval}); "
        "no guardrail broke."
    )
