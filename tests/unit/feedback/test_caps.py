import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ratings_for_tests import ratings

from captionloop.feedback.feedback_parameters import Caps
from captionloop.feedback.rating_filters import (
    beyond_cap,
    beyond_network,
    capped_networks,
    capped_shares,
    in_burst,
)

CAPS = Caps(person_per_day=3, key_per_day=5, burst=4, burst_seconds=60)


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_a_cap_holds_whatever_the_order(rng, count: int) -> None:
    table = ratings(*({"rater": "person:a", "minutes": 7 * n} for n in range(count)))
    order = list(table.index)
    rng.shuffle(order)
    shuffled = table.loc[order]
    beyond = beyond_cap(shuffled, CAPS)
    assert (~beyond).sum() == min(count, CAPS.person_per_day)
    assert beyond.sort_index().equals(beyond_cap(table, CAPS))


def test_the_earliest_ratings_of_a_day_count_and_the_next_day_begins_anew() -> None:
    table = ratings(*({"rater": "person:a", "minutes": n} for n in (9, 1, 2, 3, 24 * 60 + 1)))
    assert beyond_cap(table, CAPS).tolist() == [True, False, False, False, False]


def test_a_key_may_rate_more_than_a_person() -> None:
    table = ratings(*({"rater": "key:shop", "minutes": n} for n in range(7)))
    assert beyond_cap(table, CAPS).sum() == 2


def test_ratings_faster_than_one_can_look_are_a_burst_for_a_person_but_not_for_a_key() -> None:
    fast = [{"rater": rater, "minutes": n / 6} for rater in ("person:a", "key:b") for n in range(4)]
    slow = [{"rater": "person:c", "minutes": n} for n in range(4)]
    assert in_burst(ratings(*fast, *slow), CAPS).tolist() == [True] * 4 + [False] * 8


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.floats(0.01, 5)), min_size=1, max_size=60),
    st.floats(0.1, 0.9),
)
def test_no_rater_has_more_than_the_largest_share(given_weights, largest: float) -> None:
    raters = pd.Series([name for name, _ in given_weights])
    weights = pd.Series([weight for _, weight in given_weights])
    capped = capped_shares(weights, raters, largest)
    totals = capped.groupby(raters).sum()
    bound = max(largest, 1 / len(totals))
    assert (totals <= bound * totals.sum() + 1e-6).all()
    assert (capped <= weights + 1e-9).all() and (capped > 0).all()


def test_shares_below_the_cap_are_left_alone() -> None:
    raters, weights = pd.Series(list("abcd")), pd.Series([1.0, 1.0, 1.0, 1.0])
    assert capped_shares(weights, raters, 0.25).tolist() == pytest.approx([1, 1, 1, 1])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.floats(0.01, 5)), min_size=1, max_size=60
    ),
    st.floats(0.05, 0.5),
    st.floats(0, 10),
)
def test_no_network_has_more_than_its_share_or_what_is_free(rows, largest: float, free: float) -> None:
    networks = pd.Series([name for name, _ in rows], dtype=object)
    weights = pd.Series([weight for _, weight in rows])
    capped = capped_networks(weights, networks, largest, free)
    totals, before = capped.groupby(networks).sum(), weights.groupby(networks).sum()
    least = before.min() if len(before) else 0.0  # too few networks for such a share: all get the same
    assert (totals <= max(largest * capped.sum(), free, least) + 1e-6).all()
    assert (capped <= weights + 1e-9).all() and (capped > 0).all()
    assert capped[networks.isna()].equals(weights[networks.isna()])


def test_of_a_network_the_first_corrections_are_tested_with() -> None:
    networks = pd.Series(["evil"] * 5 + [None] * 8 + ["evil"], dtype=object)
    beyond = beyond_network(networks, 0.2, 1.0)
    assert beyond.tolist() == [False] * 2 + [True] * 3 + [False] * 8 + [True]
    assert not beyond_network(networks, 1.0, 0.0).any()
