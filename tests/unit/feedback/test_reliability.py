import random

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from ratings_for_tests import ratings

from captionloop.feedback.feedback_parameters import Reliability
from captionloop.feedback.rater_reliability import estimate_reliability

PRIOR = Reliability()


def simulated_ratings(honest: int, liars: int, captions: int, each: int, seed: int = 0) -> pd.DataFrame:
    """Honest raters are right 9 times of 10, liars never; every second caption is good."""
    rng, rows = random.Random(seed), []
    for number in range(honest + liars):
        for caption in rng.sample(range(captions), each):
            truth = caption % 2 == 0
            says = (truth if rng.random() < 0.9 else not truth) if number < honest else not truth
            name = f"person:{'h' if number < honest else 'l'}{number}"
            rows.append({"rater": name, "stars": 5 if says else 1, "caption": f"c{caption}"})
    return ratings(*rows)


def accuracies(scores) -> dict[str, float]:
    return dict(zip(scores.raters["rater"], scores.raters["accuracy"], strict=True))


def test_honest_raters_are_believed_and_liars_are_not() -> None:
    scores = estimate_reliability(simulated_ratings(14, 6, 40, 15), {}, {}, PRIOR)
    found = accuracies(scores)
    assert min(v for k, v in found.items() if ":h" in k) > max(v for k, v in found.items() if ":l" in k)
    right = [(good > 0.5) == (int(name[1:]) % 2 == 0) for name, good in scores.good.items()]
    assert sum(right) / len(right) > 0.95


def test_gold_items_decide_against_a_colluding_majority() -> None:
    table = simulated_ratings(6, 14, 40, 15)
    gold = {f"c{n}": n % 2 == 0 for n in range(12)}
    lost, saved = (
        accuracies(estimate_reliability(table, {}, {}, PRIOR)),
        accuracies(estimate_reliability(table, gold, {}, PRIOR)),
    )
    assert lost["person:h0"] < 0.5 < saved["person:h0"]
    assert saved["person:l19"] < 0.5


def test_a_strike_costs_trust() -> None:
    table = simulated_ratings(10, 0, 20, 4)
    clean, strike_counts = (
        estimate_reliability(table, {}, {}, PRIOR),
        estimate_reliability(table, {}, {"person:h3": 3}, PRIOR),
    )
    assert accuracies(strike_counts)["person:h3"] < 0.6 < accuracies(clean)["person:h3"]


def test_somebody_unknown_starts_at_the_prior() -> None:
    scores = estimate_reliability(ratings({"rater": "person:new", "stars": 5}), {}, {}, PRIOR)
    assert abs(accuracies(scores)["person:new"] - 0.75) < 0.02


def test_a_lone_vote_proves_nothing_about_its_rater() -> None:
    rows = [{"rater": "person:a", "stars": 5, "caption": f"c{n}"} for n in range(50)]
    assert abs(accuracies(estimate_reliability(ratings(*rows), {}, {}, PRIOR))["person:a"] - 0.9) < 0.1


ROWS = st.lists(
    st.tuples(st.sampled_from("abcde"), st.integers(1, 5), st.integers(0, 6)),
    max_size=40,
    unique_by=lambda r: (r[0], r[2]),
)


@settings(max_examples=25, deadline=None)
@given(ROWS, st.dictionaries(st.sampled_from("abcdez"), st.integers(0, 9)), st.randoms(use_true_random=False))
def test_weights_are_bounded_and_do_not_depend_on_the_order(rows, strikes, rng) -> None:
    made = [{"rater": f"person:{r}", "stars": s, "caption": f"c{c}"} for r, s, c in rows]
    table = ratings(*made)
    strike_counts = {f"person:{name}": count for name, count in strikes.items()}
    gold = {"c0": True, "c1": False}
    scores = estimate_reliability(table, gold, strike_counts, PRIOR)
    assert scores.raters["weight"].between(0, 1).all()
    assert all(0 <= good <= 1 for good in scores.good.values())
    order = list(table.index)
    rng.shuffle(order)
    again = estimate_reliability(table.loc[order], gold, strike_counts, PRIOR)
    pd.testing.assert_frame_equal(scores.raters, again.raters, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(ROWS)
def test_nobody_is_judged_worse_for_agreeing_with_a_gold_item(rows) -> None:
    made = [{"rater": f"person:{r}", "stars": s, "caption": f"c{c}"} for r, s, c in rows]
    before = estimate_reliability(ratings(*made, {"rater": "person:q", "stars": 3}), {"g": True}, {}, PRIOR)
    after = estimate_reliability(
        ratings(*made, {"rater": "person:q", "stars": 5, "caption": "g"}), {"g": True}, {}, PRIOR
    )
    assert accuracies(after)["person:q"] >= accuracies(before)["person:q"]
