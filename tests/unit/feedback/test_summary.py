import pytest
from ratings_for_tests import BEGIN, ratings
from test_curation import curated

from captionloop.errors import ConfigurationError
from captionloop.feedback.feedback_report import Window, summary
from captionloop.feedback.rating_checks import SHORT_REASONS, RatingIssue


def test_only_ratings_after_those_that_the_champion_learnt_from_are_new() -> None:
    table = ratings(*({"rater": "person:a", "minutes": n} for n in range(10)))
    window = Window.parse(None, (BEGIN.replace(minute=6)).isoformat(), 4)
    report = summary(table, table.head(0).assign(reason=""), curated(table), window, 50)
    assert report["sentence"] == "3 new ratings since those that version 4 learnt from, 50 needed"
    assert (report["new_ratings"], report["needed"], report["enough"]) == (3, 50, False)


def test_an_empty_window_is_never_enough() -> None:
    table = ratings()
    report = summary(table, table.assign(reason=""), curated(table), Window.parse(None, None, None), 0)
    assert report["sentence"] == "0 new ratings so far, 0 needed" and not report["enough"]
    assert report["until"] is None


def test_a_moment_that_is_none_is_said_to_be_none() -> None:
    with pytest.raises(ConfigurationError, match="since='yesterday' is not a moment"):
        Window.parse("yesterday", None, None)


def test_what_is_not_believed_is_told_with_its_reason_and_what_is_used() -> None:
    """97 ratings, 24 of them within a second of one another: a page that says "Nothing" is believed."""
    true = (
        {"rater": f"person:{n % 9}", "minutes": n, "correction": f"a ball{n} in box{n}"} for n in range(73)
    )
    rapid = ({"rater": "person:x", "minutes": 100 + n / 600} for n in range(24))
    table = ratings(*true, *rapid)
    made = curated(table)
    report = summary(table, table.head(0).assign(reason=""), made, Window.parse(None, None, None), 50)
    used = int((made.references["source"] == "correction").sum())
    assert report["quarantined"] == {RatingIssue.BURST: 24}
    sentence = f"97 new, 24 not believed: faster than a person can look, {used} corrections used"
    assert report["believed"] == sentence


def test_several_reasons_are_told_the_most_frequent_first() -> None:
    table = ratings(*({"rater": "person:a", "minutes": n} for n in range(4)))
    bad = table.head(3).assign(reason=[RatingIssue.STARS, RatingIssue.ERASED, RatingIssue.ERASED])
    report = summary(table, bad, curated(table.tail(1)), Window.parse(None, None, None), 1)
    why = "2 about an erased photo and 1 with impossible stars"
    assert report["believed"] == f"4 new, 3 not believed: {why}, 0 corrections used"


def test_every_reason_has_a_short_form() -> None:
    reasons = {value for name, value in vars(RatingIssue).items() if name.isupper()}
    assert set(SHORT_REASONS) == reasons


def test_older_ratings_are_used_but_not_counted_as_doubted_again() -> None:
    table = ratings(
        {"rater": "person:a", "minutes": 1, "correction": "a red ball on the grass"},
        {"rater": "person:b", "minutes": 2},
    )
    window = Window.parse(None, BEGIN.replace(minute=1).isoformat(), 2)
    bad = table.head(1).assign(reason=RatingIssue.STARS)
    report = summary(table, bad, curated(table), window, 1)
    assert report["believed"] == "1 new, 1 correction used, those of older ratings included"
