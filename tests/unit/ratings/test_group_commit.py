"""Several writers at one database wait for each other in turn, and what fails in passing is done again."""

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from captionloop.ratings.database import SchemaError, check_schema, open_engine, upgrade
from captionloop.ratings.group_commit import ATTEMPTS, GroupWriter
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import PhotoFacts, RatingInput, ServedCaption

pytestmark = pytest.mark.integration

PHOTOS = [f"{number:064x}" for number in range(6)]


def served(caption_id: str, photo: str) -> ServedCaption:
    facts = PhotoFacts(photo, "image/png", 1, 1, 1)
    return ServedCaption(caption_id, "key:a", facts, "a", 0.5, [], [], "m", "1")


def test_two_processes_with_the_same_photos_and_captions_make_no_deadlock(database_url: str) -> None:
    """Each hands in the same work in an order of its own: photos, ratings of the same captions, erasures."""
    stores = [RatingsStore(database_url) for _ in range(2)]
    for photo in PHOTOS:
        stores[0].record(served(f"shared {photo[-1]}", photo)).result(20)

    def work(store: RatingsStore, name: str) -> None:
        order = random.Random(name)
        pending = []
        for round_number in range(40):
            for photo in order.sample(PHOTOS, len(PHOTOS)):
                pending.append(store.record(served(f"{name} {round_number} {photo[-1]}", photo)))
                pending.append(store.rate(f"shared {photo[-1]}", "rater", RatingInput(order.randint(1, 5))))
            if round_number % 5 == 4:
                pending += [
                    store.erase(f"{name} {round_number - 1} {photo[-1]}", owner=None) for photo in PHOTOS
                ]
        failures.extend(str(each.exception(60)) for each in pending if each.exception(60) is not None)

    failures: list[str] = []
    threads = [
        threading.Thread(target=work, args=(store, name)) for store, name in zip(stores, "ab", strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    if database_url.startswith("postgresql"):
        with stores[0].reader.connect() as connection:
            deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            assert connection.execute(text(deadlocks)).scalar() == 0
    for store in stores:
        store.close()


class _PassingError(Exception):
    sqlstate = "40001"


class _LastingError(Exception):
    sqlstate = "23514"


def failing(times: int, kind: type[Exception]) -> tuple[Callable[[Connection], str], list[int]]:
    tried: list[int] = []

    def operation(connection: Connection) -> str:
        tried.append(1)
        if len(tried) <= times:
            raise DBAPIError("UPDATE", {}, kind())
        return "done"

    return operation, tried


def test_a_serialisation_failure_is_tried_again_until_it_passes(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'a.db'}")
    writer = GroupWriter(engine)
    operation, tried = failing(ATTEMPTS - 1, _PassingError)
    assert writer.submit(operation).result(20) == "done"
    assert len(tried) == ATTEMPTS
    operation, tried = failing(100, _PassingError)
    with pytest.raises(Exception, match="PassingError"):
        writer.submit(operation).result(20)
    assert len(tried) == ATTEMPTS
    operation, tried = failing(100, _LastingError)
    with pytest.raises(Exception, match="LastingError"):
        writer.submit(operation).result(20)
    assert len(tried) == 2, "together, and alone"
    writer.close()
    engine.dispose()


def test_within_a_group_operations_run_in_the_order_of_their_locks(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'a.db'}")
    writer = GroupWriter(engine)
    ran: list[str] = []
    gate = threading.Event()
    first = writer.submit(lambda _: gate.wait(10))
    names = [("2", "b"), ("1", "z"), ("2", "a"), ("1", "z"), ("2", "b")]
    pending = [
        writer.submit(lambda _, name=f"{number} {lock}": ran.append(name), locks=lock)
        for number, lock in enumerate(names)
    ]
    gate.set()
    first.result(10)
    for each in pending:
        each.result(10)
    expected = sorted(range(len(names)), key=lambda number: names[number])
    assert ran == [f"{number} {names[number]}" for number in expected]
    writer.close()
    engine.dispose()


def test_a_schema_that_is_missing_or_old_says_what_to_run_and_a_newer_one_is_taken(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    engine = open_engine(url)
    with engine.connect() as connection, pytest.raises(SchemaError, match="captionloop database upgrade"):
        check_schema(connection)
    upgrade(url)
    with engine.connect() as connection:
        newest = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    for revision, older in (("0001", True), ("0003", True), (newest, False), ("9999", False)):
        with engine.begin() as connection:
            connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))
            if older:
                with pytest.raises(SchemaError, match=f"{revision}.*captionloop database upgrade"):
                    check_schema(connection)
            else:
                check_schema(connection)
    engine.dispose()


def test_what_is_handed_in_while_it_closes_is_written_and_closing_ends(tmp_path: Path) -> None:
    upgrade(f"sqlite:///{tmp_path / 'ratings.db'}")
    engine = open_engine(f"sqlite:///{tmp_path / 'ratings.db'}", pool_size=2)
    writer = GroupWriter(engine)
    begun, go_on = threading.Event(), threading.Event()

    def slowly(_: Connection) -> bool:
        begun.set()
        return go_on.wait(20)

    first = writer.submit(slowly)
    assert begun.wait(20)
    closing = threading.Thread(target=writer.close, daemon=True)
    closing.start()
    while writer.waiting() == 0:  # its sign to stop
        closing.join(0.01)
    late: list[object] = []
    submitting = threading.Thread(target=lambda: late.append(writer.submit(lambda _: "late")), daemon=True)
    submitting.start()
    submitting.join(0.3)
    go_on.set()
    closing.join(20)
    submitting.join(20)
    assert not closing.is_alive() and first.result(20)
    assert late[0].result(20) == "late"
    writer.close()
    engine.dispose()
