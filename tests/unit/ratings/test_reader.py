import pytest
from ratings_for_tests import ratings, served, sha

from captionloop.feedback.rating_checks import RatingIssue, check_ratings, feedback_docs
from captionloop.ratings.database import DatabaseError
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import RatingInput
from captionloop.ratings.reader import RATINGS, RatingsDatabase

pytestmark = pytest.mark.integration


def test_ratings_are_read_beside_their_captions(database_url: str, store: RatingsStore) -> None:
    store.record(served("one")).result(10)
    store.rate("one", "person:b", RatingInput(2, "a cat asleep", "no")).result(10)
    store.rate("one", "person:c", RatingInput(4)).result(10)
    table = RatingsDatabase(database_url).ratings()
    assert list(table.columns) == list(RATINGS)
    assert table["stars"].tolist() == [2, 4]
    assert table["correction"].dropna().tolist() == ["a cat asleep"]
    assert set(table["image_id"]) == {served("one").photo.sha256}
    assert str(table["updated_at"].dtype) == "datetime64[us, UTC]"


def test_an_empty_database_gives_an_empty_table(database_url: str) -> None:
    table = RatingsDatabase(database_url).ratings()
    assert table.empty and list(table.columns) == list(RATINGS)


def test_how_sure_rated_captions_were_is_read_but_for_photos_of_which_nothing_was_known(
    database_url: str, store: RatingsStore
) -> None:
    words = [{"text": "a", "confidence": 0.9, "attention": None}, {"text": "dog", "confidence": 0.4}]
    for name, familiar in (("known", True), ("before", None), ("unlike", False), ("unrated", True)):
        store.record(served(name, words=words, familiarity=0.5, familiar=familiar)).result(10)
        if name != "unrated":
            store.rate(name, "person:b", RatingInput(4)).result(10)
    found = RatingsDatabase(database_url).surenesses()
    assert sorted(found["caption_id"]) == ["before", "known"]
    assert found["sureness"].tolist() == pytest.approx([0.36, 0.36])


def test_erased_photos_are_told_until_they_are_sent_again(database_url: str, store: RatingsStore) -> None:
    photo = served("one").photo.sha256
    store.record(served("one")).result(10)
    store.rate("one", "person:b", RatingInput(2, "a cat asleep")).result(10)
    store.erase("one", owner=None).result(10)
    database = RatingsDatabase(database_url)
    assert database.erased() == {photo} and database.ratings().empty
    store.record(served("two")).result(10)
    assert database.erased() == frozenset()


def test_a_database_that_is_not_there_is_not_made(tmp_path) -> None:
    missing = tmp_path / "ratings.db"
    with pytest.raises(DatabaseError, match="there is no ratings database at"):
        RatingsDatabase(f"sqlite:///{missing}").ratings()
    assert not missing.exists()


def test_a_server_that_is_away_is_one_line() -> None:
    with pytest.raises(DatabaseError, match="does not answer") as raised:
        RatingsDatabase("postgresql://u:secret@127.0.0.1:9/x").ratings()
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)


def test_unsound_ratings_are_set_aside_with_a_reason() -> None:
    table = ratings(
        {"rater": "person:a", "stars": 4},
        {"rater": " ", "stars": 4},
        {"rater": "person:b", "stars": 9},
        {"rater": "person:c", "text": " "},
        {"rater": "person:d", "correction": "x" * 501},
        {"rater": "person:e", "minutes": 10**7},
        {"rater": "person:f", "photo": "erased"},
        {"rater": "person:g", "id": 1},
    )
    checked = check_ratings(table, frozenset({sha("erased")}))
    assert checked.good["rater"].tolist() == ["person:a"]
    assert checked.bad["reason"].tolist() == [
        RatingIssue.NO_RATER,
        RatingIssue.STARS,
        RatingIssue.NO_CAPTION,
        RatingIssue.TOO_LONG,
        RatingIssue.TIME,
        RatingIssue.ERASED,
        RatingIssue.TWICE,
    ]
    index = checked.pages["index.html"].decode()
    assert "of 8 hold" in index


def test_the_page_says_what_is_not_believed_though_each_rating_was_sound_by_itself() -> None:
    checked = check_ratings(ratings({"rater": "person:a"}), frozenset())
    report = {
        "ratings": 97, "new_ratings": 97, "counted_ratings": 73,
        "sentence": "97 new ratings so far, 50 needed",
        "believed": "97 new, 24 not believed: faster than a person can look, 17 corrections used",
        "quarantined": {str(RatingIssue.BURST): 24}, "used": {"corrections": 17, "held_out_photos": 2},
    }  # fmt: skip
    pages = feedback_docs(checked.pages, checked.findings, report)
    index = pages["index.html"].decode()
    assert report["believed"] in index and report["sentence"] in index
    assert f'<td>{RatingIssue.BURST}</td><td class="number">24</td>' in index and "Nothing." not in index
    assert "held out photos" in index and "of 8 hold" in index
    assert set(pages) == set(checked.pages), "the rules and what was examined are there as before"


def test_no_ratings_are_sound_ratings() -> None:
    checked = check_ratings(ratings(), frozenset())
    assert checked.good.empty and checked.bad.empty and "index.html" in checked.pages
