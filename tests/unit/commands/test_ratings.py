from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from captionloop.cli import main
from captionloop.ratings.database import upgrade
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import PhotoFacts, RatingInput, ServedCaption


@pytest.fixture
def rated(tmp_path, monkeypatch):
    """A project without a registry, whose service took three ratings."""
    url = f"sqlite:///{tmp_path / 'ratings.db'}"
    monkeypatch.setenv("CAPTIONLOOP_PROJECT", str(tmp_path))
    monkeypatch.setenv("CAPTIONLOOP_DATABASE", url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    upgrade(url)
    store = RatingsStore(url)
    photo = PhotoFacts("a" * 64, "image/png", 10, 4, 4)
    store.record(ServedCaption("c1", "me", photo, "a dog", 0.5, [], [], "captioner", "1")).result()
    for rater in ("a", "b", "c"):
        store.rate("c1", rater, RatingInput(4)).result()
    store.close()


def call(*arguments: str):
    return CliRunner().invoke(main, ["ratings", *arguments])


def test_enough_ratings_are_enough(rated) -> None:
    result = call("--least", "3", "--skip-code", "99")
    assert (result.exit_code, result.stdout) == (0, "3 new ratings, 3 needed\n")


def test_too_few_ratings_say_how_many_there_are(rated) -> None:
    result = call("--least", "50", "--skip-code", "99")
    assert (result.exit_code, result.stdout) == (99, "3 new ratings, 50 needed\n")


def test_what_was_counted_before_is_not_counted_again(rated) -> None:
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert call("--since", later.isoformat()).stdout.startswith("0 new ratings")
    assert call("--since", "2020-01-01").stdout.startswith("3 new ratings")
    assert call("--since", "yesterday").exit_code == 1


def test_no_ratings_are_never_enough(rated) -> None:
    """Nothing could be learnt from them: refused here, in the form and in the parameters alike."""
    refused = call("--least", "0")
    assert refused.exit_code == 2 and "0 is not in the range x>=1" in refused.stderr
