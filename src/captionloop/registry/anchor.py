"""The anchor (best served version on an evaluation set), and the number of decisions made on that set.

The champion alone is no fixed point: a row of candidates, each worse by a little less than the margin, would
walk downhill. So a candidate is compared, by the same margin, with the version that did best on this
evaluation set, too, from the captions that every version leaves there when it is registered.

Whoever brings candidates until one passes, or keeps the best of many by these photos, learns the photos. The
gate's errors were measured for rounds of candidates on one set, up to a number (docs/gate.md); for more,
nothing is known. So decisions are counted, and there is a budget. A count was preferred to a mechanism that
answers with noise (Thresholdout, Dwork et al. 2015): with noise the same evidence would not give the same
decision, and its bounds ask for many more photos than a frozen set has.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captionloop.errors import RegistryError
from captionloop.registry.gate import PRIMARY, difference_of, refuse_unless_same_set
from captionloop.registry.gate_decision import Anchor, Check, GateDecision, GateParameters, SetUse
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.model_version import ModelVersion
from captionloop.registry.scored_captions import EvaluationCaptions, ScoredCaptions

logger = logging.getLogger(__name__)

WARNING_SHARE = 0.8
"""Of the budget, from which on people are told."""
NEW_SET_ADVICE = "docs/gate.md says how to draw a new one: evaluation.draw."


def count_decision(decision: GateDecision, before: int, parameters: GateParameters) -> GateDecision:
    """The decision with the number of those on its evaluation set, and a warning where it becomes large."""
    decisions, budget = before + 1, parameters.decisions
    counted = decision.model_copy(update={"set_use": SetUse(decisions=decisions, budget=budget)})
    if decisions > budget:
        warning = (
            f"This evaluation set is worn out: it was good for {budget} decisions, and this is number "
            f"{decisions}. How often the gate errs on it is not known any more. {NEW_SET_ADVICE}"
        )
    elif decisions >= WARNING_SHARE * budget:
        warning = (
            f"This evaluation set is soon worn out: this is decision {decisions} of the {budget} that it is "
            f"good for. {NEW_SET_ADVICE}"
        )
    else:
        return counted
    logger.warning("%s", warning)
    return with_note(counted, warning)


@dataclass(frozen=True)
class AnchorSearch:
    """The anchor's version and captions; or none, and `note` says why."""

    note: str
    version: int | None = None
    captions: Mapping[str, str] = field(default_factory=dict)


def find_anchor(
    registry: ModelRegistry, champion: ModelVersion, evaluation_set: str, scratch: Path
) -> AnchorSearch:
    """The version before the champion that did best on an evaluation set, of those that were served.

    `scratch` is a folder for what is fetched.
    """
    served = served_versions(registry.versions(), champion)
    evaluated = [version for version in served if _score(version, evaluation_set) is not None]
    if not evaluated:
        return AnchorSearch(
            "No version that was served has kept captions of this evaluation set: there is no anchor, and "
            "the candidate is compared with the champion alone."
        )
    unreadable: list[str] = []
    ranked = sorted(evaluated, key=lambda version: (-(_score(version, evaluation_set) or 0), version.version))
    for version in ranked:
        if version.version == champion.version:
            break
        captions = stored_captions(registry, version, scratch / str(version.version), evaluation_set)
        if captions is not None:
            return AnchorSearch(_unreadable_note(unreadable), version.version, captions)
        unreadable.append(str(version.version))
    return AnchorSearch(
        "The champion is the best version so far on this evaluation set."
        f" {_unreadable_note(unreadable)}".rstrip()
    )


def served_versions(versions: Sequence[ModelVersion], champion: ModelVersion) -> list[ModelVersion]:
    """The versions that were champion: the present one, and those that it and its predecessors replaced.

    What was rolled back is left out. So is what stood before a version that people promoted though the gate
    did not: they have chosen another standard, and it begins with that version.
    """
    by_number = {version.version: version for version in versions}
    line: list[ModelVersion] = []
    seen: set[int] = set()
    current: ModelVersion | None = champion
    while current is not None and current.version not in seen:
        seen.add(current.version)
        if current.rolled_back is None:
            line.append(current)
        if not current.passed_gate or current.replaced is None:
            break
        current = by_number.get(current.replaced)
    return line


def stored_captions(
    registry: ModelRegistry, version: ModelVersion, destination: Path, evaluation_set: str
) -> dict[str, str] | None:
    """The captions stored with a version, if they are of this evaluation set; else None."""
    folder = registry.fetch_evidence(version.version, destination)
    try:
        stored = EvaluationCaptions.load(folder) if folder else None
    except RegistryError:
        return None
    return stored.captions if stored and stored.evaluation_set == evaluation_set else None


def decide_on_anchor(  # noqa: PLR0917 - three versions, and how they are compared
    decision: GateDecision,
    candidate: ScoredCaptions,
    champion: ScoredCaptions,
    anchor: ScoredCaptions,
    version: int,
    parameters: GateParameters,
) -> GateDecision:
    """The decision, with what the comparison with the anchor has to say: non-inferior by the same margin.

    An anchor that does no better than the champion adds nothing. Raises `RegistryError` where it was not
    evaluated on the same set.
    """
    refuse_unless_same_set(candidate, anchor)
    if anchor.scores.values[PRIMARY] <= champion.scores.values[PRIMARY]:
        return with_note(decision, "The champion is the best version so far on this evaluation set.")
    confidence = parameters.anchor_confidence
    difference = difference_of(candidate, anchor, parameters, confidence)
    level = f"{100 * confidence:g} % interval"
    check = Check.at_least(
        f"{PRIMARY} difference from the anchor, {anchor.name}, low end of the {level}",
        difference.low,
        -parameters.margin,
    )
    comparison = Anchor(version=version, confidence=confidence, difference=difference)
    verdict = "is worse" if difference.high < -parameters.margin else "may be worse"
    interval = f"{level} {difference.low:+.3f} to {difference.high:+.3f}"
    reason = (
        f"Not promoted: {PRIMARY} holds against {champion.name}, but {verdict} than that of "
        f"{anchor.name}, the best served so far on this evaluation set, by more than the margin of "
        f"{parameters.margin:g} (difference {difference.value:+.3f}, {interval})."
    )
    return decision.with_check(check, reason, anchor=comparison)


def with_note(decision: GateDecision, note: str) -> GateDecision:
    """The decision with one more note for people; an empty one adds nothing."""
    return decision.model_copy(update={"notes": (*decision.notes, note)}) if note else decision


def _score(version: ModelVersion, evaluation_set: str) -> float | None:
    """CIDEr of a version on an evaluation set, as it was registered with; None where it was on another."""
    return version.metrics.get(PRIMARY) if version.gate.get("evaluation_set") == evaluation_set else None


def _unreadable_note(unreadable: Sequence[str]) -> str:
    if not unreadable:
        return ""
    return f"The captions that version {', '.join(unreadable)} left cannot be read: it is no anchor."
