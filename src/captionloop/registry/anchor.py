"""The anchor, the best version served so far on an evaluation set; and how worn that set is by decisions.

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

WARNED = 0.8
"""Of the budget, from which on people are told."""
HOW = "docs/gate.md says how to draw a new one: evaluation.draw."


def count_decision(decision: GateDecision, before: int, parameters: GateParameters) -> GateDecision:
    """The decision with the number of those on its evaluation set, and a warning where it becomes large."""
    used, budget = before + 1, parameters.decisions
    counted = decision.model_copy(update={"set_use": SetUse(decisions=used, budget=budget)})
    if used > budget:
        warning = (
            f"This evaluation set is worn out: it was good for {budget} decisions, and this is number "
            f"{used}. How often the gate errs on it is not known any more. {HOW}"
        )
    elif used >= WARNED * budget:
        warning = (
            f"This evaluation set is soon worn out: this is decision {used} of the {budget} that it is good "
            f"for. {HOW}"
        )
    else:
        return counted
    logger.warning("%s", warning)
    return noted(counted, warning)


@dataclass(frozen=True)
class Found:
    """The anchor's version and captions; or none, and `note` says why."""

    note: str
    version: int | None = None
    captions: Mapping[str, str] = field(default_factory=dict)


def find_anchor(registry: ModelRegistry, champion: ModelVersion, evaluation_set: str, scratch: Path) -> Found:
    """The version before the champion that did best on an evaluation set, of those that were served.

    `scratch` is a folder for what is fetched.
    """
    known = served(registry.versions(), champion)
    there = [version for version in known if _score(version, evaluation_set) is not None]
    if not there:
        return Found(
            "No version that was served has kept captions of this evaluation set: there is no anchor, and "
            "the candidate is compared with the champion alone."
        )
    lost: list[str] = []
    ranked = sorted(there, key=lambda version: (-(_score(version, evaluation_set) or 0), version.version))
    for version in ranked:
        if version.version == champion.version:
            break
        captions = kept_captions(registry, version, scratch / str(version.version), evaluation_set)
        if captions is not None:
            return Found(_without(lost), version.version, captions)
        lost.append(str(version.version))
    return Found(f"The champion is the best version so far on this evaluation set. {_without(lost)}".strip())


def served(versions: Sequence[ModelVersion], champion: ModelVersion) -> list[ModelVersion]:
    """The champion, those that it and its predecessors replaced, back to the first.

    What was rolled back is left out. So is what stood before a version that people promoted though the gate
    did not: they have chosen another standard, and it begins with that version.
    """
    by_number = {version.version: version for version in versions}
    found: list[ModelVersion] = []
    seen: set[int] = set()
    at: ModelVersion | None = champion
    while at is not None and at.version not in seen:
        seen.add(at.version)
        if at.rolled_back is None:
            found.append(at)
        if not at.passed_gate or at.replaced is None:
            break
        at = by_number.get(at.replaced)
    return found


def kept_captions(
    registry: ModelRegistry, version: ModelVersion, place: Path, evaluation_set: str
) -> dict[str, str] | None:
    """What a version said when it was registered, where that is of this evaluation set; else None."""
    folder = registry.fetch_evidence(version.version, place)
    try:
        kept = EvaluationCaptions.load(folder) if folder else None
    except RegistryError:
        return None
    return kept.captions if kept and kept.evaluation_set == evaluation_set else None


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
        return noted(decision, "The champion is the best version so far on this evaluation set.")
    confidence = parameters.anchor_confidence
    difference = difference_of(candidate, anchor, parameters, confidence)
    level = f"{100 * confidence:g} % interval"
    check = Check.at_least(
        f"{PRIMARY} difference from the anchor, {anchor.name}, low end of the {level}",
        difference.low,
        -parameters.margin,
    )
    compared = Anchor(version=version, confidence=confidence, difference=difference)
    verdict = "is worse" if difference.high < -parameters.margin else "may be worse"
    interval = f"{level} {difference.low:+.3f} to {difference.high:+.3f}"
    reason = (
        f"Not promoted: {PRIMARY} holds against {champion.name}, but {verdict} than that of "
        f"{anchor.name}, the best served so far on this evaluation set, by more than the margin of "
        f"{parameters.margin:g} (difference {difference.value:+.3f}, {interval})."
    )
    return decision.with_check(check, reason, anchor=compared)


def noted(decision: GateDecision, note: str) -> GateDecision:
    """The decision with one more note for people; an empty one adds nothing."""
    return decision.model_copy(update={"notes": (*decision.notes, note)}) if note else decision


def _score(version: ModelVersion, evaluation_set: str) -> float | None:
    """CIDEr of a version on an evaluation set, as it was registered with; None where it was on another."""
    return version.metrics.get(PRIMARY) if version.gate.get("evaluation_set") == evaluation_set else None


def _without(lost: Sequence[str]) -> str:
    if not lost:
        return ""
    return f"The captions that version {', '.join(lost)} left cannot be read: it is no anchor."
