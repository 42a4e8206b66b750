import numpy as np
import pytest

from captionloop.scoring.agreement import agreement, what_people_reach

SAID = {
    "dogs": ("two dogs run on grass", "two dogs run in a field", "dogs run on grass"),
    "boat": ("a red boat on water", "a red boat at sea", "one red boat on water"),
    "odd": ("nothing alike", "something quite different"),
}
PEOPLE = {photo: [caption.split() for caption in captions] for photo, captions in SAID.items()}


def test_people_agree_about_some_photos_more_than_about_others():
    reached = what_people_reach(PEOPLE, PEOPLE)
    assert list(reached) == list(PEOPLE)
    assert reached["dogs"] > 0.2 and reached["odd"] == 0


def test_a_caption_of_a_person_agrees_about_as_well_as_people_and_one_of_another_photo_does_not():
    said = {"dogs": ["two", "dogs", "run", "on", "grass"], "boat": ["two", "dogs", "run", "on", "grass"]}
    right, wrong = agreement(said, {photo: PEOPLE[photo] for photo in said}, PEOPLE)
    assert right > 0.9 and wrong < 0.1


def test_where_people_never_agree_nothing_is_divided_by():
    odd = {"odd": PEOPLE["odd"]}
    found = agreement({"odd": ["nothing"]}, odd, PEOPLE)
    assert np.isfinite(found).all()
    assert what_people_reach(odd, PEOPLE)["odd"] == pytest.approx(0)
