"""People's captions come through a vocabulary as they were, in every language."""

import pytest
from captions_in_nine_languages import CAPTIONS_BY_LANGUAGE

from captionloop.languages import ENGLISH, language_of
from captionloop.scoring.scores import MIN_ROUND_TRIP_BLEU, try_round_trip


@pytest.mark.parametrize("code", sorted(CAPTIONS_BY_LANGUAGE))
def test_captions_are_themselves_after_a_round_trip(code):
    trip = try_round_trip(CAPTIONS_BY_LANGUAGE[code], language_of(code))
    assert trip.bleu_1 >= MIN_ROUND_TRIP_BLEU
    assert trip.warning is None
    assert trip.to_dict() == {"language": code, "captions": 24, "bleu_1": trip.bleu_1, "warning": None}


@pytest.mark.parametrize("code", ["fr", "it", "zh", "ja"])
def test_a_corpus_of_another_language_than_was_said_is_warned_about(code):
    trip = try_round_trip(CAPTIONS_BY_LANGUAGE[code], ENGLISH)
    assert "Set `language`" in trip.warning
    assert "\n" not in trip.warning


def test_nothing_is_said_of_captions_without_words():
    assert try_round_trip(["...", "!"], language_of("fr")).bleu_1 is None
