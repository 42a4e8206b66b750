"""Ratings of a canary, looked at after each."""

import math

import pytest

from captionloop.errors import ConfigurationError
from captionloop.registry.canary_judgement import RatingComparison


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
    for number in range(400):
        comparison.add(candidate[number % 2], of_candidate=True)
        comparison.add((3, 4)[number % 2], of_candidate=False)
    assert comparison.verdict == verdict
    assert comparison.candidate.ratings + comparison.champion.ratings < 200
    assert comparison.add(1 if verdict == "better" else 5, of_candidate=True) == verdict


def test_after_the_planned_number_there_is_an_end() -> None:
    comparison = RatingComparison(max_ratings=40)
    for number in range(20):
        comparison.add((3, 4)[number % 2], of_candidate=True)
        comparison.add((3, 4)[number % 2], of_candidate=False)
    assert comparison.verdict == "no difference shown"


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 1}, {"max_ratings": 3}, {"alpha": 0.7}])
def test_a_plan_that_cannot_be_is_refused(wrong) -> None:
    with pytest.raises(ConfigurationError, match="a share between 0 and 1"):
        RatingComparison(**wrong)


def test_what_one_person_says_again_and_again_counts_for_less_than_two() -> None:
    comparison = RatingComparison()
    for _ in range(300):
        comparison.add(5, of_candidate=True, rater="fan")
        comparison.add(3, of_candidate=False, rater="critic")
    assert comparison.verdict == "not decided yet"
    assert comparison.candidate.weight == pytest.approx(2, abs=0.01) and comparison.candidate.ratings == 300
    assert (comparison.candidate.raters, comparison.difference) == (1, pytest.approx(2))


def test_ratings_of_many_people_count_as_if_nobody_was_told_apart() -> None:
    one, other = RatingComparison(), RatingComparison()
    for number in range(60):
        stars = (1, 4, 5, 3)[number % 4]
        one.add(stars, of_candidate=number % 2 == 0)
        other.add(stars, of_candidate=number % 2 == 0, rater=f"person {number}")
    assert one.interval == pytest.approx(other.interval) and one.candidate.weight == 30


def test_the_two_ends_of_the_interval_may_be_wrong_in_different_shares_of_cases() -> None:
    comparison = RatingComparison(alpha=0.04, alpha_worse=0.01)
    for number in range(100):
        comparison.add((3, 4)[number % 2], of_candidate=number % 3 == 0)
    low, high = comparison.interval
    assert comparison.difference - low < high - comparison.difference
