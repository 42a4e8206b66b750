import pytest

from captionloop.captioner.model_config import Calibration, mean_confidence, sureness

WORDS = {"probability": (0.0, 1.0), "confidence": (0.0, 1.0)}


def test_a_caption_is_as_sure_as_all_of_its_words_at_once():
    assert sureness([0.5, 0.5]) == pytest.approx(0.25)
    assert sureness([1.0, 1.0]) == 1
    assert sureness([]) == sureness([0.0, 1.0]) == 0


def test_the_mean_of_words_does_not_depend_on_their_number():
    assert mean_confidence([0.5, 0.5]) == pytest.approx(0.5)
    assert mean_confidence([0.1, 0.9]) == pytest.approx(0.3)
    assert mean_confidence([]) == 0
    assert 0 <= mean_confidence([0.0, 1.0]) < 1e-5


def test_the_confidence_in_a_caption_is_how_often_such_captions_are_accepted():
    calibration = Calibration(**WORDS, sureness=(0.0, 0.5, 1.0), accepted=(0.0, 0.1, 0.6))
    assert calibration.of_caption([0.5, 1.0]) == pytest.approx(0.1)
    assert calibration.of_caption([1.0]) == pytest.approx(0.6)


def test_where_nobody_asked_how_often_it_is_what_it_always_was():
    assert Calibration(**WORDS).of_caption([0.1, 0.9]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("sure", "accepted"), [((0.0, 1.0), (0.5,)), ((0.5, 0.2), (0.1, 0.2)), ((0.1, 0.2), (0.9, 0.3))]
)
def test_a_curve_of_captions_rises_too(sure, accepted):
    with pytest.raises(ValueError, match="calibration"):
        Calibration(**WORDS, sureness=sure, accepted=accepted)
