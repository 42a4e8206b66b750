import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ratings_for_tests import served

from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import RatingInput, clean_line, clean_prose, now
from captionloop.ratings.usage_statistics import statistics

pytestmark = pytest.mark.integration


def test_a_caption_comes_back_as_it_was_served(store: RatingsStore) -> None:
    caption = served("one")
    store.record(caption).result(10)
    assert store.find("one") == caption


def test_rating_again_replaces_the_rating(store: RatingsStore) -> None:
    store.record(served("one")).result(10)
    first = store.rate("one", "key:b", RatingInput(2, "a cat", "no")).result(10)
    second = store.rate("one", "key:b", RatingInput(5)).result(10)
    assert second is not None and first is not None
    assert (second.stars, second.correction, second.comment) == (5, None, None)
    assert second.created_at == first.created_at and second.updated_at > first.updated_at
    assert store.rating("one", "key:b") == second


def test_the_same_rating_again_changes_nothing(store: RatingsStore) -> None:
    store.record(served("one")).result(10)
    first = store.rate("one", "key:b", RatingInput(3, None, "fine")).result(10)
    assert store.rate("one", "key:b", RatingInput(3, None, "fine")).result(10) == first


def test_only_captions_that_were_served_can_be_rated(store: RatingsStore) -> None:
    assert store.rate("never", "key:b", RatingInput(3)).result(10) is None


def test_erasing_takes_caption_ratings_and_photo(store: RatingsStore) -> None:
    caption = served("one")
    store.record(caption).result(10)
    store.rate("one", "key:b", RatingInput(3)).result(10)
    assert store.erase("one", owner="key:a").result(10) == [caption.photo.sha256]
    assert store.find("one") is None and store.rating("one", "key:b") is None
    assert store.ledger.in_archive(10) == [caption.photo.sha256]


def test_a_photo_that_another_caption_shows_is_not_erased(store: RatingsStore) -> None:
    store.record(served("one")).result(10)
    store.record(served("two")).result(10)
    assert store.erase("one", owner="key:a").result(10) == []
    assert store.find("two") is not None


def test_a_photo_sent_again_after_it_was_erased_counts_as_there(store: RatingsStore) -> None:
    store.record(served("one")).result(10)
    store.erase("one", owner=None).result(10)
    store.record(served("two")).result(10)
    assert store.ledger.in_archive(10) == []


def test_only_the_owner_erases(store: RatingsStore) -> None:
    store.record(served("one")).result(10)
    assert store.erase("one", owner="key:other").result(10) is None
    assert store.find("one") is not None


def test_retention_keeps_rated_captions_longer(store: RatingsStore) -> None:
    old, older = now() - timedelta(days=100), now() - timedelta(days=800)
    store.record(served("unrated", photo=b"1", created_at=old)).result(10)
    store.record(served("rated", photo=b"2", created_at=old)).result(10)
    store.record(served("ancient", photo=b"3", created_at=older)).result(10)
    store.record(served("new", photo=b"4")).result(10)
    for name in ("rated", "ancient"):
        store.rate(name, "key:b", RatingInput(3)).result(10)
    erased = store.expire(unrated=timedelta(days=90), rated=timedelta(days=730)).result(10)
    assert len(erased) == 2
    assert [store.find(name) is not None for name in ("unrated", "rated", "ancient", "new")] == [
        False, True, False, True,
    ]  # fmt: skip


def test_sixteen_raters_at_once_are_all_kept(store: RatingsStore) -> None:
    store.record(served("one")).result(10)

    def rate(rater: int) -> None:
        for stars in (1, 2, 3):
            store.rate("one", f"key:{rater}", RatingInput(stars)).result(30)

    threads = [threading.Thread(target=rate, args=(rater,)) for rater in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    totals = statistics(store.reader, 1).totals
    assert totals.ratings == 16 and totals.stars[3] == 16


def test_a_failing_operation_does_not_fail_those_in_its_commit(store: RatingsStore) -> None:
    def fail(_connection) -> None:
        raise ValueError("mine alone")

    store.record(served("one")).result(10)
    outcomes = [
        store.rate("one", "a", RatingInput(1)),
        store.writer.submit(fail),
        store.rate("one", "b", RatingInput(2)),
    ]
    with pytest.raises(ValueError, match="mine alone"):
        outcomes[1].result(10)
    assert outcomes[0].result(10) is not None and outcomes[2].result(10) is not None


def test_statistics_count_by_day_and_version(store: RatingsStore) -> None:
    yesterday = now() - timedelta(days=1)
    store.record(served("one", model_version="9", created_at=yesterday, confidence=0.25)).result(10)
    store.record(served("two", model_version="10", confidence=0.75)).result(10)
    store.rate("one", "a", RatingInput(2, "better")).result(10)
    store.rate("two", "a", RatingInput(5)).result(10)
    store.rate("two", "b", RatingInput(4)).result(10)
    summary = statistics(store.reader, 3)
    assert [day.captions for day in summary.by_day] == [0, 1, 1]
    assert [day.ratings for day in summary.by_day] == [0, 0, 3]
    assert [version for version, _ in summary.by_version] == ["10", "9"]
    assert summary.totals.mean_confidence == 0.5 and summary.totals.corrections == 1
    assert summary.by_version[0][1].mean_stars == 4.5
    assert summary.by_day[0].mean_stars is None


HOSTILE = [
    "'; DROP TABLE ratings; --",
    "<script>alert(1)</script>",
    "Robert\\'); --",
    "${jndi:ldap://x}",
    "\u202e\u0301 e\u0301 中文 🐕",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_kept_as_text(store: RatingsStore, text: str) -> None:
    store.record(served("one")).result(10)
    stored = store.rate("one", text[:80], RatingInput(1, text, text)).result(10)
    assert stored is not None and stored.correction == text and stored.comment == text


@given(st.text())
def test_cleaned_text_has_no_control_characters_and_stays_clean(text: str) -> None:
    for clean in (clean_line, clean_prose):
        try:
            once = clean(text)
        except ValueError:
            continue
        assert once is None or clean(once) == once
        assert once is None or "\x00" not in once


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b", "\x1b[31m"])
def test_what_is_not_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="control characters"):
        clean_line(text)


def test_a_persons_captions_are_read_and_erased_with_what_they_said(store: RatingsStore) -> None:
    for number in range(3):
        store.record(served(f"mine {number}", photo=b"%d" % number)).result(10)
    store.record(served("theirs", photo=b"other", owner="person:other")).result(10)
    owner = served("mine 0").owner
    store.rate("mine 1", owner, RatingInput(4)).result(10)
    store.rate("theirs", owner, RatingInput(1)).result(10)
    store.rate("theirs", "person:other", RatingInput(5)).result(10)
    found = store.of_owner(owner, 2)
    assert [caption.caption_id for caption, _ in found] == ["mine 2", "mine 1"]
    assert [rating and rating.stars for _, rating in found] == [None, 4]
    last = found[-1][0]
    following = store.of_owner(owner, 2, (last.created_at, last.caption_id))
    assert [caption.caption_id for caption, _ in following] == ["mine 0"]
    assert len(store.erase_person(owner).result(10) or []) == 3
    assert store.erase_person(owner).result(10) == [], "what they said of others'"
    assert store.erase_person(owner).result(10) is None
    assert store.of_owner(owner, 2) == [] and store.rating("theirs", owner) is None
    assert store.withdraw("theirs", "person:other").result(10)
    assert not store.withdraw("theirs", "person:other").result(10)
    assert store.find("theirs") is not None
