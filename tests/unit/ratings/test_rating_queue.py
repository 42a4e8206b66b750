"""Who is shown what to rate, and who may rate it then."""

from collections.abc import Callable, Iterator

import pytest
from ratings_for_tests import served
from sqlalchemy import select

from captionloop.ratings.networks import forget_salts, network_block, network_name
from captionloop.ratings.rating_queue import RatingQueue
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import CORPUS, NetworkSalt, Offer, Rating, RatingInput
from captionloop.ratings.usage_statistics import count_ratings

pytestmark = pytest.mark.integration


@pytest.fixture
def store(database_url: str) -> Iterator[RatingsStore]:
    store = RatingsStore(database_url)
    yield store
    store.close()


def queue(store: RatingsStore, share: float = 0.2, chance: Callable[[], float] = lambda: 0.9) -> RatingQueue:
    return RatingQueue(store.reader, store.writer, share, chance)


def keep(store: RatingsStore, name: str, **changes) -> None:
    store.record(served(name, photo=name.encode(), **changes)).result(10)


def add_gold(store: RatingsStore, count: int) -> None:
    for number in range(count):
        keep(
            store, f"gold {number}", owner=CORPUS, shared=True, known_good=number % 2 == 0,
            sent_sha256=f"{number:064d}",
        )  # fmt: skip


def show(queue: RatingQueue, rater: str) -> str | None:
    found = queue.following(rater)
    if found is None:
        return None
    assert queue.offer(found.caption_id, rater).result(10)
    return found.caption_id


def test_only_captions_whose_owner_agreed_are_shown_and_not_to_the_owner(store: RatingsStore) -> None:
    keep(store, "private")
    keep(store, "shared", shared=True, owner="person:a")
    assert show(queue(store), "person:a") is None
    assert show(queue(store), "person:b") == "shared"


def test_what_was_shown_is_shown_again_until_it_is_rated_or_skipped(store: RatingsStore) -> None:
    for name in ("one", "two", "three"):
        keep(store, name, shared=True, owner="person:a")
    ours = queue(store)
    first = show(ours, "person:b")
    assert first is not None and show(ours, "person:b") == first
    assert store.rate(first, "person:b", RatingInput(4)).result(10) is not None
    second = show(ours, "person:b")
    assert second not in {None, first}
    ours.skip(str(second), "person:b").result(10)
    third = show(ours, "person:b")
    assert {first, second, third} == {"one", "two", "three"}
    ours.skip(str(third), "person:b").result(10)
    assert show(ours, "person:b") is None


def test_the_caption_with_the_fewest_ratings_is_next(store: RatingsStore) -> None:
    for name in ("one", "two"):
        keep(store, name, shared=True, owner="person:a")
    store.rate("two", "person:a", RatingInput(3)).result(10)
    assert show(queue(store), "person:b") == "one"


def test_what_is_shown_to_others_may_be_rated_by_its_owner_and_whom_it_was_shown_to_alone(
    store: RatingsStore,
) -> None:
    keep(store, "shared", shared=True, owner="person:a")
    keep(store, "private", owner="person:a")
    assert store.rate("shared", "person:x", RatingInput(5)).result(10) is None
    assert store.rate("private", "person:x", RatingInput(5)).result(10) is not None, "told its id"
    assert show(queue(store), "person:b") == "shared"
    for rater in ("person:a", "person:b"):
        assert store.rate("shared", rater, RatingInput(5)).result(10) is not None
    assert store.rate("shared", "person:x", RatingInput(5)).result(10) is None
    shown = queue(store).shown("shared", "person:b")
    assert shown is not None and shown.photo_sha256 == served("x", photo=b"shared").photo.sha256
    assert queue(store).shown("shared", "person:x") is None


def test_a_gold_item_is_rated_by_nobody_whom_it_was_not_shown_to(store: RatingsStore) -> None:
    add_gold(store, 1)
    assert store.rate("gold 0", "person:x", RatingInput(5)).result(10) is None


