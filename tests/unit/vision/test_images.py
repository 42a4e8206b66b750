import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from captionloop.errors import ImageError
from captionloop.images import decode_photo, load_square, load_views, square
from captionloop.preprocessing import VIEWS, WHOLE

from .conftest import picture

ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str, **save: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **save)
    return buffer.getvalue()


def empty_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds hardly anything: what people attack decoders with."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 99))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def test_a_photo_is_turned_upright() -> None:
    image = Image.new("RGB", (60, 40), "blue")
    image.paste("red", (0, 0, 60, 20))  # red above blue, as the camera's sensor saw it
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the camera was turned: show it rotated clockwise by 90 degrees
    upright = decode_photo(encoded(image, "JPEG", exif=exif))
    assert upright.size == (40, 60)
    assert upright.getpixel((5, 30))[2] > 200  # what was below is left now
    assert upright.getpixel((35, 30))[0] > 200


def test_transparency_is_seen_over_white() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert decode_photo(encoded(image, "PNG")).getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    else:
        image = Image.new("L", (8, 8), 128).convert(mode)
    photo = decode_photo(encoded(image, "JPEG" if mode == "CMYK" else "PNG"))
    assert photo.mode == "RGB"
    assert 100 < np.asarray(photo).mean() < 160


@pytest.mark.parametrize(
    "data",
    [b"", b"no image", picture(0)[:300], picture(0)[:25], empty_png(50, 50), b"\x89PNG\r\n\x1a\n"],
    ids=["empty", "text", "cut off", "cut in the header", "pixels missing", "signature only"],
)
def test_what_is_no_photo_is_refused_in_one_line(data: bytes) -> None:
    for decode in (decode_photo, lambda each: load_square(each, 16)):
        with pytest.raises(ImageError) as caught:
            decode(data)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(40_000, 40_000), (9_000, 9_000)])
def test_a_huge_picture_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="too large"):
        load_square(empty_png(*size), 16)


def test_the_whole_photo_is_squashed_into_the_square() -> None:
    image = Image.new("RGB", (300, 100), "black")
    image.paste("white", (150, 0, 300, 100))
    pixels = square(image, 32)
    assert pixels.shape == (32, 32, 3)
    assert pixels[:, :15].max() < 10 < 245 < pixels[:, 17:].min()


@given(st.integers(33, 400), st.integers(33, 400))
@example(257, 257)
@settings(max_examples=50, deadline=None)
def test_scaling_inside_the_decoder_shows_the_same_picture(width: int, height: int) -> None:
    data = picture(3, width, height)
    drafted = load_square(data, 16).astype(int)
    whole = square(to_whole_blocks(data, 16), 16).astype(int)
    assert np.abs(drafted - whole).mean() < 2


def to_whole_blocks(data: bytes, size: int) -> Image.Image:
    """The photo with its edge repeated to what the decoder, scaling by 1/2, 1/4 or 1/8, rounds it up to.

    So at most 7/8 of a pixel of what it gives is repetition: of 257 px it makes 33, which stand for 264.
    """
    image = Image.open(io.BytesIO(data))
    width, height = image.size
    image.draft("RGB", (2 * size, 2 * size))
    block = next(n for n in (1, 2, 4, 8) if -(-width // n) == image.width and -(-height // n) == image.height)
    missing = [(0, image.height * block - height), (0, image.width * block - width), (0, 0)]
    return Image.fromarray(np.pad(np.asarray(decode_photo(data)), missing, mode="edge"))


def test_mirroring_twice_is_the_photo_itself() -> None:
    photo = decode_photo(picture(1))
    assert (square(photo, 16, VIEWS["mirrored"])[:, ::-1] == square(photo, 16)).all()


def test_a_corner_view_shows_that_corner() -> None:
    image = Image.new("RGB", (100, 100), "black")
    image.paste("white", (0, 0, 16, 16))
    assert square(image, 20, VIEWS["upper-left"])[0, 0].min() == 255
    assert square(image, 20, VIEWS["lower-right"]).max() < 10  # scaling in two steps lets a little through


def test_views_together_are_the_views_one_by_one() -> None:
    data = picture(5, 300, 200)
    views = [VIEWS["mirrored"], WHOLE, VIEWS["lower-left"], VIEWS["centre-mirrored"]]
    for view, pixels in zip(views, load_views(data, 24, views), strict=True):
        assert (pixels == load_square(data, 24, view)).all()
