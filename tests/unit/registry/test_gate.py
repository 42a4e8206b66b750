import json
import re
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.errors import RegistryError
from captionloop.registry.gate import (
    Check,
    Floors,
    GateDecision,
    GateParameters,
    Guardrails,
    decide,
    decide_on_fresh,
)
from captionloop.registry.gate_report import gate_report, readable_reason
from captionloop.registry.scored_captions import EvaluationCaptions, ScoredCaptions, evaluation_set_hash
from captionloop.scoring.scores import Scores

PHOTOS = 300
IDS = tuple(f"photo {i}" for i in range(PHOTOS))
NOUNS = [f"noun{i}" for i in range(40)]
REFERENCES = {image_id: ["a dog"] for image_id in IDS}

Captions = Callable[[int], str]


def varied(i: int) -> str:
    return f"a {NOUNS[i % 40]} near a {NOUNS[(7 * i) % 40]} outside"


def evidence(
    name: str = "candidate",
    *,
    shift: float = 0.0,
    noise: float = 0.1,
    captions: Captions = varied,
    rouge: float = 0.5,
    seconds: float | None = 0.02,
    ids: tuple[str, ...] = IDS,
    references: dict[str, list[str]] | None = None,
) -> ScoredCaptions:
    """A captioner whose CIDEr on a photo is that of all others, shifted, and disturbed by its own noise."""
    photos = len(ids)
    shared = np.random.default_rng(1).gamma(2.0, 0.4, photos)
    own = np.random.default_rng(zlib.crc32(name.encode())).normal(0, noise, photos) if noise else 0.0
    ones = np.ones(photos)
    return ScoredCaptions(
        name=name,
        evaluation_set=evaluation_set_hash(references or REFERENCES),
        captions={image_id: captions(i) for i, image_id in enumerate(ids)},
        scores=Scores(
            ids,
            {
                "ROUGE-L": np.column_stack([rouge * ones, ones]),
                "CIDEr": np.column_stack([shared + shift + own, ones]),
            },
        ),
        seconds_per_photo=seconds,
    )


PARAMETERS = GateParameters(margin=0.05, resamples=500)


def failed(decision: GateDecision) -> list[str]:
    return [check.name for check in decision.checks if not check.passed]


def test_an_equal_candidate_is_promoted() -> None:
    decision = decide(evidence("candidate", noise=0), evidence("version 1", noise=0), PARAMETERS)
    assert decision.promoted
    assert decision.difference.value == decision.difference.low == 0
    assert "no worse within the margin of 0.05 than that of version 1" in decision.reason


def test_a_better_candidate_is_promoted_as_better() -> None:
    decision = decide(evidence(shift=0.1), evidence("version 1"), PARAMETERS)
    assert decision.promoted
    assert decision.reason.startswith("Promoted: CIDEr is better than that of version 1")


def test_a_worse_candidate_is_refused() -> None:
    decision = decide(evidence(shift=-0.1), evidence("version 1"), PARAMETERS)
    assert not decision.promoted
    assert "is worse than that of version 1 by more than the margin" in decision.reason


def test_a_candidate_that_cannot_be_told_from_a_worse_one_is_refused() -> None:
    decision = decide(evidence(noise=2.0), evidence("version 1", noise=2.0), PARAMETERS)
    assert decision.difference.low < -PARAMETERS.margin < decision.difference.high
    assert not decision.promoted
    assert "may be worse" in decision.reason


@settings(max_examples=25, deadline=None)
@given(shift=st.floats(-0.5, 0.5), margin=st.floats(0.01, 0.4), noise=st.floats(0, 1))
def test_promoted_means_that_the_whole_interval_lies_above_the_margin(shift, margin, noise) -> None:
    parameters = GateParameters(margin=margin, resamples=200)
    decision = decide(evidence(shift=shift, noise=noise), evidence("version 1"), parameters)
    assert decision.promoted == (decision.difference.low >= -margin)
    assert decision.difference.low <= decision.difference.value <= decision.difference.high


def test_the_same_evidence_gives_the_same_decision() -> None:
    decisions = [decide(evidence(shift=0.01), evidence("version 1"), PARAMETERS) for _ in range(2)]
    assert decisions[0] == decisions[1]


