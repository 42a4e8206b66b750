import pytest
from ratings_for_tests import BEGIN, ratings
from test_curation import curated

from captionloop.errors import ConfigurationError
from captionloop.feedback.curation import Window, summary


def test_only_ratings_after_the_newest_retrained_version_are_new() -> None:
    table = ratings(*({"rater": "person:a", "minutes": n} for n in range(10)))
    window = Window.parse(None, (BEGIN.replace(minute=6)).isoformat(), 4)
    report = summary(table, table.head(0).assign(reason=""), curated(table), window, 50)
    assert report["sentence"] == "3 new ratings since version 4 was retrained, 50 needed"
    assert (report["new_ratings"], report["needed"], report["enough"]) == (3, 50, False)


def test_an_empty_window_is_never_enough() -> None:
    table = ratings()
    report = summary(table, table.assign(reason=""), curated(table), Window.parse(None, None, None), 0)
    assert report["sentence"] == "0 new ratings so far, 0 needed" and not report["enough"]
    assert report["until"] is None


def test_a_moment_that_is_none_is_said_to_be_none() -> None:
    with pytest.raises(ConfigurationError, match="since='yesterday' is not a moment"):
        Window.parse("yesterday", None, None)
