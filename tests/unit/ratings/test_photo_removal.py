"""What is begun is known, what is erased is remembered until it is gone everywhere."""

import threading
from datetime import timedelta

import pytest
from ratings_for_tests import served

from captionloop.ratings.database import open_engine, upgrade
from captionloop.ratings.photo_removal import Lease, Ledger
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import RatingInput

pytestmark = pytest.mark.integration

PHOTO = served("one").photo.sha256
NOW = timedelta(0)


@pytest.fixture
def ledger(store: RatingsStore) -> Ledger:
    return store.ledger


def test_a_photo_is_pending_until_its_caption_is_there(store: RatingsStore, ledger: Ledger) -> None:
    ledger.begin("one", PHOTO).result(10)
    assert ledger.referenced(PHOTO[:2]) == {PHOTO} and ledger.shown(PHOTO[:2]) == set()
    store.record(served("one")).result(10)
    assert ledger.shown(PHOTO[:2]) == {PHOTO}
    assert ledger.abandon_pending(10, older_than=NOW).result(10) == []


def test_what_was_begun_and_abandoned_is_to_be_removed(store: RatingsStore, ledger: Ledger) -> None:
    ledger.begin("one", PHOTO).result(10)
    assert ledger.abandon_pending(10).result(10) == [], "it may yet be written"
    assert ledger.abandon_pending(10, older_than=NOW).result(10) == [PHOTO]
    assert ledger.in_archive(10) == [PHOTO]
    assert ledger.lease(PHOTO, "me").result(10) is Lease.OURS


def test_an_abandoned_photo_that_a_caption_shows_stays(store: RatingsStore, ledger: Ledger) -> None:
    store.record(served("one")).result(10)
    ledger.begin("two", PHOTO).result(10)
    ledger.abandon_pending(10, older_than=NOW).result(10)
    assert ledger.lease(PHOTO, "me").result(10) is Lease.NEEDED
    assert ledger.in_archive(10) == []


def test_one_removes_a_photo_and_the_others_let_it(store: RatingsStore, ledger: Ledger) -> None:
    store.record(served("one")).result(10)
    store.erase("one", owner=None).result(10)
    assert ledger.lease(PHOTO, "me").result(10) is Lease.OURS
    assert ledger.lease(PHOTO, "other").result(10) is Lease.BUSY
    ledger.end_lease(PHOTO, "other", removed=True).result(10)
    assert ledger.in_archive(10) == [PHOTO], "only who has the lease ends it"
    ledger.end_lease(PHOTO, "me", removed=False).result(10)
    assert ledger.lease(PHOTO, "other").result(10) is Lease.OURS
    ledger.end_lease(PHOTO, "other", removed=True).result(10)
    assert ledger.lease(PHOTO, "me").result(10) is Lease.NOTHING
    assert ledger.in_archive(10) == []