def test_a_stranger_gets_gold_items_every_other_time_good_and_bad_in_turn(store: RatingsStore) -> None:
    add_gold(store, 8)
    for number in range(8):
        keep(store, f"other {number}", shared=True, owner="person:a")
    ours = queue(store, chance=lambda: 0.4)
    kinds = []
    for _ in range(2):
        name = str(show(ours, "person:b"))
        kinds.append(int(name.split()[1]) % 2 == 0)
        store.rate(name, "person:b", RatingInput(5 if kinds[-1] else 1)).result(10)
    assert sorted(kinds) == [False, True]
    assert str(show(ours, "person:b")).startswith("other"), "they are known now: 0.4 is no gold item any more"
    assert str(show(queue(store, chance=lambda: 0.6), "person:c")).startswith("other")
    assert str(show(queue(store, share=0.0, chance=lambda: 0.0), "person:d")).startswith("other")
    assert str(show(ours, "key:shop")).startswith("other"), "a key need not become known"


def test_a_stranger_who_finds_everything_bad_stays_one(store: RatingsStore) -> None:
    add_gold(store, 8)
    ours = queue(store, share=0.01, chance=lambda: 0.4)
    for _ in range(8):
        store.rate(str(show(ours, "person:b")), "person:b", RatingInput(1)).result(10)
    assert show(ours, "person:b") is None


def test_what_is_erased_is_shown_to_nobody(store: RatingsStore) -> None:
    keep(store, "shared", shared=True, owner="person:a")
    ours = queue(store)
    found = ours.following("person:b")
    assert found is not None
    store.erase("shared", owner="person:a").result(10)
    assert not ours.offer("shared", "person:b").result(10), "erased between looking and noting"
    assert show(ours, "person:b") is None
    keep(store, "again", shared=True, owner="person:a")
    assert show(ours, "person:b") == "again"
    store.erase("again", owner="person:a").result(10)
    assert ours.shown("again", "person:b") is None and show(ours, "person:b") is None


def test_a_person_who_is_erased_was_shown_nothing(store: RatingsStore) -> None:
    keep(store, "shared", shared=True, owner="person:a")
    show(queue(store), "person:b")
    while store.erase_person("person:b").result(10) is not None:
        pass
    with store.reader.connect() as connection:
        assert connection.execute(select(Offer)).all() == []


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("8.8.8.8", "8.8.8.0/24"), ("::ffff:8.8.4.4", "8.8.4.0/24"),
        ("2606:4700:1:2::1", "2606:4700:1::/48"), ("2606:4700:1:2::/64", "2606:4700:1::/48"),
        ("127.0.0.1", None), ("10.1.2.3", None), ("fd00::1", None), ("unknown", None),
    ],
)  # fmt: skip
def test_the_block_of_an_address_is_that_of_a_public_network(address: str, block: str | None) -> None:
    assert network_block(address) == block


def test_networks_can_be_told_apart_on_one_day_and_not_after_it(
    store: RatingsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    from captionloop.ratings import networks

    keep(store, "one")
    names = {}
    for rater, block in (("a", "8.8.8.0/24"), ("b", "8.8.8.0/24"), ("c", "9.9.9.0/24"), ("d", None)):
        store.rate("one", rater, RatingInput(3), block).result(10)
    with store.reader.connect() as connection:
        names = dict(connection.execute(select(Rating.rater, Rating.network)).tuples().all())
        (salt,) = connection.scalars(select(NetworkSalt.salt)).all()
    assert names["a"] == names["b"] != names["c"] and names["d"] is None
    assert "8.8" not in str(names["a"])
    tomorrow = networks.now() + timedelta(days=1)
    monkeypatch.setattr(networks, "now", lambda: tomorrow)
    again = store.writer.submit(lambda connection: network_name(connection, "8.8.8.0/24")).result(10)
    assert again != names["a"]
    with store.reader.connect() as connection:
        assert salt not in connection.scalars(select(NetworkSalt.salt)).all()
    assert store.writer.submit(forget_salts).result(10) == 0


def test_ratings_of_people_who_are_not_known_are_not_counted(store: RatingsStore) -> None:
    add_gold(store, 2)
    keep(store, "one")
    ours = queue(store, chance=lambda: 0.1)
    for rater, bad in (("person:known", 1), ("person:hater", 1), ("person:fan", 5)):
        good = 1 if rater == "person:hater" else 5
        for _ in range(2):
            name = str(show(ours, rater))
            store.rate(name, rater, RatingInput(good if name == "gold 0" else bad)).result(10)
    for rater in ("person:known", "person:hater", "person:fan", "person:new", "key:shop"):
        store.rate("one", rater, RatingInput(2)).result(10)
    assert count_ratings(store.reader, None) == 5
    assert count_ratings(store.reader, None, 2) == 2, "of who is known, and of the key"
    assert count_ratings(store.reader, None, 1) == 4
