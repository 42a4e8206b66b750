import warnings

import numpy as np

from captionloop.captioner.captioner import Caption, Word
from captionloop.evaluation.gallery import (
    Exhibit,
    choose_exhibits,
    gallery_figure,
    highlight_attention,
    square,
    upsample,
)

PHOTO = np.full((64, 64, 3), 200, np.uint8)


def caption(words, attention):
    return Caption(" ".join(words), tuple(Word(word, 0.7, attention) for word in words), -2.0, 0.7)


def test_the_gallery_shows_best_middle_and_worst_and_no_caption_twice():
    ciders = {f"i{n}": n / 10 for n in range(9)}
    captions = {image_id: image_id for image_id in ciders} | {"i7": "i8"}
    chosen = choose_exhibits(ciders, captions, each=2)
    assert [rank for rank, _ in chosen] == ["best"] * 2 + ["middle"] * 2 + ["worst"] * 2
    assert [image_id for _, image_id in chosen] == ["i8", "i6", "i4", "i5", "i0", "i1"]


def test_few_photos_are_shown_once_each():
    assert [
        image_id for _, image_id in choose_exhibits({"a": 1.0, "b": 0.0}, {"a": "x", "b": "y"}, each=2)
    ] == [
        "a",
        "b",
    ]


def test_colours_stay_where_the_decoder_looked_and_fade_where_not():
    red = np.full((64, 64, 3), (200, 20, 20), np.uint8)
    attention = np.zeros((4, 4), np.float32)
    attention[0, 3] = 1
    lit = highlight_attention(red, attention).astype(int)
    near, far = lit[6, 58], lit[58, 6]
    assert near[0] - near[1] > 120
    assert far[0] - far[1] < 5
    assert far.min() > 190


def test_flat_attention_shows_all_of_the_photo():
    np.testing.assert_array_equal(highlight_attention(PHOTO, np.full((7, 7), 1 / 49, np.float32)), PHOTO)
    assert upsample(np.full((2, 3), 0.5), (10, 20)).shape == (10, 20)


def test_a_gallery_is_drawn_with_and_without_attention(tmp_path):
    attention = np.random.default_rng(0).dirichlet(np.ones(9)).reshape(3, 3).astype(np.float32)
    exhibits = [
        Exhibit(PHOTO, caption(["a", "dog"], attention), "A dog.", 1.2, "best"),
        Exhibit(PHOTO, caption(["a"] * 9, None), "A long caption " * 20, 0.0, "worst"),
    ]
    drawn = gallery_figure(exhibits, title="Here", widest=5)
    drawn.savefig(tmp_path / "gallery.png")
    assert (tmp_path / "gallery.png").stat().st_size > 5000
    assert len(drawn.axes) == (1 + 2) + (1 + 5)


def test_photos_are_shown_as_the_encoder_sees_them(photo_folder):
    assert square(photo_folder.read("1.png")).shape == (224, 224, 3)


def test_letters_that_no_font_has_become_boxes_with_one_line_in_the_log(tmp_path, caplog):
    # Plane 15 is for private use: no font has its letters.
    words = ["\U000f0001", "\U000f0002", "dog"]
    exhibit = Exhibit(PHOTO, caption(words, None), "\U000f0001\U000f0003 dog", 1.0, "best")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gallery_figure([exhibit, exhibit], title="Here", widest=5).savefig(tmp_path / "gallery.png")
    (warning,) = [record.message for record in caplog.records if "No font" in record.message]
    assert "\n" not in warning


def test_scripts_that_are_read_leftwards_are_shown_leftwards():
    exhibit = Exhibit(PHOTO, caption(["كلب", "أحمر"], None), "كلب أحمر", 1.0, "best")
    drawn = gallery_figure([exhibit], title="Here", widest=5)
    assert [panel.get_title() for panel in drawn.axes[1:]] == ["أحمر", "كلب"]


def test_a_long_reference_without_spaces_is_broken_into_lines():
    exhibit = Exhibit(PHOTO, caption(["dog"], None), "狗" * 50, 1.0, "best")
    lines = gallery_figure([exhibit], title="Here", widest=5).axes[0].get_xlabel().splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 21
