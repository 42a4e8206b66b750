"""Claims to answer a request once, on both kinds of database, and between two gateways."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from ratings_for_tests import served

from captionloop.ratings.idempotency_store import Claim, ClaimLostError, EarlierRequest, IdempotencyStore
from captionloop.ratings.rating_store import RatingsStore

pytestmark = pytest.mark.integration


@pytest.fixture
def repeats(store: RatingsStore) -> IdempotencyStore:
    return IdempotencyStore(store.writer, 60.0)


def begin(repeats: IdempotencyStore, caller: str = "key:1", key: str = "k", content: bytes = b"photo"):
    return repeats.begin(caller, key, content).result(20)


def test_of_two_gateways_one_gets_the_claim(store: RatingsStore, database_url: str) -> None:
    other = RatingsStore(database_url)
    try:
        gateways = [IdempotencyStore(each.writer, 60.0) for each in (store, other)]
        for round_number in range(20):
            with ThreadPoolExecutor() as pool:
                begun = list(
                    pool.map(
                        lambda gateway, round_number=round_number: begin(gateway, key=str(round_number)),
                        gateways * 2,
                    )
                )
            assert sum(isinstance(each, Claim) for each in begun) == 1
            assert all(
                each == EarlierRequest(None, is_same=True) for each in begun if not isinstance(each, Claim)
            )
    finally:
        other.close()


def test_the_caption_is_remembered_with_the_claim(store: RatingsStore, repeats: IdempotencyStore) -> None:
    claim = begin(repeats)
    store.record(served("c" * 22), claim).result(20)
    assert begin(repeats) == EarlierRequest("c" * 22, is_same=True)
    assert begin(repeats, content=b"another") == EarlierRequest("c" * 22, is_same=False)
    repeats.release(claim)
    assert begin(repeats) == EarlierRequest("c" * 22, is_same=True), "it was made, whoever heard of it"
    repeats.release(claim, even_if_done=True)
    assert isinstance(begin(repeats), Claim)


def test_a_claim_that_is_released_can_be_had_again(repeats: IdempotencyStore) -> None:
    repeats.release(begin(repeats))
    assert isinstance(begin(repeats, content=b"another"), Claim)


def test_a_gateway_that_is_gone_is_followed_and_can_make_nothing_any_more(store: RatingsStore) -> None:
    gone = IdempotencyStore(store.writer, 0.05)
    lost = begin(gone)
    time.sleep(0.1)
    claim = begin(IdempotencyStore(store.writer, 60.0))
    assert isinstance(claim, Claim) and claim != lost
    with pytest.raises(ClaimLostError):
        store.record(served("a" * 22), lost).result(20)
    assert store.find("a" * 22) is None
    store.record(served("b" * 22), claim).result(20)
    assert begin(gone) == EarlierRequest("b" * 22, is_same=True)


def test_names_cannot_be_cut_in_two_ways(repeats: IdempotencyStore) -> None:
    assert isinstance(begin(repeats, "key:1", "2"), Claim)
    assert isinstance(begin(repeats, "key:12", ""), Claim)
    assert isinstance(begin(repeats, "key:", "12"), Claim)
