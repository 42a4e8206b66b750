"""The anchor in a real registry: which version it is, and what it has to say."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from captionloop.registry.anchor import decide_on_anchor, find_anchor, served_versions
from captionloop.registry.gate import GateDecision, GateParameters, decide
from captionloop.registry.gate_report import gate_report
from captionloop.registry.registration import count_decisions_on
from captionloop.registry.scored_captions import EvaluationCaptions, ScoredCaptions
from captionloop.scoring.scores import Scores

IDS = tuple(f"photo {i}" for i in range(300))
PARAMETERS = GateParameters(margin=0.05, resamples=500)


def evidence(name: str, level: float, noise: float = 0.1) -> ScoredCaptions:
    own = np.random.default_rng(abs(hash(level)) % 1000).normal(0, noise, len(IDS))
    values = np.random.default_rng(1).gamma(2.0, 0.4, len(IDS)) + level + own - own.mean()
    captions = {image_id: f"a dog {place} outside" for place, image_id in enumerate(IDS)}
    return ScoredCaptions(
        name, "set", captions, Scores(IDS, {"CIDEr": np.column_stack([values, np.ones(300)])})
    )


def decided_on_anchor(candidate: float, champion: float, anchor: float) -> GateDecision:
    new, old = evidence("candidate", candidate), evidence("version 2", champion)
    decision = decide(new, old, PARAMETERS)
    return decide_on_anchor(decision, new, old, evidence("version 1", anchor), 1, PARAMETERS)


def test_a_row_of_candidates_each_a_little_worse_ends_at_the_margin_below_the_anchor() -> None:
    """Without the anchor, each of these is let past, and the last is 15 points below the first."""
    levels = [0.0, -0.025, -0.05, -0.075, -0.10, -0.125, -0.15]
    for champion, candidate in pairwise(levels):
        assert decide(evidence("c", candidate), evidence("v", champion), PARAMETERS).promoted
    decision = decided_on_anchor(candidate=-0.075, champion=-0.05, anchor=0.0)
    assert not decision.promoted
    assert "the best served so far on this evaluation set" in decision.reason
    assert decision.anchor is not None and decision.anchor.difference.low < -PARAMETERS.margin
    assert "CIDEr against the anchor, version 1" in gate_report(decision)


def test_what_holds_against_both_is_promoted() -> None:
    decision = decided_on_anchor(candidate=-0.02, champion=-0.025, anchor=0.0)
    assert decision.promoted and decision.anchor is not None


def test_an_anchor_that_is_no_better_than_the_champion_adds_nothing() -> None:
    decision = decided_on_anchor(candidate=-0.02, champion=0.0, anchor=-0.1)
    assert decision.promoted and decision.anchor is None
    assert decision.notes == ("The champion is the best version so far on this evaluation set.",)


def test_the_anchor_is_asked_with_the_confidence_that_was_set() -> None:
    new, old, first = (evidence(*each) for each in (("c", -0.036), ("v", -0.03), ("1", 0.0)))
    decision = decide(new, old, PARAMETERS)
    assert decision.promoted
    for confidence, promoted in ((0.9, True), (0.999, False)):
        asked = PARAMETERS.model_copy(update={"anchor_confidence": confidence})
        assert decide_on_anchor(decision, new, old, first, 1, asked).promoted is promoted


pytestmark = pytest.mark.integration


def decided(promoted: bool = True, evaluation_set: str = "set") -> GateDecision:
    return GateDecision(
        promoted=promoted, reason="", candidate="it", champion=None, evaluation_set=evaluation_set,
        photos=2, margin=0.03, seed=0, difference=None, checks=(),
    )  # fmt: skip


@pytest.fixture
def version(registry, make_bundle, tmp_path):
    """Registers a version with a CIDEr and its captions, as the gate decided, and promotes it."""

    def make(
        name: str, cider: float, *, promoted: bool | None = True, kept: bool = True, photos: str = "set"
    ) -> int:
        folder = tmp_path / "evidence" / name
        EvaluationCaptions(evaluation_set=photos, captions={"1": name}).save(folder)
        made = registry.register(
            make_bundle(name), evidence=folder if kept else None, metrics={"CIDEr": cider}
        ).version
        if promoted is not None:
            registry.record_decision(made, decided(promoted, photos), "")
        registry.promote(made)
        return made

    return make


def found(registry, tmp_path: Path, photos: str = "set"):
    return find_anchor(registry, registry.champion(), photos, tmp_path / "fetched")


def test_the_best_version_served_is_the_anchor_and_not_the_one_before(registry, version, tmp_path) -> None:
    for name, cider in (("one", 3.0), ("two", 3.4), ("three", 3.3), ("four", 3.2)):
        version(name, cider)
    anchor = found(registry, tmp_path)
    assert (anchor.version, anchor.captions, anchor.note) == (2, {"1": "two"}, "")


def test_the_champion_is_its_own_anchor_where_it_is_the_best(registry, version, tmp_path) -> None:
    version("one", 3.0)
    version("two", 3.4)
    anchor = found(registry, tmp_path)
    assert anchor.version is None and "The champion is the best version so far" in anchor.note


def test_an_old_registry_without_captions_works_as_before_and_says_so(registry, version, tmp_path) -> None:
    version("one", 3.4, promoted=None, kept=False)
    version("two", 3.0, promoted=None, kept=False)
    anchor = found(registry, tmp_path)
    assert anchor.version is None and "there is no anchor" in anchor.note


def test_captions_of_another_set_make_no_anchor(registry, version, tmp_path) -> None:
    version("one", 3.4)
    version("two", 3.0)
    assert "there is no anchor" in found(registry, tmp_path, photos="another").note


def test_a_version_whose_captions_are_lost_gives_way_to_the_next(registry, version, tmp_path) -> None:
    version("one", 3.3)
    version("two", 3.4, kept=False)
    version("three", 3.0)
    anchor = found(registry, tmp_path)
    assert anchor.version == 1 and "captions that version 2 left cannot be read" in anchor.note


def test_what_was_refused_or_rolled_back_is_no_anchor(registry, version, tmp_path, make_bundle) -> None:
    version("one", 3.0)
    version("two", 3.4)
    registry.rollback()
    refused = registry.register(make_bundle("three"), metrics={"CIDEr": 9.0}).version
    registry.record_decision(refused, decided(promoted=False), "")
    version("four", 2.9)
    assert found(registry, tmp_path).version == 1


def test_what_people_promote_against_the_gate_is_a_new_beginning(registry, version) -> None:
    version("one", 3.4)
    version("two", 2.0, promoted=False)
    version("three", 2.1)
    assert [each.version for each in served_versions(registry.versions(), registry.champion())] == [3, 2]


def test_promoting_in_a_circle_ends(registry, version) -> None:
    version("one", 3.0)
    version("two", 3.1)
    registry.promote(1)
    assert [each.version for each in served_versions(registry.versions(), registry.champion())] == [1, 2]


def test_decisions_are_counted_by_evaluation_set_and_a_repeated_one_once(registry, version) -> None:
    version("one", 3.0, photos="old")
    version("two", 3.1)
    made = version("three", 3.2)
    registry.record_decision(made, decided(), "")
    assert count_decisions_on(registry, "old", None) == 1
    assert count_decisions_on(registry, "set", None) == 2
    assert count_decisions_on(registry, "set", registry.version(made)) == 1
    assert count_decisions_on(registry, "new", None) == 0
