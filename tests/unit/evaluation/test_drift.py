from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from captionloop.evaluation.drift import DriftLimits, compare, two_sample_auc
from captionloop.evaluation.drift_report import drift_figure, drift_page
from captionloop.ratings.reader import Traffic

LIMITS = DriftLimits()
KNOWN = Counter(dict.fromkeys(("a", "red", "square", "blue", "circle"), 50))
REFERENCES = ("a red square", "a blue circle") * 40


def traffic(
    seed: int, n: int = 200, *, shift: float = 0.0, confidence: float = 0.7, words: int = 7, texts=REFERENCES,
    stars: float = 4.0,
) -> Traffic:  # fmt: skip
    generator = np.random.default_rng(seed)
    return Traffic(
        embeddings=generator.normal(shift, 1, (n, 32)).astype(np.float32),
        confidences=generator.normal(confidence, 0.1, n).clip(0, 1),
        lengths=generator.poisson(words, n).astype(float),
        texts=tuple(texts),
        stars=generator.normal(stars, 1, n).round().clip(1, 5),
    )


def report(served: Traffic, before: Traffic | None = None):
    return compare(served, (before or traffic(3)).stars, traffic(1), KNOWN, LIMITS)


def drifted(served: Traffic) -> set[str]:
    return {signal.name for signal in report(served).signals if signal.drifted}


@pytest.mark.parametrize("seed", range(10, 30))
def test_the_same_traffic_again_is_no_drift(seed: int) -> None:
    assert drifted(traffic(seed)) == set()


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"shift": 0.3}, "photos"),
        ({"confidence": 0.6}, "confidence"),
        ({"words": 10}, "length"),
        ({"texts": ("a snowy mountain", "a red square") * 20}, "words"),
        ({"stars": 3.2}, "ratings"),
    ],
)
def test_each_signal_speaks_up_for_its_own_change(changed, name) -> None:
    assert drifted(traffic(2, **changed)) == {name}


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_what_was_learnt_from_feedback_is_no_drift(share: float) -> None:
    there, learnt = traffic(1), traffic(4, confidence=0.5, words=12)
    reference = replace(there, from_feedback=learnt)
    sent, usual = traffic(5, confidence=0.5, words=12), traffic(6)
    mixed = [
        np.concatenate([getattr(sent, name)[: int(200 * share)], getattr(usual, name)[int(200 * share) :]])
        for name in ("confidences", "lengths")
    ]
    served = replace(usual, confidences=mixed[0], lengths=mixed[1])
    assert drifted_against(there, served) == {"confidence", "length"}
    assert drifted_against(reference, served) == set()
    assert drifted_against(reference, traffic(2, confidence=0.35)) == {"confidence"}
    assert drifted_against(reference, traffic(2, words=16)) == {"length"}


def drifted_against(reference: Traffic, served: Traffic) -> set[str]:
    drift_report = compare(served, traffic(3).stars, reference, KNOWN, LIMITS)
    return {signal.name for signal in drift_report.signals if signal.drifted}


def test_a_change_that_is_certain_but_small_is_no_drift() -> None:
    assert drifted(traffic(2, n=5000, confidence=0.72)) == set()


def test_people_being_more_content_is_no_drift() -> None:
    assert drifted(traffic(2, stars=5.0)) == set()


def test_with_too_little_nothing_is_claimed() -> None:
    drift_report = report(traffic(2, n=5, shift=9, texts=()), traffic(3, n=5))
    assert all(signal.value is None and not signal.drifted for signal in drift_report.signals)
    assert drift_report.sentence == "Too little to tell."
    assert "Too few captioned photos to tell: 5, 30 are needed." in drift_report.signals[0].sentence


def test_without_any_traffic_there_is_a_report_all_the_same() -> None:
    drift_report = compare(Traffic(), np.zeros(0), traffic(1), KNOWN, LIMITS)
    assert not drift_report.drifted
    assert drift_figure(drift_report, Traffic(), np.zeros(0), traffic(1), KNOWN).axes


def test_the_words_that_people_miss_are_named() -> None:
    drift_report = report(traffic(2, texts=("a snowy mountain", "a snowy hut") * 20))
    (words,) = [signal for signal in drift_report.signals if signal.name == "words"]
    assert "Most often: snowy" in words.sentence


def test_a_classifier_sees_no_difference_where_there_is_none() -> None:
    aucs = [
        two_sample_auc(traffic(s, 60).embeddings, traffic(s + 99, 300).embeddings, 0)[0] for s in range(20)
    ]
    assert abs(np.mean(aucs) - 0.5) < 0.03


def test_the_page_says_it_in_sentences_and_the_figure_has_a_panel_for_each(tmp_path) -> None:
    served = traffic(2, shift=0.4)
    drift_report = report(served)
    page = drift_page(drift_report, window="in the last week", version="5")
    assert page.startswith("# Drift in photos.")
    assert "- **Drifted.** People's photos are not like those of training" in page
    drawn = drift_figure(drift_report, served, traffic(3).stars, traffic(1), KNOWN)
    drawn.savefig(tmp_path / "drift.png")
    assert len(drawn.axes) == 5 and (tmp_path / "drift.png").stat().st_size > 20_000