@pytest.mark.parametrize(
    ("broken", "candidate"),
    [
        ("ROUGE-L", evidence(shift=0.2, rouge=0.4)),
        ("seconds per photo", evidence(shift=0.2, seconds=0.1)),
        ("words per caption", evidence(shift=0.2, captions=lambda i: f"{varied(i)} in the sun and the snow")),
        ("words per caption", evidence(shift=0.2, captions=lambda i: NOUNS[i % 40])),
        ("distinct words", evidence(shift=0.2, captions=lambda i: "a dog near a cat outside")),
        ("empty captions", evidence(shift=0.2, captions=lambda i: varied(i) if i else "")),
    ],
)
def test_a_better_cider_does_not_excuse_a_broken_guardrail(broken: str, candidate: ScoredCaptions) -> None:
    decision = decide(candidate, evidence("version 1"), PARAMETERS)
    assert not decision.promoted
    assert failed(decision) == [broken]
    assert f"a guardrail broke: {broken}" in decision.reason


def test_latency_is_no_guardrail_where_it_was_not_measured() -> None:
    decision = decide(evidence(shift=0.1, seconds=None), evidence("version 1"), PARAMETERS)
    assert decision.promoted
    assert "seconds per photo" not in [check.name for check in decision.checks]


def test_a_first_version_that_passes_the_floors_is_promoted() -> None:
    decision = decide(evidence(), None, PARAMETERS)
    assert decision.promoted
    assert decision.champion is None
    assert decision.difference is None


@pytest.mark.parametrize(
    ("broken", "candidate"),
    [
        ("CIDEr", evidence(shift=-0.8)),
        ("distinct captions per photo", evidence(captions=lambda i: " ".join(NOUNS[:25]))),
        (
            "distinct words",
            evidence(captions=lambda i: " ".join("a" if i >> bit & 1 else "b" for bit in range(9))),
        ),
        ("empty captions", evidence(captions=lambda i: varied(i) if i else " ")),
    ],
)
def test_a_first_version_must_pass_every_floor(broken: str, candidate: ScoredCaptions) -> None:
    decision = decide(candidate, None, PARAMETERS)
    assert not decision.promoted
    assert failed(decision) == [broken]
    assert broken in decision.reason


def test_other_references_are_no_basis_for_a_comparison() -> None:
    other = evidence("version 1", references={image_id: ["a cat"] for image_id in IDS})
    with pytest.raises(RegistryError, match="evaluated on different sets"):
        decide(evidence(), other, PARAMETERS)


def test_other_photos_are_no_basis_for_a_comparison() -> None:
    with pytest.raises(RegistryError, match="1 photos have a caption of only one"):
        decide(evidence(), evidence("version 1", ids=IDS[1:]), PARAMETERS)


def test_photos_may_come_in_any_order() -> None:
    one = evidence("version 1", noise=0)
    backwards = Scores(IDS[::-1], {name: rows[::-1] for name, rows in one.scores.per_image.items()})
    candidate = ScoredCaptions("candidate", one.evaluation_set, one.captions, backwards)
    assert decide(candidate, one, PARAMETERS).difference.low == 0


def test_the_evaluation_set_is_known_by_its_content() -> None:
    assert evaluation_set_hash({"1": ["a", "b"], "2": ["c"]}) == evaluation_set_hash(
        {"2": ["c"], "1": ["b", "a"]}
    )
    assert evaluation_set_hash({"1": ["a"]}) != evaluation_set_hash({"2": ["a"]})
    assert evaluation_set_hash({"1": ["a"]}) != evaluation_set_hash({"1": ["a", "a"]})


def test_captions_come_back_as_they_were_kept(tmp_path) -> None:
    kept = EvaluationCaptions(evaluation_set="abc", captions={"1": "a dog", "2": "ein Hündchen"})
    kept.save(tmp_path)
    assert EvaluationCaptions.load(tmp_path) == kept


@pytest.mark.parametrize("content", ["", "[]", '{"captions": 3, "evaluation_set": "a"}', '{"captions": {}}'])
def test_damaged_captions_are_one_clear_line(tmp_path, content: str) -> None:
    (tmp_path / "captions.json").write_text(content)
    with pytest.raises(RegistryError, match="cannot be read"):
        EvaluationCaptions.load(tmp_path)


def test_a_decision_survives_json() -> None:
    decision = decide(evidence(shift=0.01), evidence("version 1"), PARAMETERS)
    assert GateDecision.model_validate(json.loads(decision.model_dump_json())) == decision


