import pytest

from captionloop.scoring.ngrams import Rarity

SAID = [
    ["a dog runs", "the dog is running"],
    ["a red boat", "one boat on water"],
    ["a cat", "the cat asleep"],
]


def test_words_that_everybody_says_of_everything_hardly_count():
    rarity = Rarity(SAID)
    assert rarity.likeness("a dog", "a boat") == pytest.approx(0)
    assert rarity.likeness("a dog", "the dog") > rarity.likeness("a dog", "a red dog")


def test_support_is_what_others_said_of_a_text_and_not_what_more_they_said():
    rarity = Rarity(SAID)
    assert rarity.support("a dog", SAID[0]) == 1
    assert rarity.support("a cat", SAID[0]) == 0
    assert 0 < rarity.support("a red dog", SAID[0]) < 1
    assert rarity.support("", SAID[0]) == rarity.support("a", SAID[0]) == 1
