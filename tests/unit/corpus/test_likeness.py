"""The same photo is found, however it was saved; another photo is not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageDraw

from captionloop.corpus.inspection import PhotoFacts, PhotoLimits, PhotoState, inspect_photo
from captionloop.corpus.likeness import LikenessLimits, Twins, find_twins, mark_twins
from captionloop.corpus.photos import PhotoFolder

from .conftest import encoded, picture


@pytest.fixture
def look(tmp_path):
    def look(data: bytes) -> PhotoFacts:
        folder = PhotoFolder(str(tmp_path))
        folder.write("photo", data)
        return inspect_photo(folder, "photo", PhotoLimits())

    return look


def twins(*photos: PhotoFacts) -> list[tuple[int, int]]:
    return [(pair.first, pair.second) for pair in find_twins(photos, LikenessLimits())]


@pytest.mark.parametrize("quality", [90, 60, 35])
def test_a_photo_compressed_again_is_the_same(look, quality: int) -> None:
    original = picture(3, (224, 224))
    assert twins(look(encoded(original)), look(encoded(original, quality=quality))) == [(0, 1)]


@pytest.mark.parametrize("size", [(448, 448), (150, 150), (300, 200)])
def test_a_photo_scaled_or_squashed_is_the_same(look, size: tuple[int, int]) -> None:
    original = picture(3, (224, 224))
    assert twins(look(encoded(original)), look(encoded(original.resize(size)))) == [(0, 1)]


def test_a_thing_of_another_colour_makes_another_photo(look) -> None:
    red, blue = picture(3, (224, 224)), picture(3, (224, 224))
    ImageDraw.Draw(red).ellipse((90, 90, 130, 130), fill="red")
    ImageDraw.Draw(blue).ellipse((90, 90, 130, 130), fill="blue")
    assert twins(look(encoded(red)), look(encoded(blue))) == []


def test_other_photos_are_not_the_same(look) -> None:
    assert twins(*(look(encoded(picture(seed))) for seed in range(30))) == []


def test_no_photos_have_no_twins() -> None:
    assert find_twins([], LikenessLimits()) == []


@given(st.lists(st.integers(0, 7), max_size=40))
def test_every_pair_of_like_photos_is_found_once(kinds: list[int]) -> None:
    photos = [
        PhotoFacts(
            PhotoState.GOOD,
            sha256=str(kind),
            outline=kind * 0x0101010101010101,
            tones=bytes([30 * kind]) * 768,
        )
        for kind in kinds
    ]
    expected = [(a, b) for a in range(len(kinds)) for b in range(a + 1, len(kinds)) if kinds[a] == kinds[b]]
    assert sorted(twins_exactly(photos)) == expected


def twins_exactly(photos: list[PhotoFacts]) -> list[tuple[int, int]]:
    limits = LikenessLimits(outline_bits=0, tone_difference=0)
    return [(pair.first, pair.second) for pair in find_twins(photos, limits)]


def test_more_photos_than_one_portion_are_compared_across_portions() -> None:
    photos = [
        PhotoFacts(PhotoState.GOOD, outline=number, tones=np.random.default_rng(number).bytes(768))
        for number in range(600)
    ]
    photos[599] = photos[3]
    assert twins_exactly(photos) == [(3, 599)]


@pytest.mark.parametrize(
    ("splits", "goes"), [(("train", "test"), 0), (("test", "val"), 1), (("val", "train"), 1)]
)
def test_the_copy_that_serves_to_measure_stays(splits: tuple[str, str], goes: int) -> None:
    images = pd.DataFrame({"image_id": ["a", "b"], "split": splits})
    marked = mark_twins(images, [Twins(0, 1, exact=True)])
    expected = ["", ""]
    expected[goes] = "ab"[1 - goes]
    assert marked["twin_elsewhere"].tolist() == expected
    assert marked["twin_here"].tolist() == ["", ""]
