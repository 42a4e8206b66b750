import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from captionloop.ratings.database import DatabaseError, normalise_url, open_engine, upgrade
from captionloop.ratings.rating_tables import Base

pytestmark = pytest.mark.integration


def test_migrations_and_models_agree(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_upgrading_twice_at_once_is_harmless(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ratings.db'}"
    failures: list[Exception] = []

    def go() -> None:
        try:
            upgrade(url)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_sqlite_flushes_every_commit_to_the_disk(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'ratings.db'}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    engine.dispose()


@pytest.mark.parametrize("name", ["what?", "a%20b", "100%", "#2", "sqlite:"])
def test_a_sqlite_file_may_lie_at_any_path(tmp_path: Path, name: str) -> None:
    from captionloop.datasets.corpus_datasets import RatingsDataset

    url = f"sqlite:///{tmp_path / name / 'ratings.db'}"
    upgrade(url)
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "ratings.db").is_file()
    RatingsDataset(url=url).load().engine().dispose()


def test_a_driver_may_be_named(tmp_path: Path) -> None:
    assert normalise_url(f"sqlite+pysqlite:///{tmp_path}/a.db") == f"sqlite:///{tmp_path}/a.db"


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "sqlite:///x.db?timeout=1"]
)
def test_other_databases_are_refused_in_one_line(url: str) -> None:
    with pytest.raises(DatabaseError) as raised:
        normalise_url(url)
    assert "\n" not in str(raised.value)


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseError) as raised:
        upgrade("postgresql://me:secret-word@127.0.0.1:1/none")
    assert "secret-word" not in str(raised.value)


def test_a_schema_from_the_future_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ratings.db'}"
    upgrade(url)
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(DatabaseError, match="upgrade captionloop"):
        upgrade(url)
