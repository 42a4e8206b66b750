"""What confidence in a caption means: that a person would accept it."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from captionloop.evaluation.calibration import acceptable, as_calibration, calibrate
from captionloop.evaluation.evaluation_set import CalibrationParameters
from captionloop.evaluation.figures import reliability_figure
from captionloop.evaluation.model_card import confidence_section
from captionloop.evaluation.predictions import PredictedCaption, PredictedWord
from captionloop.vision.embedding import embed, learn_familiarity

THINGS = [f"thing{number}" for number in range(40)]
FEW = CalibrationParameters(least_ratings=20)


def references_of(thing: str) -> list[str]:
    return [f"a {thing} on the grass", f"one {thing} on the grass", f"a {thing} in the grass"]


def world(photos: int = 400, seed: int = 0) -> tuple[dict[str, PredictedCaption], dict[str, list[str]]]:
    """Captions that name the right thing as often as they are sure of it, squared; all else is right."""
    random = np.random.default_rng(seed)
    predictions, references = {}, {}
    for number in range(photos):
        thing, other = random.choice(THINGS, 2, replace=False)
        sure = float(random.uniform(0.1, 1))
        named = thing if random.random() < sure**2 else other
        words = [("a", 0.99), (named, sure), ("on", 0.99), ("the", 0.99), ("grass", 0.99)]
        references[str(number)] = references_of(thing)
        predictions[str(number)] = PredictedCaption(
            caption=" ".join(text for text, _ in words),
            log_probability=-1,
            words=tuple(PredictedWord(text=text, confidence=confidence) for text, confidence in words),
        )
    return predictions, references


def test_a_person_accepts_what_people_say_and_not_what_is_said_of_something_else():
    references = {"1": references_of("dog"), "2": references_of("boat")}
    predictions = {"1": "a dog on the grass", "2": "a dog on the grass"}
    assert acceptable(predictions, references, 1.05).tolist() == [1, 0]


def test_where_only_one_person_spoke_nobody_knows_what_people_accept():
    references = {"1": ["a dog"], "2": references_of("boat")}
    assert acceptable({"1": "a dog", "2": "a boat"}, references, 1.05) is None
    assert acceptable({"2": "a boat"}, references, 1.05) is None


def test_confidence_is_how_often_captions_are_accepted_on_photos_not_seen():
    predictions, references = world()
    report = calibrate("m", "val", predictions, references, CalibrationParameters())
    found = report.acceptance
    assert found.captions == 400 and 0.2 < found.share < 0.6
    assert found.error_after < 0.08
    known = as_calibration(report)
    fresh, people = world(1500, seed=1)
    right = acceptable({name: one.caption for name, one in fresh.items()}, people, 1.05)
    confidences = np.array(
        [known.of_caption([known(word.confidence) for word in one.words]) for one in fresh.values()]
    )
    for low, high in ((0.0, 0.3), (0.3, 0.6), (0.6, 1.0)):
        such = (confidences >= low) & (confidences < high)
        assert such.sum() > 100
        assert confidences[such].mean() == pytest.approx(right[such].mean(), abs=0.12)


def rated(count: int, accepted: float, seed: int = 0) -> pd.DataFrame:
    """People who accept this share of captions, however sure."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "sureness": random.uniform(0.5, 1, count),
            "accepted": (random.random(count) < accepted).astype(float),
        }
    )


def mean_confidence(ratings: pd.DataFrame | None, parameters: CalibrationParameters = FEW) -> float:
    predictions, references = world(200)
    report = calibrate("m", "val", predictions, references, parameters, rated=ratings)
    known = as_calibration(report)
    return float(np.mean([np.interp(sure, known.sureness, known.accepted) for sure in np.linspace(0.5, 1)]))


def test_enough_ratings_have_the_last_word():
    assert mean_confidence(rated(300, 0.9)) == pytest.approx(0.9, abs=0.07)
    assert mean_confidence(rated(300, 0.1)) == pytest.approx(0.1, abs=0.1)


def test_a_few_ratings_say_less_and_fewer_nothing():
    alone, few = mean_confidence(None), mean_confidence(rated(20, 0.95))
    assert alone < few < 0.95
    assert mean_confidence(rated(19, 0.95)) == alone


def test_the_report_says_how_many_ratings_there_were_and_what_they_changed():
    predictions, references = world(200)
    report = calibrate("m", "val", predictions, references, FEW, rated=rated(300, 0.9)).acceptance
    assert report.ratings == 300
    assert report.ratings_after < report.ratings_before


class Looks:
    """Features of photos: the corpus at 0, the feedback at 50."""

    def means(self, sha256s, view="whole"):
        random = [np.random.default_rng(int(sha256[:8], 16)) for sha256 in sha256s]
        far = [50.0 if sha256.endswith("f") else 0.0 for sha256 in sha256s]
        return np.stack([one.normal(size=64) + of for one, of in zip(random, far, strict=True)]).astype(
            np.float32
        )


def named(number: int, last: str) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:-1] + last


def learnt(feedback: int):
    rows = [{"sha256": named(n, "0"), "split": "train", "source": "corpus"} for n in range(300)]
    rows += [{"sha256": named(n, "f"), "split": "train", "source": "feedback"} for n in range(feedback)]
    rows += rows[-feedback:] if feedback else []  # shown again under another id
    validation = [named(n, "0") for n in range(1000, 1100)]
    rows += [{"sha256": one, "split": "val", "source": "corpus"} for one in validation]
    return learn_familiarity(pd.DataFrame(rows), Looks(), validation)


def test_what_came_with_feedback_is_familiar_once_it_was_taught():
    sent = embed(Looks().means([named(n, "f") for n in range(2000, 2030)]))
    assert not any(one.familiar for one in learnt(0)(sent))
    trained = learnt(40)
    assert len(trained.training) == 340
    assert sum(one.familiar for one in trained(sent)) > 25


def test_the_card_and_the_figure_show_what_confidence_in_captions_is_worth(captioner):
    predictions, references = world(200)
    report = calibrate(captioner.name, "val", predictions, references, FEW, rated=rated(300, 0.9))
    drawn = reliability_figure([report, report.model_copy(update={"acceptance": None})])
    assert [panel.get_xlabel() for panel in drawn.axes][:3] == [
        "confidence of a word",
        "confidence of a word",
        "confidence of a caption",
    ]
    card = confidence_section(report)
    assert "Of 200 captions" in card and "300 captions that people rated have the last word" in card
    assert "captions" not in confidence_section(report.model_copy(update={"acceptance": None}))