def test_a_lease_ends_by_itself(store: RatingsStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    store.record(served("one")).result(10)
    store.erase("one", owner=None).result(10)
    monkeypatch.setattr("captionloop.ratings.photo_removal.LEASE", NOW)
    assert ledger.lease(PHOTO, "killed").result(10) is Lease.OURS
    assert ledger.lease(PHOTO, "me").result(10) is Lease.OURS


def test_a_photo_that_somebody_is_sending_is_not_removed(store: RatingsStore, ledger: Ledger) -> None:
    store.record(served("one")).result(10)
    assert ledger.begin("two", PHOTO).result(10) is False
    store.erase("one", owner=None).result(10)
    assert not ledger.being_removed(PHOTO)
    assert ledger.lease(PHOTO, "me").result(10) is Lease.BUSY
    store.record(served("two")).result(10)
    assert ledger.lease(PHOTO, "me").result(10) is Lease.NOTHING


def test_who_sends_a_photo_that_is_being_removed_waits(store: RatingsStore, ledger: Ledger) -> None:
    store.record(served("one")).result(10)
    store.erase("one", owner=None).result(10)
    ledger.lease(PHOTO, "me").result(10)
    assert ledger.begin("two", PHOTO).result(10) is True
    assert ledger.being_removed(PHOTO)
    ledger.end_lease(PHOTO, "me", removed=True).result(10)
    assert not ledger.being_removed(PHOTO)


def test_never_do_two_gateways_remove_and_write_a_photo_at_once(database_url: str) -> None:
    """Each writes and erases the same photo again and again; a set stands for the archive."""
    stores = [RatingsStore(database_url) for _ in range(2)]
    archive: set[str] = set()
    missing: list[str] = []

    def work(store: RatingsStore, name: str) -> None:
        ledger = store.ledger
        for round_number in range(25):
            caption_id = f"{name} {round_number}"
            if ledger.begin(caption_id, PHOTO).result(20):
                while ledger.being_removed(PHOTO):
                    pass
            archive.add(PHOTO)
            store.record(served(caption_id)).result(20)
            if PHOTO not in archive:
                missing.append(caption_id)
            store.erase(caption_id, owner=None).result(20)
            if ledger.lease(PHOTO, caption_id).result(20) is Lease.OURS:
                archive.discard(PHOTO)
                ledger.end_lease(PHOTO, caption_id, removed=True).result(20)

    threads = [
        threading.Thread(target=work, args=(store, f"{number} {each}"))
        for number, store in enumerate(stores)
        for each in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert missing == []
    for sha256 in stores[0].ledger.in_archive(10):
        assert stores[0].ledger.lease(sha256, "last").result(20) is Lease.OURS
    for store in stores:
        store.close()


def test_tombstones_say_whose_it_was_and_what_remains(store: RatingsStore, ledger: Ledger) -> None:
    store.record(served("one", sent_sha256="5" * 64)).result(10)
    store.rate("one", "person:b", RatingInput(2, "a cat")).result(10)
    store.withdraw("one", "person:b").result(10)
    store.erase("one", owner="key:a").result(10)
    (withdrawn,) = ledger.tombstones_of("person:b")
    assert (withdrawn.reason, withdrawn.photo_sha256, withdrawn.runs_done_at) == ("withdrawn", PHOTO, None)
    assert withdrawn.archive_done_at is not None, "the photo was another's"
    for name in ("key:a", "5" * 64):
        (erased,) = ledger.tombstones_of(name)
        assert (erased.caption_id, erased.reason) == ("one", "asked for")
        assert (erased.archive_done_at, erased.features_done_at, erased.runs_done_at) == (None, None, None)
    assert [each.tombstone_id for each in ledger.tombstones_of("one")] == [1, 2]
    ledger.mark_derived_removed(features=[erased.tombstone_id], runs=[1, 2]).result(10)
    assert ledger.pending_cleanup() == []
    assert ledger.prune(NOW).result(10) == 1, "the photo of the other is still in the archive"
    ledger.lease(PHOTO, "me").result(10)
    ledger.end_lease(PHOTO, "me", removed=True).result(10)
    assert ledger.prune(NOW).result(10) == 1 and ledger.tombstones_of("one") == []


def test_a_photo_that_is_shown_again_is_nowhere_to_be_removed(store: RatingsStore, ledger: Ledger) -> None:
    store.record(served("one")).result(10)
    store.erase("one", owner=None).result(10)
    store.record(served("two")).result(10)
    (erased,) = ledger.tombstones_of("one")
    assert erased.archive_done_at is not None and erased.features_done_at is not None
    assert erased.runs_done_at is None, "what was said of it then is still to be forgotten"


def test_a_person_is_buried_once_until_runs_were_looked_through(store: RatingsStore, ledger: Ledger) -> None:
    store.record(served("theirs")).result(10)
    for _ in range(2):
        store.rate("theirs", "person:b", RatingInput(2)).result(10)
        for _ in range(3):
            while store.erase_person("person:b").result(10) is not None:
                pass
    assert [each.reason for each in ledger.tombstones_of("person:b")] == ["withdrawn", "person", "withdrawn"]
    assert (
        store.erase_person("person:unknown").result(10) is None
        and ledger.tombstones_of("person:unknown") == []
    )


def test_all_captions_of_a_photo_are_erased_as_it_was_sent_or_is_kept(store: RatingsStore) -> None:
    for number, owner in enumerate(("key:a", "person:b")):
        store.record(served(str(number), owner=owner, sent_sha256="5" * 64)).result(10)
    store.record(served("other", photo=b"other")).result(10)
    assert store.erase_photo("5" * 64).result(10) == [PHOTO]
    assert store.erase_photo(PHOTO).result(10) is None
    assert store.find("other") is not None


def test_what_was_erased_before_there_was_a_ledger_is_looked_for_once_more(database_url: str) -> None:
    from alembic import command

    from captionloop.ratings import database

    engine = open_engine(database_url, pool_size=1)
    with engine.begin() as connection:
        command.downgrade(database._alembic(connection), "0003")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO erasures VALUES ('{PHOTO}', '2026-11-01 00:00:00')")
    engine.dispose()
    upgrade(database_url)
    store = RatingsStore(database_url)
    assert store.ledger.in_archive(10) == [PHOTO]
    store.close()
