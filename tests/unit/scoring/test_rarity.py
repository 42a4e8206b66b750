import pytest

from captionloop.scoring.ngrams import Rarity

CAPTIONS_OF_PHOTOS = [
    ["a dog runs", "the dog is running"],
    ["a red boat", "one boat on water"],
    ["a cat", "the cat asleep"],
]


def test_words_that_everybody_says_of_everything_hardly_count():
    rarity = Rarity(CAPTIONS_OF_PHOTOS)
    assert rarity.similarity("a dog", "a boat") == pytest.approx(0)
    assert rarity.similarity("a dog", "the dog") > rarity.similarity("a dog", "a red dog")


def test_support_is_what_others_said_of_a_text_and_not_what_more_they_said():
    rarity = Rarity(CAPTIONS_OF_PHOTOS)
    assert rarity.support("a dog", CAPTIONS_OF_PHOTOS[0]) == 1
    assert rarity.support("a cat", CAPTIONS_OF_PHOTOS[0]) == 0
    assert 0 < rarity.support("a red dog", CAPTIONS_OF_PHOTOS[0]) < 1
    assert rarity.support("", CAPTIONS_OF_PHOTOS[0]) == rarity.support("a", CAPTIONS_OF_PHOTOS[0]) == 1
