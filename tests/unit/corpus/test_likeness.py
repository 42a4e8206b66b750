"""The same photo is found, however it was saved; another photo is not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from captionloop.corpus.photo_checks import (
    Duplicates,
    PhotoFacts,
    PhotoLimits,
    PhotoState,
    SimilarityLimits,
    find_duplicates,
    inspect_photo,
    mark_duplicates,
)
from captionloop.photos import PhotoFolder

from .conftest import encoded, picture


@pytest.fixture
def look(tmp_path):
    def look(data: bytes) -> PhotoFacts:
        folder = PhotoFolder(str(tmp_path))
        folder.write("photo", data)
        return inspect_photo(folder, "photo", PhotoLimits())

    return look


def duplicate_pairs(*photos: PhotoFacts) -> list[tuple[int, int]]:
    return [(pair.first, pair.second) for pair in find_duplicates(photos, SimilarityLimits())]


@pytest.mark.parametrize("quality", [90, 60, 35])
def test_a_photo_compressed_again_is_the_same(look, quality: int) -> None:
    original = picture(3, (224, 224))
    assert duplicate_pairs(look(encoded(original)), look(encoded(original, quality=quality))) == [(0, 1)]


@pytest.mark.parametrize("size", [(448, 448), (150, 150), (300, 200)])
def test_a_photo_scaled_or_squashed_is_the_same(look, size: tuple[int, int]) -> None:
    original = picture(3, (224, 224))
    assert duplicate_pairs(look(encoded(original)), look(encoded(original.resize(size)))) == [(0, 1)]


def test_a_thing_of_another_colour_makes_another_photo(look) -> None:
    red, blue = picture(3, (224, 224)), picture(3, (224, 224))
    ImageDraw.Draw(red).ellipse((90, 90, 130, 130), fill="red")
    ImageDraw.Draw(blue).ellipse((90, 90, 130, 130), fill="blue")
    assert duplicate_pairs(look(encoded(red)), look(encoded(blue))) == []


def test_other_photos_are_not_the_same(look) -> None:
    assert duplicate_pairs(*(look(encoded(picture(seed))) for seed in range(30))) == []


def test_no_photos_have_no_twins() -> None:
    assert find_duplicates([], SimilarityLimits()) == []


@given(st.lists(st.integers(0, 7), max_size=40))
def test_every_pair_of_like_photos_is_found_once(kinds: list[int]) -> None:
    photos = [
        PhotoFacts(
            PhotoState.GOOD,
            sha256=str(kind),
            dhash=kind * 0x0101010101010101,
            thumbnail=bytes([30 * kind]) * 768,
        )
        for kind in kinds
    ]
    expected = [(a, b) for a in range(len(kinds)) for b in range(a + 1, len(kinds)) if kinds[a] == kinds[b]]
    assert sorted(exact_pairs(photos)) == expected


def exact_pairs(photos: list[PhotoFacts]) -> list[tuple[int, int]]:
    limits = SimilarityLimits(outline_bits=0, tone_difference=0)
    return [(pair.first, pair.second) for pair in find_duplicates(photos, limits)]


def test_more_photos_than_one_portion_are_compared_across_portions() -> None:
    photos = [
        PhotoFacts(PhotoState.GOOD, dhash=number, thumbnail=np.random.default_rng(number).bytes(768))
        for number in range(600)
    ]
    photos[599] = photos[3]
    assert exact_pairs(photos) == [(3, 599)]


@pytest.mark.parametrize(
    ("splits", "goes"), [(("train", "test"), 0), (("test", "val"), 1), (("val", "train"), 1)]
)
def test_the_copy_that_serves_to_measure_stays(splits: tuple[str, str], goes: int) -> None:
    images = pd.DataFrame({"image_id": ["a", "b"], "split": splits})
    marked = mark_duplicates(images, [Duplicates(0, 1, exact=True)])
    expected = ["", ""]
    expected[goes] = "ab"[1 - goes]
    assert marked["duplicate_elsewhere"].tolist() == expected
    assert marked["duplicate_here"].tolist() == ["", ""]


def chart(seed: int) -> Image.Image:
    """A thin line on white, between axes that all charts share."""
    drawn = Image.new("RGB", (320, 240), "white")
    pen = ImageDraw.Draw(drawn)
    pen.rectangle((40, 20, 300, 210), outline="black")
    heights = 115 + np.cumsum(np.random.default_rng(seed).normal(size=27) * 12).clip(-90, 90)
    pen.line([(40 + 10 * step, float(height)) for step, height in enumerate(heights)], "blue", 2)
    return drawn


def page(seed: int) -> Image.Image:
    """Lines of text on paper, as a scanner sees them."""
    drawn = Image.new("L", (300, 400), 250)
    rng = np.random.default_rng(seed)
    for row in range(30, 370, 14):
        for left in range(30, int(rng.integers(120, 270)), 22):
            ImageDraw.Draw(drawn).rectangle((left, row, left + int(rng.integers(6, 18)), row + 6), 40)
    return drawn


def chest(seed: int) -> Image.Image:
    """A grey picture that all patients share, and a shadow that only one has."""
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    shared = 60 + 120 * np.exp(-(x**2) / 0.3 - y**2 / 0.5) - 60 * np.exp(-((np.abs(x) - 0.35) ** 2) / 0.05)
    rng = np.random.default_rng(seed)
    left, top = rng.uniform(-0.6, 0.6, 2)
    shadow = 15 * np.exp(-((x - left) ** 2 + (y - top) ** 2) / 0.03) + rng.normal(size=x.shape) * 3
    return Image.fromarray((shared + shadow).clip(0, 255).astype(np.uint8))


def icon(seed: int) -> Image.Image:
    drawn = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(drawn).ellipse((16, 16, 80, 80), "blue")
    ImageDraw.Draw(drawn).text((36, 36), chr(65 + seed), "white", font_size=24)
    return drawn


def window(seed: int) -> Image.Image:
    drawn = Image.new("RGB", (400, 300), (245, 245, 245))
    pen, rng = ImageDraw.Draw(drawn), np.random.default_rng(seed)
    pen.rectangle((0, 0, 400, 30), (40, 60, 120))
    pen.rectangle((0, 30, 80, 300), (220, 225, 235))
    for row in range(45, 290, 20):
        pen.rectangle((95, row, 95 + int(rng.integers(25, 275)), row + 6), (60, 60, 60))
    return drawn


def night(seed: int) -> Image.Image:
    return picture(seed, (160, 120)).point(lambda level: level * 0.06)


def snow(seed: int) -> Image.Image:
    return picture(seed, (160, 120)).point(lambda level: 255 - (255 - level) * 0.08)


def deep(seed: int) -> Image.Image:
    grey = np.asarray(picture(seed, (60, 40)).convert("L"), np.uint16)
    return Image.fromarray(grey * 257)


@pytest.mark.parametrize("kind", [chart, page, chest, icon, window, night, snow, deep])
def test_pictures_that_say_little_are_the_same_only_where_they_are_equal(look, kind) -> None:
    pictures = [kind(seed) for seed in range(26)]
    photos = [look(encoded(each, "PNG")) for each in pictures]
    assert duplicate_pairs(*photos) == []
    again = look(encoded(pictures[7], "PNG", compress_level=1))
    assert again.sha256 != photos[7].sha256
    assert duplicate_pairs(*photos, again) == [(7, 26)]


def test_a_small_thing_that_differs_makes_another_chart(look) -> None:
    more = chart(1)
    more.putpixel((200, 100), (255, 0, 0))
    assert duplicate_pairs(look(encoded(chart(1), "PNG")), look(encoded(more, "PNG"))) == []


def test_among_many_photos_a_copy_is_found_scaled_compressed_or_mirrored(look) -> None:
    photos = [look(encoded(picture(seed, (200, 150)))) for seed in range(30)]
    duplicates = [
        look(encoded(picture(3, (200, 150)).resize((90, 70)), quality=60)),
        look(encoded(picture(4, (200, 150)).transpose(Image.Transpose.FLIP_LEFT_RIGHT), quality=50)),
        look(encoded(picture(5, (200, 150)), "WEBP", quality=40)),
    ]
    found = find_duplicates([*photos, *duplicates], SimilarityLimits())
    assert [(pair.first, pair.second, pair.mirrored) for pair in found] == [
        (3, 30, False), (4, 31, True), (5, 32, False),
    ]  # fmt: skip


def test_a_row_with_an_equal_copy_does_not_count_as_lost_to_likeness() -> None:
    images = pd.DataFrame({"image_id": list("abc"), "split": ["train", "val", "test"]})
    marked = mark_duplicates(
        images, [Duplicates(0, 1, exact=False), Duplicates(0, 2, exact=True), Duplicates(1, 2, exact=False)]
    )
    assert marked["duplicate_elsewhere"].tolist() == ["c", "c", ""]
    assert marked["near_duplicate"].tolist() == [False, True, False]
