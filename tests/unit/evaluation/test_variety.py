import pytest

from captionloop.evaluation.predictions import diversity
from captionloop.tokenizer import word_tokens


def test_words_are_lower_case_without_punctuation():
    assert word_tokens("A dog's T-shirt, (old) - 2 of them!") == [
        "a",
        "dog's",
        "t-shirt",
        "old",
        "2",
        "of",
        "them",
    ]


def test_variety_counts_what_was_said():
    found = diversity(
        {"1": "a dog runs", "2": "A dog runs.", "3": "a cat sleeps here"},
        known=["A dog runs!", "two birds"],
        vocabulary=12,
    )
    assert found["length"].value == pytest.approx(10 / 3)
    assert found["unseen"].value == pytest.approx(1 / 3)
    assert found["distinct_captions"].value == pytest.approx(2 / 3)
    assert found["distinct_words"].value == 6
    assert found["vocabulary_used"].value == 0.5
    assert found["length"].low <= found["length"].value <= found["length"].high
    assert found["distinct_words"].low == found["distinct_words"].high == 6
