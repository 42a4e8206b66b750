from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import PhotoFacts, RatingInput, ServedCaption
from captionloop.ratings.reader import read_traffic

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def store(database_url: str):
    opened = RatingsStore(database_url)
    yield opened
    opened.close()


def serve(
    store: RatingsStore, name: str, *, days_ago: float = 0, photo: str = "", version: str = "5", embedding=()
):
    store.record(
        ServedCaption(
            name, "me", PhotoFacts((photo or name).ljust(64, "0"), "image/png", 10, 4, 4), "a red square",
            0.5, [], [], "captioner", version, NOW - timedelta(days=days_ago), embedding or None,
        )
    ).result()  # fmt: skip


def read(store: RatingsStore, days: float = 7, **changes):
    options = {"served": ["5"], "comparable": ["4", "5"], "limit": 100, **changes}
    return read_traffic(store.reader, NOW - timedelta(days=days), NOW + timedelta(seconds=1), **options)


def test_only_captions_of_the_window_and_the_version_count(store) -> None:
    serve(store, "new", embedding=[1.0] * 32)
    serve(store, "old", days_ago=9, embedding=[2.0] * 32)
    serve(store, "other", version="4", embedding=[3.0] * 32)
    serve(store, "foreign", version="1", embedding=[4.0] * 32)
    serve(store, "before-embeddings")
    found = read(store)
    assert found.confidences.tolist() == [0.5, 0.5] and found.lengths.tolist() == [3, 3]
    assert sorted(found.embeddings[:, 0].tolist()) == [1.0, 3.0]


def test_a_photo_sent_twice_is_seen_once(store) -> None:
    serve(store, "one", photo="same", embedding=[1.0] * 32)
    serve(store, "two", photo="same", embedding=[1.0] * 32)
    assert len(read(store).embeddings) == 1


def test_what_was_erased_is_gone_from_the_embeddings_too(store) -> None:
    serve(store, "one", embedding=[1.0] * 32)
    store.erase("one", owner=None).result()
    assert read(store).embeddings.shape == (0, 32)


def test_stars_and_corrections_come_along(store) -> None:
    serve(store, "one")
    store.rate("one", "a", RatingInput(2, "a blue square")).result()
    store.rate("one", "b", RatingInput(4)).result()
    found = read_traffic(
        store.reader, datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1),
        served=["5"], comparable=["5"], limit=100,
    )  # fmt: skip
    assert sorted(found.stars.tolist()) == [2, 4] and found.texts == ("a blue square",)


def test_an_embedding_comes_back_as_it_was(store) -> None:
    values = np.random.default_rng(0).normal(size=32).astype(np.float16).astype(float).tolist()
    serve(store, "one", embedding=values)
    assert read(store).embeddings[0].tolist() == values
