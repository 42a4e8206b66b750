import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ratings_for_tests import ratings

from captionloop.feedback.feedback_parameters import Contradiction
from captionloop.feedback.rating_filters import contradicting
from captionloop.scoring.ngrams import Rarity

CORPUS = pd.DataFrame(
    [
        ("1", "a dog on the beach"),
        ("1", "a dog"),
        ("2", "a cat on the sofa"),
        ("3", "a red car on the road"),
        ("4", "a dog on the snow"),
    ],
    columns=["image_id", "text"],
)
RULES = Contradiction()


def rated(stars: int, text: str, correction: str | None) -> bool:
    row = ratings({"rater": "p", "stars": stars, "text": text, "correction": correction})
    return bool(contradicting(row, CORPUS, RULES).item())


def test_praise_for_a_caption_and_a_correction_that_has_nothing_of_it():
    assert rated(5, "a dog on the beach", "a cat on the sofa")
    assert rated(4, "a dog on the beach", "a red car on the road")


def test_a_bad_caption_may_be_replaced_altogether():
    assert not rated(2, "a dog on the beach", "a cat on the sofa")


def test_who_praises_may_better():
    assert not rated(5, "a dog on the beach", "two dogs and a cat on the beach")
    assert not rated(5, "a dog on the beach", None)


def test_nothing_is_told_where_no_word_is_rare():
    nothing = pd.DataFrame({"image_id": [], "text": []}, dtype=str)
    row = ratings({"rater": "p", "stars": 5, "text": "a dog", "correction": "the cat is here"})
    assert not contradicting(row, nothing, RULES).any()


def test_what_everybody_says_counts_nothing_and_the_rare_most():
    rarity = Rarity(CORPUS.groupby("image_id")["text"].agg(list))
    assert rarity.similarity("a dog", "a cat") == 0
    assert rarity.similarity("a red dog", "a red cat") > rarity.similarity(
        "the red dog", "a dog on a sofa in red snow"
    )
    assert rarity.similarity("a zebra", "one zebra") > rarity.similarity("a dog", "one dog")


words = st.lists(st.sampled_from(["a", "the", "dog", "cat", "red", "zebra", "beach", "on"]), min_size=1).map(
    " ".join
)


@given(words, words)
def test_likeness_is_a_similarity(one, other):
    rarity = Rarity(CORPUS.groupby("image_id")["text"].agg(list))
    assert 0 <= rarity.similarity(one, other) <= 1
    assert rarity.similarity(one, other) == pytest.approx(rarity.similarity(other, one))
    assert rarity.similarity(one, one) == 1


def test_rows_keep_their_places():
    rows = ratings(
        {"rater": "p", "stars": 1, "text": "a dog", "correction": None, "id": 1},
        {"rater": "p", "stars": 5, "text": "a dog", "correction": "red cat here", "id": 2},
    )
    rows.index = pd.Index([7, 3])
    assert contradicting(rows, CORPUS, RULES).to_dict() == {7: False, 3: True}
