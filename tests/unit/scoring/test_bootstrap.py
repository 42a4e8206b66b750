import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.errors import ScoringError
from captionloop.scoring.bleu import statistics
from captionloop.scoring.bootstrap import (
    bootstrap,
    paired_bootstrap,
    paired_differences,
    sign_flip_interval,
)
from captionloop.scoring.scores import Scores


def system(ciders, image_ids=None):
    values = np.asarray(ciders, float)
    ids = image_ids or tuple(f"i{n}" for n in range(len(values)))
    return Scores(tuple(ids), {"CIDEr": np.column_stack([values, np.ones_like(values)])})


def noisy(mean, seed, images=200):
    return np.random.default_rng(seed).normal(mean, 0.3, images)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=2, max_size=40), st.integers(0, 9))
def test_an_interval_holds_its_value(ciders, seed):
    found = bootstrap(system(ciders), seed=seed, resamples=50)["CIDEr"]
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(np.mean(ciders))


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says():
    values = noisy(1.0, 0, images=900)
    found = bootstrap(system(values), resamples=4000)["CIDEr"]
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(900), rel=0.06)


def test_the_same_seed_draws_the_same_images():
    scores = system(noisy(1, 1))
    assert bootstrap(scores, seed=5) == bootstrap(scores, seed=5)
    assert bootstrap(scores, seed=5) != bootstrap(scores, seed=6)


def test_bleu_is_resampled_from_counts_not_from_means_of_images():
    pairs = [
        ("a dog runs", ["a dog runs fast"]),
        ("a cat", ["the cat sat on a mat"]),
        ("two birds fly", ["birds"]),
    ]
    scores = Scores(("1", "2", "3"), {"BLEU": statistics(pairs)})
    twice = scores.weighted(np.array([[2.0, 0.0, 1.0]]))
    with_copy = Scores(("1", "1b", "3"), {"BLEU": statistics([pairs[0], pairs[0], pairs[2]])})
    assert {metric: values[0] for metric, values in twice.items()} == pytest.approx(
        with_copy.values, abs=1e-15
    )


def test_a_system_compared_with_itself_is_no_better():
    found = paired_bootstrap(system(noisy(1, 2)), system(noisy(1, 2)), "CIDEr")
    assert (found.interval.value, found.interval.low, found.interval.high) == (0, 0, 0)
    assert found.probability == 0.5


def test_pairing_finds_a_small_gain_that_unpaired_intervals_hide():
    base = noisy(1, 3)
    a, b = system(base), system(base + np.random.default_rng(4).normal(0.02, 0.02, len(base)))
    found = paired_bootstrap(a, b, "CIDEr")
    assert found.interval.low > 0
    assert found.probability > 0.99
    assert bootstrap(a)["CIDEr"].high > bootstrap(b)["CIDEr"].low


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99))
def test_swapping_two_systems_turns_the_difference_around(seed):
    a, b = system(noisy(1, seed, 30)), system(noisy(1.05, seed + 1, 30))
    there, back = (paired_bootstrap(*pair, "CIDEr", resamples=200) for pair in ((a, b), (b, a)))
    assert there.interval.value == pytest.approx(-back.interval.value)
    assert there.interval.low == pytest.approx(-back.interval.high)
    assert there.probability == pytest.approx(1 - back.probability)


def test_the_order_of_images_does_not_matter():
    values = noisy(1, 5)
    ids = tuple(f"i{n}" for n in range(len(values)))
    turned = system(values[::-1], ids[::-1])
    assert paired_bootstrap(system(values, ids), turned, "CIDEr").probability == 0.5


def test_systems_scored_on_different_images_are_not_compared():
    with pytest.raises(ScoringError, match="different images"):
        paired_bootstrap(system([1, 2]), system([1, 2], ("i0", "i9")), "CIDEr")
    with pytest.raises(ScoringError, match="no metric 'BLEU-9'"):
        paired_bootstrap(system([1, 2]), system([1, 2]), "BLEU-9")
    with pytest.raises(ScoringError, match="0 resamples"):
        bootstrap(system([1, 2]), resamples=0)


def test_a_wider_interval_is_asked_for_by_its_confidence():
    a, b = system(noisy(1.0, 1)), system(noisy(1.0, 2))
    wide, usual = (
        paired_bootstrap(a, b, "CIDEr", confidence=confidence).interval for confidence in (0.99, 0.95)
    )
    assert wide.low < usual.low < usual.high < wide.high


def test_differences_are_paired_by_image_whatever_the_order():
    a = system([1, 2, 3])
    assert paired_differences(a, system([30, 20, 10], ["i2", "i1", "i0"]), "CIDEr").tolist() == [9, 18, 27]


def test_equal_systems_on_few_images_are_told_apart_in_no_more_cases_than_is_said():
    """Heavy tails and few images, where the percentiles of a bootstrap err too often (test of the test)."""
    rng, exact, percentiles = np.random.default_rng(0), 0, 0
    trials = 1500
    for _ in range(trials):
        values = rng.choice([-1, 1], 15) * rng.gamma(0.5, 2.0, 15)
        found = sign_flip_interval(values, resamples=400, seed=int(rng.integers(1000)))
        exact += found.high < 0
        means = rng.multinomial(15, np.full(15, 1 / 15), size=400) @ values / 15
        percentiles += np.percentile(means, 97.5) < 0
    assert exact / trials <= 0.025 + 0.01  # two and a half standard errors
    assert percentiles / trials > 0.035


def test_the_interval_of_flips_finds_a_difference_and_of_none_is_none():
    found = sign_flip_interval(noisy(-0.1, 3), resamples=2000)
    assert found.low < found.value < found.high < 0
    nothing = sign_flip_interval(np.zeros(30))
    assert (nothing.low, nothing.value, nothing.high) == (0, 0, 0)
