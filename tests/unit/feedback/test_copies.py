from hypothesis import given, settings
from hypothesis import strategies as st
from ratings_for_tests import ratings

from captionloop.feedback.feedback_parameters import Copies
from captionloop.feedback.rating_filters import SimilarTexts, jaccard, repeated_corrections, word_pairs

COPIES = Copies(photos=3, share=0.0, similarity=0.7)
NAMES = ["a", "red", "blue", "dog", "cat", "on", "the", "grass", "near"]
WORDS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=9)


def test_one_text_for_many_photos_is_a_copy_even_where_it_is_varied() -> None:
    spam = [
        "buy the new red car from us now",
        "buy the new red car from us",
        "Buy the new RED car from us, now!",
    ]
    rows = [{"rater": f"person:{n}", "correction": spam[n % 3]} for n in range(6)]
    rows += [{"rater": "person:x", "correction": f"a {animal} on the grass"} for animal in ("dog", "cat")]
    rows += [{"rater": "person:y"}]
    assert repeated_corrections(ratings(*rows), COPIES).tolist() == [True] * 6 + [False] * 3


def test_many_people_who_say_the_same_of_one_photo_are_no_copies() -> None:
    rows = [
        {"rater": f"person:{n}", "photo": "one", "correction": "a red car on the street"} for n in range(9)
    ]
    assert not repeated_corrections(ratings(*rows), COPIES).any()


@settings(max_examples=50, deadline=None)
@given(WORDS, WORDS)
def test_likeness_is_symmetric_and_one_only_for_the_same_pairs(one, other) -> None:
    a, b = word_pairs(" ".join(one)), word_pairs(" ".join(other))
    assert jaccard(a, b) == jaccard(b, a)
    assert (jaccard(a, b) == 1) == (a == b)


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(WORDS, min_size=1, max_size=12))
def test_the_order_of_the_rows_does_not_matter(rng, texts) -> None:
    table = ratings(*({"rater": "person:a", "correction": " ".join(text)} for text in texts))
    order = list(table.index)
    rng.shuffle(order)
    assert (
        repeated_corrections(table.loc[order], COPIES)
        .sort_index()
        .equals(repeated_corrections(table, COPIES))
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=15), st.sampled_from([0.3, 0.5, 0.75, 1.0]))
def test_texts_that_are_alike_are_found_as_by_comparing_all_with_all(texts, least: float) -> None:
    pairs = {word_pairs(" ".join(text)) for text in texts}
    alike = SimilarTexts(pairs, least)
    for one in pairs:
        assert alike.similar_to(one) == {other for other in pairs if jaccard(one, other) >= least}
