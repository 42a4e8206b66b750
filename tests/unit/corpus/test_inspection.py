"""A photo is looked at once, and nothing that it is can stop the look."""

import hashlib
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captionloop.corpus.photo_checks import PhotoLimits, PhotoState, inspect_photo, inspect_photos
from captionloop.errors import CorpusError
from captionloop.photos import PhotoFolder

from .conftest import encoded, photo, picture, png_of


@pytest.fixture
def folder(tmp_path: Path) -> PhotoFolder:
    return PhotoFolder(str(tmp_path))


def test_a_good_photo_has_its_hash_and_size(folder: PhotoFolder) -> None:
    data = photo(1, (80, 50))
    folder.write("a.jpg", data)
    facts = inspect_photo(folder, "a.jpg", PhotoLimits())
    assert facts.state == PhotoState.GOOD
    assert (facts.width, facts.height, facts.sha256) == (80, 50, hashlib.sha256(data).hexdigest())


def test_width_and_height_are_those_of_the_upright_photo(folder: PhotoFolder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    folder.write("turned.jpg", encoded(picture(1, (80, 50)), exif=exif))
    facts = inspect_photo(folder, "turned.jpg", PhotoLimits())
    assert (facts.width, facts.height) == (50, 80)


@pytest.mark.parametrize("side", [9_500, 40_000])  # Pillow itself warns about the first, refuses the second
def test_a_photo_of_too_many_pixels_is_refused_by_its_header(folder: PhotoFolder, side: int) -> None:
    folder.write("huge.png", png_of(side, side))
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        facts = inspect_photo(folder, "huge.png", PhotoLimits())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert facts.state == PhotoState.TOO_MANY_PIXELS
    assert f"{side} x {side} px" in facts.detail
    assert peak < 10_000_000


def test_a_file_that_is_too_large_is_not_read(folder: PhotoFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("heavy.jpg", bytes(2000))
    monkeypatch.setattr(PhotoFolder, "read", lambda *_: pytest.fail("read"))
    assert inspect_photo(folder, "heavy.jpg", PhotoLimits(max_bytes=1999)).state == PhotoState.TOO_HEAVY


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.97])
def test_a_photo_cut_off_anywhere_is_found(folder: PhotoFolder, form: str, part: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)
    folder.write("cut", data[: int(part * len(data))])
    assert inspect_photo(folder, "cut", PhotoLimits()).state == PhotoState.UNDECODABLE


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "LA", "I;16"])
def test_every_mode_of_colour_can_be_looked_at(folder: PhotoFolder, mode: str) -> None:
    form = "TIFF" if mode == "none" else "JPEG" if mode == "CMYK" else "PNG"
    image = Image.new("I;16", (40, 40), 700) if mode == "I;16" else picture(1).convert(mode)
    folder.write("odd", encoded(image, form))
    facts = inspect_photo(folder, "odd", PhotoLimits())
    assert facts.state == PhotoState.GOOD
    assert len(facts.thumbnail) == 16 * 16 * 3


def test_the_facts_come_in_the_order_that_was_asked_for(folder: PhotoFolder) -> None:
    names = [f"{seed}.jpg" for seed in range(20)]
    for seed, name in enumerate(names):
        folder.write(name, photo(seed, (30 + seed, 40)))
    facts = inspect_photos(folder, names[::-1], PhotoLimits())
    assert [fact.width for fact in facts] == [30 + seed for seed in range(20)][::-1]


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"^There is no photo folder .*nowhere: check the path.*$"):
        inspect_photos(PhotoFolder(str(tmp_path / "nowhere")), ["a.jpg"], PhotoLimits())