def test_the_report_says_what_was_decided_and_why() -> None:
    decision = decide(evidence(shift=0.2, rouge=0.4), evidence("version 1"), PARAMETERS)
    report = gate_report(decision)
    assert report.startswith("# Not passed: candidate\n")
    assert readable_reason(decision.reason) in report
    assert "| ROUGE-L | 40.0 | 50.0 | ≥ 45.0 | **failed** |" in report


def test_page_and_verdict_know_one_scale_and_do_not_say_that_anything_was_promoted() -> None:
    refused = decide(evidence(shift=0.2, rouge=0.4), evidence("version 1"), PARAMETERS)
    passed = decide(evidence(shift=0.2), evidence("version 1"), PARAMETERS)
    worse = decide(evidence(shift=-0.2), evidence("version 1"), PARAMETERS)
    for decision in (refused, passed, worse, decide(evidence(), None, PARAMETERS)):
        text = gate_report(decision) + readable_reason(decision.reason)
        assert "romoted" not in text
        assert "margin of 0.0" not in text and not re.search(r"[+-]0\.\d{3}", text)
    assert readable_reason(passed.reason).startswith(
        "CIDEr is better than that of version 1 (difference +20.5, 95 %"
    )
    assert "guardrail broke: ROUGE-L is 40.0, at least 45.0 is wanted" in readable_reason(refused.reason)
    assert "by more than the margin of 5 points" in readable_reason(worse.reason)


@pytest.mark.parametrize("wrong", [{"margin": 0}, {"margin": -0.1}, {"resamples": 10}, {"marign": 0.1}])
def test_a_gate_that_cannot_decide_is_not_built(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        GateParameters(**wrong)


def test_guardrails_and_floors_can_be_set() -> None:
    strict = GateParameters(guardrails=Guardrails(slowest=1.0), floors=Floors(cider=5.0))
    assert not decide(evidence(shift=0.1, seconds=0.03), evidence("version 1"), strict).promoted
    assert not decide(evidence(), None, strict).promoted


FRESH = {f"fresh {i}": ["a dog"] for i in range(80)}


def on_fresh(shift: float, photos: int = 80, promoted: bool = True, noise: float = 0.1) -> GateDecision:
    references = dict(list(FRESH.items())[:photos])
    decision = decide(evidence("candidate", noise=0), evidence("version 1", noise=0), PARAMETERS)
    decision = decision.model_copy(update={"promoted": promoted})
    given = {"ids": tuple(references), "references": references, "noise": noise}
    return decide_on_fresh(
        decision, evidence("candidate", shift=shift, **given), evidence("version 1", **given), PARAMETERS
    )


def test_a_candidate_that_does_worse_on_fresh_feedback_is_refused() -> None:
    decision = on_fresh(-0.2)
    assert not decision.promoted
    assert "on 80 photos of fresh feedback, CIDEr is worse than that of version 1" in decision.reason
    assert failed(decision) == ["CIDEr difference on fresh feedback, high end of the 95 % interval"]


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_a_candidate_that_is_not_shown_to_be_worse_on_fresh_feedback_passes(shift: float) -> None:
    decision = on_fresh(shift)
    assert decision.promoted and decision.fresh is not None and decision.fresh.decides


def test_fresh_feedback_does_not_excuse_what_failed_on_the_frozen_set() -> None:
    assert not on_fresh(0.5, promoted=False).promoted


def test_too_few_fresh_photos_only_inform() -> None:
    decision = on_fresh(-0.2, photos=PARAMETERS.fresh_photos - 1)
    assert decision.promoted and decision.fresh is not None and not decision.fresh.decides
    assert "so few only inform" in gate_report(decision)


def test_other_fresh_feedback_is_no_basis_for_a_comparison() -> None:
    decision = decide(evidence("candidate", noise=0), evidence("version 1", noise=0), PARAMETERS)
    with pytest.raises(RegistryError, match="evaluated on different sets"):
        decide_on_fresh(decision, evidence("candidate"), evidence("v", references=FRESH), PARAMETERS)


def test_a_measure_that_is_no_number_passes_no_check() -> None:
    for bound in (Check.at_least, Check.at_most):
        assert not bound("CIDEr", float("nan"), 0.0).passed
        assert not bound("CIDEr", 0.5, float("nan")).passed
