"""Ratings of a canary, looked at after each."""

import math

import pytest

from captionloop.errors import ConfigurationError
from captionloop.registry.sequential import RatingComparison


def test_without_ratings_of_both_nothing_is_known() -> None:
    comparison = RatingComparison()
    assert comparison.add(5, of_candidate=True) == "not decided yet"
    assert comparison.interval == (-math.inf, math.inf)


def test_a_few_lucky_ratings_decide_nothing() -> None:
    comparison = RatingComparison()
    for _ in range(10):
        comparison.add(5, of_candidate=True)
        comparison.add(3, of_candidate=False)
    assert comparison.verdict == "not decided yet" and comparison.difference == 2


@pytest.mark.parametrize(("candidate", "verdict"), [((4, 5), "better"), ((2, 3), "worse")])
def test_a_clear_difference_is_told_before_the_end_and_stays_told(candidate, verdict) -> None:
    comparison = RatingComparison()
    for turn in range(400):
        comparison.add(candidate[turn % 2], of_candidate=True)
        comparison.add((3, 4)[turn % 2], of_candidate=False)
    assert comparison.verdict == verdict
    assert comparison.candidate.ratings + comparison.champion.ratings < 200
    assert comparison.add(1 if verdict == "better" else 5, of_candidate=True) == verdict


def test_after_the_planned_number_there_is_an_end() -> None:
    comparison = RatingComparison(most=40)
    for turn in range(20):
        comparison.add((3, 4)[turn % 2], of_candidate=True)
        comparison.add((3, 4)[turn % 2], of_candidate=False)
    assert comparison.verdict == "no difference shown"


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 1}, {"most": 3}, {"alpha": 0.7}])
def test_a_plan_that_cannot_be_is_refused(wrong) -> None:
    with pytest.raises(ConfigurationError, match="a share between 0 and 1"):
        RatingComparison(**wrong)
