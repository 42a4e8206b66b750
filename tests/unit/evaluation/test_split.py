import pytest

from captionloop.errors import CorpusError
from captionloop.evaluation.evaluation_set import choose_split, evaluation_set, training_captions


def test_auto_is_test_where_there_is_one_and_val_where_not(images):
    assert choose_split(images, "auto") == "val"
    with_test = images.assign(split=["test", *images["split"][1:]])
    assert choose_split(with_test, "auto") == "test"
    assert choose_split(with_test, "val") == "val"


@pytest.mark.parametrize("split", ["test", "holdout"])
def test_a_split_without_photos_is_named_in_one_line(images, split):
    with pytest.raises(CorpusError, match=rf"Split '{split}' has no photos .*train, val") as error:
        choose_split(images, split)
    assert "\n" not in str(error.value)


def test_any_split_can_be_evaluated(images, captions):
    photos = evaluation_set(images, captions, "train")
    assert photos.image_ids == ("i0", "i1", "i2")
    assert photos.uris == ("0.png", "1.png", "2.png")
    assert list(photos.references["i1"]) == list(captions.loc[captions["image_id"] == "i1", "text"])


def test_feedback_changes_neither_photos_nor_references(images, captions):
    more = images.copy()
    more.loc[3, "source"] = "feedback"
    approved = captions.assign(source=["approved", *captions["source"][1:]]).copy()
    approved.loc[captions["image_id"] == "i4", "source"] = ["human", "approved"]
    photos = evaluation_set(more, approved, "val")
    assert "i3" not in photos.image_ids
    assert len(photos.references["i4"]) == 1


def test_a_photo_that_nobody_described_is_an_error(images, captions):
    with pytest.raises(CorpusError, match="1 photos of split 'val' have no reference, the first is 'i5'"):
        evaluation_set(images, captions[captions["image_id"] != "i5"], "val")


def test_training_captions_are_those_of_train(images, captions):
    assert len(training_captions(images, captions)) == 6


def test_all_photos_are_the_evaluation_set_unless_it_is_said_how_many(images, captions):
    photos = evaluation_set(images, captions, "train")
    assert photos.drawn(None, 0) == photos
    assert photos.drawn(50, 0) == photos


def test_a_new_draw_has_other_photos_and_the_first_stays_when_photos_are_added(images, captions):
    photos = evaluation_set(images, captions, "train")
    first, second = photos.drawn(1, 0), photos.drawn(1, 1)
    assert (first.image_ids, second.image_ids) == (("i0",), ("i1",))
    assert (second.uris, second.sha256s) == (photos.uris[1:2], photos.sha256s[1:2])
    assert second.references == {"i1": photos.references["i1"]}


@pytest.mark.parametrize(("photos", "draw"), [(None, 1), (2, 1), (1, 3)])
def test_a_draw_of_more_photos_than_there_are_says_how_to_get_them(images, captions, photos, draw):
    with pytest.raises(CorpusError, match=rf"no evaluation set number {draw} in 'train' .3 photos") as error:
        evaluation_set(images, captions, "train").drawn(photos, draw)
    assert "\n" not in str(error.value)
