"""From ratings in the database to whether a canary is promoted, taken back, or goes on."""

import importlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from captionloop.ratings.database import upgrade
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import PhotoFacts, RatingInput, ServedCaption
from captionloop.ratings.reader import RatingsDatabase
from captionloop.registry.canary_judgement import (
    CanaryAssessment,
    CanaryEvidence,
    CanaryRating,
    assess_canary,
    read_evidence,
    words_changed,
)
from captionloop.registry.model_version import ModelVersion
from captionloop.registry.trials import Plan, Trial

BEGAN = datetime(2026, 11, 22, 8, tzinfo=UTC)
SOON = BEGAN + timedelta(days=1)


def trial(share: float = 0.5, max_ratings: int = 400, *, is_void: bool = False) -> Trial:
    plan = Plan(role="canary", share=share, champion=4, began=BEGAN, most=max_ratings, days=14)
    return Trial(ModelVersion("captioner", 5, "f", BEGAN, "", "", aliases=("canary",)), plan, is_void)


def given(
    stars: Iterable[int], chosen: bool, *, corrected: bool = False, name: str = "p"
) -> list[CanaryRating]:
    """A rating each by people of one group."""
    people = (f"{name}{number}" for number in range(100_000))
    group = (each for each in people if trial().answers(each) == chosen)
    text, better = "a red dog on a hill", "a brown dog on the grass"
    return [
        CanaryRating(next(group), "5" if chosen else "4", each, text, better if corrected else None)
        for each in stars
    ]


def assessed(*groups: list[CanaryRating], now: datetime = SOON, **options) -> CanaryAssessment:
    """Their ratings in turn."""
    ratings = [rating for together in zip(*groups, strict=True) for rating in together]
    return assess_canary(trial(**options), CanaryEvidence(ratings, {}), now)


def test_stars_decide_for_it_and_against_it() -> None:
    good, poor = [4, 5] * 100, [3, 4] * 100
    promoted = assessed(given(good, True), given(poor, False))
    assert promoted.advice == "promote" and promoted.reason.startswith("+1.0")
    assert promoted.measures.stars.candidate.ratings < 100, "it ends with the rating that decides"
    back = assessed(given(poor, True), given(good, False))
    assert back.advice == "roll back" and back.reason.startswith("people give it fewer stars; -1.0")
    assert assessed(given(poor, True), given(poor, False)).advice == "stop"
    assert assessed(given(poor[:20], True), given(poor[:20], False)).advice == "extend"


def test_corrections_may_only_speak_against_it() -> None:
    stars = [3, 4] * 100
    back = assessed(given(stars, True, corrected=True), given(stars, False))
    assert back.advice == "roll back"
    assert "corrected more often" in back.reason or "words are changed" in back.reason
    fewer = assessed(given(stars, True), given(stars, False, corrected=True))
    assert fewer.advice == "stop", "equal stars, fewer corrections: not shown to be better"


def test_only_captions_by_the_version_of_ones_group_count() -> None:
    by_champion = [CanaryRating(each.rater, "4", 1, "a", None) for each in given([1] * 100, True)]
    asked_for = [CanaryRating(each.rater, "5", 1, "a", None) for each in given([1] * 100, False)]
    found = assessed(by_champion, asked_for)
    assert found.advice == "extend" and found.reason == "there are no ratings of both versions yet"


def test_one_fan_with_two_hundred_ratings_promotes_nothing() -> None:
    fan = given([5], True)[0]
    assert assessed([fan] * 200, given([3, 4] * 100, False)).advice == "extend"


def test_it_ends_with_its_days_or_its_champion() -> None:
    ratings = given([3, 4] * 10, True), given([3, 4] * 10, False)
    over = assessed(*ratings, now=BEGAN + timedelta(days=15))
    assert (over.advice, over.reason) == ("stop", "its 14 days are over, and 40 ratings show nothing")
    assert assessed(*ratings, is_void=True).reason == "version 4 is not the champion any more"


def test_a_canary_that_does_not_answer_is_ended_without_a_word_against_it() -> None:
    person, other = given([3], True)[0].rater, given([3], False)[0].rater
    evidence = CanaryEvidence([], {(person, "5"): 15, (person, "4"): 5, (other, "4"): 1000})
    found = assess_canary(trial(), evidence, SOON)
    assert (found.advice, found.answered, found.replaced) == ("stop", 15, 5)
    assert found.reason == "it does not answer: of 20 captions for its people the champion gave 5"
    fine = CanaryEvidence([], {(person, "5"): 19, (person, "4"): 1})
    assert assess_canary(trial(), fine, SOON).advice == "extend"


@pytest.mark.parametrize(
    ("text", "correction", "share"),
    [
        ("a dog", "a dog", 0),
        ("a red dog", "a brown dog", 1 / 3),
        ("a dog", "a small dog runs", 0.5),
        ("", "a", 1),
    ],
)
def test_words_are_counted_that_are_put_in_taken_out_or_exchanged(text, correction, share) -> None:
    assert words_changed(text, correction) == pytest.approx(share) == words_changed(correction, text)


def test_the_database_tells_of_own_captions_since_the_beginning(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ratings.db'}"
    upgrade(url)
    store = RatingsStore(url)
    person, other = given([3], True)[0].rater, given([3], False)[0].rater

    def caption(name: str, owner: str, version: str, minutes: float, model: str = "captioner") -> None:
        facts = PhotoFacts(
            sha256=name.ljust(64, "0"), media_type="image/jpeg", byte_count=1, width=1, height=1
        )
        store.record(
            ServedCaption(
                name, owner, facts, "a dog", 0.5, [], [], model, version, BEGAN + timedelta(minutes=minutes)
            )
        ).result()

    for number, (owner, version, minutes) in enumerate(
        [
            (person, "4", -5),
            (person, "4", 1),
            (person, "5", 2),
            (person, "4", 3),
            (other, "4", 4),
            (other, "3", 5),
        ]
    ):
        caption(f"c{number}", owner, version, minutes)
        store.rate(f"c{number}", owner, RatingInput(3, "a cat")).result()
    caption("else", person, "5", 6, "another")
    store.rate("else", person, RatingInput(1)).result()
    store.rate("c2", other, RatingInput(1)).result()  # of somebody else's photo
    found = read_evidence(RatingsDatabase(url), trial())
    store.close()
    assert [(each.rater, each.version) for each in found.ratings] == [
        (person, "4"), (person, "5"), (person, "4"), (other, "4"),
    ]  # fmt: skip
    assert found.ratings[0].correction == "a cat"
    assert found.captions == {(person, "5"): 1, (person, "4"): 1, (other, "4"): 1}


@pytest.mark.integration
def test_by_simulation_an_equal_version_is_rarely_promoted_or_taken_back(
    project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few hundred plays; `python -m benchmarks.canary_statistics` plays thousands."""
    monkeypatch.syspath_prepend(project_root)
    play_canary = importlib.import_module("benchmarks.canary_statistics").play_canary

    advice = play_canary(200, difference=0.0, per_person=3)
    assert advice["promote"] <= 16 and advice["roll back"] <= 16
    assert play_canary(100, difference=0.3, per_person=1)["promote"] >= 70
