"""One photo is one thing: to inspection, to the encoder, and to the service."""

import struct
import threading
import time
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photos_for_tests import FORMS, SQUARES, encoded, exif_with, jpeg_with, noise, png_with, spoilt
from PIL import Image

from captionloop import images
from captionloop.corpus.photo_checks import PhotoLimits, PhotoState, inspect_photo
from captionloop.errors import ImageError, ImageLimitError
from captionloop.hardware import SharedMemory
from captionloop.images import decode_photo, load_square, load_views, open_photo
from captionloop.photos import PhotoFolder
from captionloop.preprocessing import SQUASHED, VIEWS
from captionloop.serving.gateway.problems import IMAGE_TOO_LARGE, IMAGE_UNREADABLE, Problem
from captionloop.serving.gateway.uploads import PhotoReader

_VIEWS = [VIEWS["whole"], VIEWS["upper-right"], VIEWS["centre-mirrored"]]
_TURNING = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_pixels_that_features_were_cached_for_are_the_same_bit_by_bit(form: str) -> None:
    assert (np.stack(load_views(FORMS[form], 24, _VIEWS)) == SQUARES[f"{form}|squares"]).all()


@pytest.mark.parametrize("form", FORMS)
def test_pixels_do_not_depend_on_how_many_are_converted_at_a_time(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_STRIP", 50)
    assert (np.stack(load_views(FORMS[form], 24, _VIEWS)) == SQUARES[f"{form}|squares"]).all()
    monkeypatch.setattr(images, "_COPIED", 0)  # now as the largest are scaled
    squares = np.stack(load_views(FORMS[form], 24, _VIEWS)).astype(int)
    assert np.abs(squares - SQUARES[f"{form}|squares"]).max() <= 1


class Ways:
    """The three ways in which a photo is looked at."""

    def __init__(self, folder: PhotoFolder) -> None:
        self._folder = folder
        self._reader = PhotoReader(1, images.MAX_PIXELS)

    def inspection(self, data: bytes) -> str:
        self._folder.write("photo", data)
        facts = inspect_photo(self._folder, "photo", PhotoLimits())
        assert facts.state in {PhotoState.GOOD, PhotoState.UNDECODABLE, PhotoState.TOO_MANY_PIXELS}
        return "" if facts.state == PhotoState.GOOD else facts.detail

    def encoder(self, data: bytes) -> str:
        try:
            load_square(data, 24)
        except ImageError as error:
            return str(error)
        return ""

    def service(self, data: bytes) -> str:
        try:
            self._reader._read(data, 24, SQUASHED)
        except Problem as problem:
            assert problem.kind in {IMAGE_TOO_LARGE, IMAGE_UNREADABLE}
            return problem.detail
        return ""

    def agreed(self, data: bytes) -> str:
        """What all three say: nothing, or one reason on one line."""
        inspection, encoder, service = self.inspection(data), self.encoder(data), self.service(data)
        assert inspection == encoder
        assert service.rstrip(".").lower() == encoder.rstrip(".").lower()
        assert "\n" not in encoder
        return encoder


@pytest.fixture
def ways(tmp_path) -> Ways:
    return Ways(PhotoFolder(str(tmp_path)))


_SPOILT = (
    "jpeg jpeg-orientation-6 jpeg-progressive jpeg-cmyk mpo png-rgba png-16 png-palette-transparent apng webp"
    " webp-alpha webp-animated gif gif-animated gif-transparent bmp bmp-palette"
)


@pytest.mark.parametrize("form", _SPOILT.split())
def test_of_a_spoilt_photo_all_say_the_same(ways: Ways, form: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        messages = [ways.agreed(data) for data in spoilt(FORMS[form], lengths=10, places=24)]
    assert any(messages)


@pytest.mark.e2e  # sixty thousand photos, in minutes
@pytest.mark.parametrize("form", FORMS)
def test_of_a_photo_spoilt_anywhere_all_say_the_same(ways: Ways, form: str) -> None:
    data = FORMS[form]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each in spoilt(data, lengths=min(len(data), 400), places=min(2 * len(data), 1600)):
            ways.agreed(each)


def gif_with_a_frame_of(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("P", (8, 8)), "GIF"))
    frame = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[frame + 5 : frame + 9] = struct.pack("<HH", width, height)
    return bytes(data)


def jpeg_of_scans(count: int) -> bytes:
    data = FORMS["jpeg-progressive"]
    begin = data.index(b"\xff\xda")
    scan = data[begin : data.index(b"\xff", begin + 14)]
    return data[:begin] + scan * count + data[begin:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gif_with_a_frame_of(65_535, 65_535), "too large"),
        (encoded(Image.new("1", (1, 70_000)), "PNG"), "70000 px is too long: at most 65,535 px a side"),
        (encoded(Image.new("1", (9000, 8000)), "PNG"), "at most 64 megapixels"),
        (encoded(Image.new("RGB", (5000, 4000)), "WEBP", method=0), "takes 320 MB to decode, at most"),
        (jpeg_of_scans(200), "scans: at most 100"),
    ],
    ids=["gif frame", "side", "pixels", "webp", "scans"],
)  # fmt: skip
def test_a_limit_is_told_as_a_limit(ways: Ways, data: bytes, message: str) -> None:
    outcome = ways.agreed(data)
    assert message in outcome
    assert "damaged" not in outcome
    with pytest.raises(ImageLimitError):
        load_square(data, 24)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (b'<?xml version="1.0"?>\n<svg width="1"/>', "an SVG drawing"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC image"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF image"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
        (encoded(Image.new("RGB", (9, 9)), "TIFF"), "a TIFF"),
        (encoded(Image.new("RGB", (9, 9)), "JPEG2000"), "a JPEG 2000 image"),
        (encoded(Image.new("RGB", (9, 9)), "ICO"), "an icon"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (b"just text", "not an image that can be read"),
    ],
)
def test_what_is_not_accepted_is_named(ways: Ways, data: bytes, message: str) -> None:
    outcome = ways.agreed(data)
    assert message in outcome
    assert "damaged" not in outcome


