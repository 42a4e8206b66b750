"""What is unsound is found, named and kept apart; the rest goes on."""

import json

import pandas as pd
import pytest

from captionloop.corpus.expectations import CorpusIssue, CorpusRules
from captionloop.corpus.tables import CAPTIONS, IMAGES, QUARANTINE
from captionloop.photos import PhotoFolder

from .conftest import Sick, corpus_of, photo, validated

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("truncated.jpg", CorpusIssue.PHOTO_UNDECODABLE),
        ("gigantic.png", CorpusIssue.PHOTO_TOO_MANY_PIXELS),
        ("page.jpg", CorpusIssue.PHOTO_UNDECODABLE),
        ("empty.jpg", CorpusIssue.PHOTO_UNDECODABLE),
        ("thumbnail.jpg", CorpusIssue.PHOTO_TOO_SMALL),
        ("absent.jpg", CorpusIssue.PHOTO_MISSING),
        ("../outside.jpg", CorpusIssue.PHOTO_MISSING),
        ("silent.jpg", CorpusIssue.TOO_FEW_CAPTIONS),
        ("odd_split.jpg", CorpusIssue.UNKNOWN_SPLIT),
        ("seen_in_train.jpg", CorpusIssue.DUPLICATE_ELSEWHERE),
        ("good.jpg", CorpusIssue.DUPLICATE_IMAGE_ID),
    ],
)
def test_an_unsound_image_is_in_quarantine_with_its_reason(sick: Sick, row: str, reason: str) -> None:
    assert sick.reason(row) == reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("blank", CorpusIssue.EMPTY),
        ("null", CorpusIssue.EMPTY),
        ("mute", CorpusIssue.EMPTY),
        ("number", CorpusIssue.NOT_TEXT),
        ("digits", CorpusIssue.NOT_TEXT),
        ("control", CorpusIssue.NOT_TEXT),
        ("mojibake", CorpusIssue.NOT_TEXT),
        ("endless", CorpusIssue.TOO_LONG),
        ("breathless", CorpusIssue.TOO_LONG),
        ("quirk", CorpusIssue.NO_PHOTO),
        ("unlisted", CorpusIssue.NO_IMAGE),
        ("good.jpg#0", CorpusIssue.DUPLICATE_CAPTION_ID),
        ("truncated.jpg#0", CorpusIssue.IMAGE_REJECTED),
        ("seen_in_train.jpg#0", CorpusIssue.IMAGE_REJECTED),
    ],
)
def test_an_unsound_caption_is_in_quarantine_with_its_reason(sick: Sick, row: str, reason: str) -> None:
    assert sick.reason(row) == reason


def test_what_is_sound_is_released(sick: Sick) -> None:
    images = sick.result.images.set_index("image_id")["split"].to_dict()
    assert images == {
        "good.jpg": "train",
        "also_good.png": "test",
        "seen_in_val.jpg": "val",
        "first.jpg": "train",
        "copy.jpg": "train",
    }
    assert set(sick.result.captions["image_id"]) == set(images)


def test_no_row_is_lost_and_none_is_doubled(sick: Sick) -> None:
    result, corpus = sick.result, sick.corpus
    rejected = result.quarantine["kind"].value_counts()
    assert len(result.images) + rejected["image"] == len(corpus.images)
    assert len(result.captions) + rejected["caption"] == len(corpus.captions)


def test_of_a_photo_in_two_splits_the_train_copy_goes(sick: Sick) -> None:
    assert "seen_in_val.jpg" in set(sick.result.images["image_id"])
    (row,) = sick.result.quarantine.query("id == 'seen_in_train.jpg'").to_dict("records")
    assert row["text"] == "as seen_in_val.jpg"


def test_copies_within_a_split_are_reported_and_kept_by_default(sick: Sick) -> None:
    same = sick.result.report["same_photo"]
    assert (same["in_two_splits"], same["in_one_split"]) == (1, 1)
    exact = next(pair for pair in same["pairs"] if pair["splits"] == ["train", "train"])
    assert exact == {"images": ["first.jpg", "copy.jpg"], "splits": ["train", "train"], "same_bytes": True}


def test_the_report_counts_what_the_quarantine_holds(sick: Sick) -> None:
    report, quarantine = sick.result.report, sick.result.quarantine
    for kind, reasons in report["quarantine"].items():
        assert sum(reasons.values()) == (quarantine["kind"] == kind).sum()
    assert report["released"]["images"] == {"train": 3, "val": 1, "test": 1}
    assert report["photos_that_no_image_names"] == 2
    json.dumps(report, allow_nan=False)


def test_every_reason_stands_in_a_rule_that_the_report_says_was_broken(sick: Sick) -> None:
    broken = {each["reason"] for each in sick.result.report["expectations"] if not each["success"]}
    assert set(sick.result.quarantine["reason"]) <= broken


def test_the_tables_have_their_columns_and_types(sick: Sick) -> None:
    for table, columns in (
        (sick.result.images, IMAGES),
        (sick.result.captions, CAPTIONS),
        (sick.result.quarantine, QUARANTINE),
    ):
        assert {name: str(dtype) for name, dtype in table.dtypes.items()} == columns


def test_released_text_is_one_line_with_single_spaces(sick: Sick) -> None:
    assert sick.result.captions["text"].tolist() == [
        "A picture of good.jpg .",
        "A picture of also_good.png .",
        "A picture of seen_in_val.jpg .",
        "A picture of first.jpg .",
        "A picture of copy.jpg .",
    ]


def test_the_docs_need_no_network_and_name_every_reason(sick: Sick) -> None:
    pages = sick.result.pages
    index = pages["index.html"].decode()
    assert all(reason.replace("'", "&#x27;") in index for reason in set(sick.result.quarantine["reason"]))
    assert sum(path.startswith("validations/") for path in pages) == 5
    for path, page in pages.items():
        assert b'src="http' not in page, path
        assert b'rel="stylesheet" href="http' not in page, path


def test_copies_within_a_split_go_where_asked(tmp_path) -> None:
    folder = PhotoFolder(str(tmp_path))
    for name, seed in (("a.jpg", 1), ("b.jpg", 1), ("c.jpg", 2)):
        folder.write(name, photo(seed))
    names = ["a.jpg", "b.jpg", "c.jpg"]
    corpus = corpus_of([(name, "val") for name in names], [(name, "A thing") for name in names])
    result = validated(corpus, folder, CorpusRules(duplicates_in_split="quarantine", min_captions=1))
    assert result.quarantine[["id", "reason"]].values.tolist() == [
        ["b.jpg", CorpusIssue.DUPLICATE_HERE],
        ["b.jpg#1", CorpusIssue.IMAGE_REJECTED],
    ]


def test_validating_again_gives_the_same_tables(sick: Sick) -> None:
    again = validated(sick.corpus, sick.photos)
    pd.testing.assert_frame_equal(again.images, sick.result.images)
    pd.testing.assert_frame_equal(again.captions, sick.result.captions)
    pd.testing.assert_frame_equal(again.quarantine, sick.result.quarantine)
    assert again.report == sick.result.report


def test_an_empty_corpus_leaves_nothing_and_says_so(tmp_path) -> None:
    result = validated(corpus_of([], []), PhotoFolder(str(tmp_path)))
    assert result.images.empty
    assert result.captions.empty
    assert result.report["read"] == {"images": 0, "captions": 0}
