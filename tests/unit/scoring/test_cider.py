import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.cider.cider import Cider

from captionloop.errors import ScoringError
from captionloop.scoring.cider import CiderD

WORDS = ["a", "dog", "cat", "runs", "red", "on", "grass", "big"]
captions = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9)
corpora = st.lists(
    st.tuples(
        st.lists(captions, min_size=1, max_size=4),
        st.lists(st.sampled_from([*WORDS, "zebra", "yak"]), max_size=12),
    ),
    min_size=1,
    max_size=6,
)

EOS = 2
REFERENCES = {
    "1": [[4, 5, 6, 7, EOS], [4, 5, 6, EOS]],
    "2": [[8, 9, 10, 4, EOS], [8, 9, 11, EOS]],
    "3": [[12, 5, 13, 14, EOS]],
}


def pycoco(references, predictions):
    return Cider().compute_score(
        {key: [" ".join(map(str, caption)) for caption in captions] for key, captions in references.items()},
        {key: [" ".join(map(str, caption))] for key, caption in predictions.items()},
    )


@settings(max_examples=60, deadline=None)
@given(corpora)
def test_cider_is_that_of_pycocoevalcap(corpus):
    references = {str(row): references for row, (references, _) in enumerate(corpus)}
    predictions = {str(row): hypothesis for row, (_, hypothesis) in enumerate(corpus)}
    mean, per_image = CiderD(references).score(predictions)
    expected_mean, expected = pycoco(references, predictions)
    np.testing.assert_allclose(per_image, expected, atol=1e-9)
    assert mean == pytest.approx(expected_mean, abs=1e-9)


def test_token_ids_score_like_the_words_they_stand_for():
    rng = random.Random(3)
    references = {
        str(i): [[rng.choice(WORDS) for _ in range(rng.randint(1, 9))] for _ in range(3)] for i in range(9)
    }
    predictions = {key: rng.choice(captions)[::-1] for key, captions in references.items()}
    number = {word: 70_000 + i for i, word in enumerate(WORDS)}
    as_ids = CiderD({k: [[number[w] for w in c] for c in captions] for k, captions in references.items()})
    ids = {key: [number[word] for word in caption] for key, caption in predictions.items()}
    np.testing.assert_array_equal(as_ids.score(ids)[1], CiderD(references).score(predictions)[1])


def test_rewards_of_repeated_images_are_those_of_each_alone():
    cider = CiderD(REFERENCES)
    sampled = [[4, 5, 6, EOS], [4, 99, 99, 6, EOS], [8, 9, EOS], [], [12, 5, 13, 14, EOS]]
    ids = ["1", "1", "2", "2", "3"]
    together = cider.rewards(ids, sampled)
    alone = [
        cider.rewards([image_id], [sequence])[0] for image_id, sequence in zip(ids, sampled, strict=True)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-12)
    assert together[3] == 0


def test_a_caption_that_stops_too_early_loses_the_end_token():
    cider = CiderD(REFERENCES)
    ended, cut = cider.rewards(["1", "1"], [[4, 5, 6, EOS], [4, 5, 6]])
    assert ended > cut


def test_document_frequencies_can_come_from_another_corpus():
    corpus = {**REFERENCES, "4": [[4, 5, 6, 7, EOS]], "5": [[20, 21, EOS]]}
    alone = CiderD({"1": REFERENCES["1"]}, corpus=corpus)
    within = CiderD(corpus)
    hypothesis = [4, 5, 20, 21, EOS]
    assert alone.rewards(["1"], [hypothesis]) == pytest.approx(within.rewards(["1"], [hypothesis]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CiderD({}), "no references"),
        (lambda: CiderD({"1": []}), "'1' has no reference"),
        (lambda: CiderD(REFERENCES).rewards(["9"], [[4]]), "'9' has a caption to score but no references"),
        (lambda: CiderD(REFERENCES).rewards(["1"], [["dog"]]), "token ids"),
        (lambda: CiderD(REFERENCES).rewards(["1"], [[-1]]), "outside"),
        (lambda: CiderD(REFERENCES).rewards(["1"], []), "0 captions were given for 1 images"),
        (lambda: CiderD(REFERENCES).score({}), "no captions to score"),
    ],
)
def test_what_cannot_be_scored_is_said_in_one_line(make, message):
    with pytest.raises(ScoringError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