def test_text_profiles_previews_and_their_bombs_do_not_matter(ways: Ways) -> None:
    png, jpeg, webp = FORMS["png-rgb"], FORMS["jpeg"], encoded(noise(20, 15), "WEBP", lossless=True)
    bomb = zlib.compress(bytes(30_000_000), 9)
    long = {
        "text of an image generator": png_with(png, (b"tEXt", b"parameters\0" + b"a cat, " * 220_000)),
        "zTXt": png_with(png, (b"zTXt", b"k\0\0" + bomb)),
        "iTXt": png_with(png, (b"iTXt", b"k\0\1\0\0\0" + bomb)),
        "iCCP": png_with(png, (b"iCCP", b"k\0\0" + bomb)),
        "broken iCCP": png_with(png, (b"iCCP", b"no profile")),
        "a short gAMA": png_with(png, (b"gAMA", b"\0")),
        "EXIF of 65,533 bytes": jpeg_with(jpeg, 0xE1, b"Exif\0\0" + b"\xff" * 65_000),
        "a profile": jpeg_with(jpeg, 0xE2, b"ICC_PROFILE\0\1\2" + b"\0" * 60_000),
        "a broken MPO": jpeg_with(jpeg, 0xE2, b"MPF\0MM"),
        "Photoshop": jpeg_with(jpeg, 0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\xff\xff\xff\xff"),
        "WebP's": encoded(noise(20, 15), "WEBP", lossless=True, exif=b"junk", icc_profile=bytes(2_000_000)),
    }  # fmt: skip
    plain = {"JPEG": load_square(jpeg, 24), "PNG": load_square(png, 24), "WEBP": load_square(webp, 24)}
    for name, data in long.items():
        assert ways.agreed(data) == "", name
        format_ = "PNG" if data.startswith(b"\x89") else "JPEG" if data.startswith(b"\xff") else "WEBP"
        assert (load_square(data, 24) == plain[format_]).all(), name


@pytest.mark.parametrize("tag", [0x0112, 0x011A, 0x8769, 0x8825, 0x927C, 0xA005])
@pytest.mark.parametrize("kind", [0, 2, 5, 7, 9, 12, 13, 99])
def test_a_tag_of_a_wrong_type_does_not_matter(ways: Ways, tag: int, kind: int) -> None:
    for value in (b"6\0\0\0", b"\xff\xff\xff\xff"):
        data = jpeg_with(FORMS["jpeg"], 0xE1, exif_with((tag, kind, 1, value)))
        assert ways.agreed(data) == ""
        assert (load_square(data, 24) == load_square(FORMS["jpeg"], 24)).all()


def test_orientation_counts_where_browsers_count_it(ways: Ways) -> None:
    jpeg = FORMS["jpeg"]
    right = load_square(jpeg_with(jpeg, 0xE1, exif_with((0x0112, 3, 1, b"\0\6\0\0"))), 24)
    as_long = load_square(jpeg_with(jpeg, 0xE1, exif_with((0x0112, 4, 1, b"\0\0\0\6"))), 24)
    assert (as_long == right).all()
    xmp = jpeg_with(jpeg, 0xE1, b'http://ns.adobe.com/xap/1.0/\0<rdf tiff:Orientation="6"/>')
    assert (load_square(xmp, 24) == load_square(jpeg, 24)).all()
    assert ways.agreed(xmp) == ""
    facts = inspect_photo(ways._folder, "photo", PhotoLimits())
    assert (facts.width, facts.height) == open_photo(jpeg).whole().size


MODES = {
    "PNG": ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"],
    "JPEG": ["L", "RGB", "CMYK"],
    "WEBP": ["RGB", "RGBA"],
    "GIF": ["L", "P", "RGB"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
}


@settings(max_examples=80, deadline=None)
@given(
    form_and_mode=st.sampled_from([(form, mode) for form, modes in MODES.items() for mode in modes]),
    orientation=st.integers(1, 8),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    seed=st.integers(0, 9),
)
def test_what_inspection_measures_is_what_the_encoder_sees(
    tmp_path_factory, form_and_mode: tuple[str, str], orientation: int, width: int, height: int, seed: int
) -> None:
    form, mode = form_and_mode
    image = noise(width, height, seed)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257 - seed)
    else:
        image = image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} if form in {"PNG", "JPEG", "WEBP"} else {}
    data = encoded(image, form, **options)
    folder = PhotoFolder(str(tmp_path_factory.mktemp("one")))
    folder.write("photo", data)
    facts = inspect_photo(folder, "photo", PhotoLimits())
    seen = decode_photo(data)
    assert (facts.width, facts.height) == seen.size
    photo = PhotoReader(1, images.MAX_PIXELS)._read(data, 24, SQUASHED)
    assert (photo.facts.width, photo.facts.height, photo.sent_sha256) == (*seen.size, facts.sha256)
    # What is kept is upright, encoded anew where it was turned; the service captions what retraining reads.
    assert photo.prepared.pixels == load_square(photo.stored, 24).tobytes()
    if orientation == 1 or not options:
        assert photo.prepared.pixels == load_square(data, 24).tobytes()
    small, _ = open_photo(data).shrunk_and_hash(32)
    assert (small == np.asarray(seen.resize((32, 32), Image.Resampling.BOX))).all()
    turning = _TURNING[orientation] if options else None
    stored = decode_photo(encoded(image, form))
    upright = stored if turning is None else stored.transpose(turning)
    assert (np.asarray(seen) == np.asarray(upright)).all()  # Pillow's == compares a WebP's metadata, too


def test_sixteen_bits_are_scaled_to_eight_everywhere() -> None:
    photos = [Image.fromarray(np.asarray(noise(40, 40, s).convert("L"), np.uint16) * 257) for s in range(30)]
    looks = {open_photo(encoded(photo, "PNG")).shrunk_and_hash(32)[0].tobytes() for photo in photos}
    assert len(looks) == 30


def test_large_photos_take_turns_and_small_ones_do_not_wait() -> None:
    turns = SharedMemory(100_000_000, least=16_000_000)
    at_once, most, lock = 0, 0, threading.Lock()

    def decode(weight: int) -> None:
        nonlocal at_once, most
        with turns.taken(weight):
            with lock:
                at_once += weight
                most = max(most, at_once)
            time.sleep(0.005)
            with lock:
                at_once -= weight

    weights = [60_000_000, 50_000_000, 40_000_000, 90_000_000, 500_000_000] * 3
    threads = [threading.Thread(target=decode, args=(min(w, 100_000_000),)) for w in weights]
    for thread in threads:
        thread.start()
    with turns.taken(1000):  # at once, whoever waits
        pass
    for thread in threads:
        thread.join(10)
    assert most <= 100_000_000
    with turns.taken(10**12):  # more than there is room for has all of it to itself
        pass
