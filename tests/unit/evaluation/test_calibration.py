import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.evaluation.calibration import (
    as_calibration,
    bins,
    calibrate,
    expected_error,
    word_correctness,
)
from captionloop.evaluation.evaluation_set import CalibrationParameters
from captionloop.evaluation.predictions import PredictedCaption, PredictedWord


def prediction(words):
    return PredictedCaption(
        caption=" ".join(text for text, _ in words),
        log_probability=-1,
        words=tuple(PredictedWord(text=text, confidence=confidence) for text, confidence in words),
    )


def overconfident(photos=300, seed=0):
    """Words of confidence c that are right in c squared of the cases."""
    random = np.random.default_rng(seed)
    captions, references = {}, {}
    for photo in range(photos):
        confidences = random.uniform(0.05, 1, 8)
        right = random.random(8) < confidences**2
        captions[str(photo)] = prediction([(f"w{i}", float(c)) for i, c in enumerate(confidences)])
        references[str(photo)] = [" ".join(f"w{i}" for i in range(8) if right[i]) or "nothing"]
    return captions, references


def test_a_word_is_right_when_any_person_used_it():
    words = word_correctness(
        {"1": prediction([("A", 0.9), ("dog", 0.5), ("t-shirt", 0.3)])},
        {"1": ["The cat.", "a T-shirt, a dog?"]},
    )
    assert words.right.tolist() == [1, 1, 1]
    words = word_correctness({"1": prediction([("dog", 0.5)])}, {"1": ["dogs"]})
    assert words.right.tolist() == [0]


def test_the_expected_calibration_error_is_the_mean_gap():
    confidence = np.array([0.95, 0.95, 0.15, 0.15])
    right = np.array([1.0, 0.0, 0.0, 0.0])
    assert expected_error(bins(confidence, right, 10)) == pytest.approx((2 * 0.45 + 2 * 0.15) / 4)


def test_certainty_has_a_bin():
    assert bins(np.array([1.0, 0.0]), np.array([1.0, 0.0]), 10)[-1].count == 1


@pytest.mark.parametrize("method", ["isotonic", "temperature"])
def test_calibration_makes_confidences_believable_on_photos_it_has_not_seen(method):
    captions, references = overconfident()
    report = calibrate("m", "val", captions, references, CalibrationParameters(method=method))
    assert report.error_before > 0.12
    assert report.error_after < 0.04
    curve = as_calibration(report)
    assert curve(0.5) == pytest.approx(0.25, abs=0.08)


def test_words_right_at_random_leave_no_confidence_to_learn():
    captions, references = overconfident(seed=1)
    shuffled = dict(zip(references, list(references.values())[::-1], strict=True))
    report = calibrate("m", "val", captions, shuffled, CalibrationParameters())
    assert max(report.confidence) - min(report.confidence) < 0.3


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.sampled_from(["isotonic", "temperature"]),
)
def test_a_fitted_curve_rises_and_stays_between_0_and_1(rows, method):
    captions = {str(i): prediction([("w", confidence)]) for i, (confidence, _) in enumerate(rows)}
    references = {str(i): ["w" if right else "x"] for i, (_, right) in enumerate(rows)}
    report = calibrate("m", "val", captions, references, CalibrationParameters(method=method))
    curve = as_calibration(report)  # refuses a curve that falls
    values = [curve(x) for x in np.linspace(0, 1, 11)]
    assert all(0 <= value <= 1 for value in values)
    assert 0 <= report.error_after <= 1
