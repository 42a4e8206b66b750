import io
import random
import struct
import time
import zlib

import numpy as np
import pytest
from photos_for_tests import FORMS, encoded, exif_with, jpeg_with, noise, png_with, spoilt
from PIL import Image

from captionloop.errors import ImageError
from captionloop.image_metadata import without_metadata
from captionloop.images import decode_photo, load_square, open_photo

SECRET = b"52.5200 N 13.4050 E"
ON_ITS_SIDE = exif_with((0x0112, 3, 1, b"\0\6\0\0"))


def exif() -> Image.Exif:
    """What a telephone writes: who, where and with what."""
    block = Image.Exif()
    block[0x013B] = SECRET.decode()
    block[0x8769] = {0x927C: SECRET}
    block[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)}
    return block


def webp_with(data: bytes, kind: bytes, body: bytes) -> bytes:
    more = data[12:] + kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(more)) + b"WEBP" + more


def with_metadata(form: str) -> bytes:
    """A photo that tells its secret in every place that its format has for it."""
    picture = noise(60, 40)
    if form == "JPEG":
        data = encoded(picture, form, exif=exif(), comment=SECRET, icc_profile=SECRET, xmp=SECRET)
        data = jpeg_with(data, 0xED, b"Photoshop 3.0\0" + SECRET)
        data = jpeg_with(data, 0xE0, b"JFXX\0\x10" + SECRET)
        return data + encoded(picture, form, comment=SECRET)  # a second picture behind the first
    if form == "progressive JPEG":
        data = encoded(picture, "JPEG", exif=exif(), progressive=True)
        scan = data.rindex(b"\xff\xda")
        return data[:scan] + b"\xff\xfe" + struct.pack(">H", len(SECRET) + 2) + SECRET + data[scan:]
    if form == "PNG":
        data = encoded(picture, form, exif=exif(), icc_profile=SECRET)
        return png_with(data, (b"tEXt", b"Author\0" + SECRET), (b"juNK", SECRET)) + SECRET
    if form == "WEBP":
        data = encoded(picture, form, exif=exif(), icc_profile=SECRET, xmp=SECRET)
        return webp_with(data, b"SECR", SECRET) + SECRET
    if form == "animated WEBP":
        frames = [noise(60, 40, seed) for seed in (1, 2)]
        return encoded(picture, "WEBP", save_all=True, append_images=frames, exif=exif(), xmp=SECRET)
    if form == "GIF":
        frames = [noise(60, 40, seed) for seed in (1, 2)]
        data = encoded(picture, form, save_all=True, append_images=frames, comment=SECRET, loop=0)
        xmp = b"\x21\xff\x0bXMP DataXMP" + bytes([len(SECRET)]) + SECRET + b"\0"
        return data[:-1] + xmp + b"\x3b" + SECRET
    return encoded(picture, "BMP") + SECRET


WITH_METADATA = ("JPEG", "progressive JPEG", "PNG", "WEBP", "animated WEBP", "GIF", "BMP")


@pytest.mark.parametrize("form", WITH_METADATA)
def test_nothing_but_the_picture_is_left_and_its_pixels_are_the_same(form: str) -> None:
    sent = with_metadata(form)
    kept = without_metadata(sent)
    assert SECRET in sent and SECRET not in kept
    assert b"Exif" not in kept and not Image.open(io.BytesIO(kept)).getexif()
    assert decode_photo(kept).tobytes() == decode_photo(sent).tobytes()
    assert without_metadata(kept) == kept, "what is clean stays as it is: the same photo has one name"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_seen_as_before(form: str) -> None:
    sent = FORMS[form]
    kept = without_metadata(sent)
    before, after = (load_square(data, 64).astype(int) for data in (sent, kept))
    assert without_metadata(kept) == kept
    assert not Image.open(io.BytesIO(kept)).getexif()
    turned = kept[:2] == b"\xff\xd8" and len(kept) != len(sent) and b"Exif" in sent
    assert np.abs(after - before).mean() < (3 if turned else 1e-9)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_photo_on_its_side_is_kept_upright(form: str) -> None:
    smooth = Image.linear_gradient("L").resize((60, 40)).convert("RGB")
    sent = encoded(smooth, form, exif=ON_ITS_SIDE, **({"quality": 95} if form == "JPEG" else {}))
    kept = without_metadata(sent)
    assert Image.open(io.BytesIO(kept)).size == (40, 60) and b"Exif" not in kept
    seen, stored = (np.asarray(decode_photo(data)).astype(int) for data in (sent, kept))
    assert seen.shape == stored.shape and np.abs(seen - stored).max() <= (0 if form == "PNG" else 3)


def test_a_large_photo_on_its_side_is_kept_half_as_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captionloop.images._COPIED", 1000)
    monkeypatch.setattr("captionloop.images._REDUCED", 600)
    kept = without_metadata(encoded(noise(60, 40), "JPEG", exif=ON_ITS_SIDE))
    assert Image.open(io.BytesIO(kept)).size == (20, 30)


@pytest.mark.parametrize("form", WITH_METADATA)
def test_spoilt_files_are_refused_or_kept_without_their_secret(form: str) -> None:
    for data in spoilt(with_metadata(form), 40, 120):
        try:
            kept = without_metadata(data)
            decode_photo(kept)
        except ImageError:
            continue
        assert SECRET not in kept


def test_a_frame_without_a_picture_is_no_reason_to_refuse_the_first() -> None:
    """Its chunk has a name that nobody knows: left out like metadata, nothing of it could be decoded."""
    data = FORMS["webp-animated"]
    second = data.index(b"ANMF", data.index(b"ANMF") + 4) + 24
    spoilt_frame = data[:second] + b"XXXX" + data[second + 4 :]
    assert decode_photo(without_metadata(spoilt_frame)).tobytes() == decode_photo(data).tobytes()


def test_random_bytes_behind_a_known_beginning_are_refused() -> None:
    chance = random.Random(0)
    for start in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP", b"GIF89a", b"BM"):
        for length in (0, 3, 40, 400):
            with pytest.raises(ImageError):
                decode_photo(without_metadata(start + chance.randbytes(length)))


def made_of(form: str, pieces: int) -> bytes:
    """A small photo with so many empty pieces before its picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8), "red").save(buffer, form)
    plain = buffer.getvalue()
    if form == "JPEG":
        return plain[:2] + b"\xff\xfe\0\2" * pieces + plain[2:]
    if form == "PNG":
        return plain[:33] + (b"\0\0\0\0teSt" + struct.pack(">I", zlib.crc32(b"teSt"))) * pieces + plain[33:]
    if form == "GIF":
        at = plain.index(b"\x2c\0\0\0\0")
        return plain[:at] + b"\x21\xfe\0" * pieces + plain[at:]
    content = plain[8:] + b"ABCD\0\0\0\0" * pieces
    return b"RIFF" + struct.pack("<I", len(content)) + content


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP"])
def test_millions_of_empty_pieces_are_refused_after_a_look(form: str) -> None:
    """Going through them, in Python and in Pillow, took seconds."""
    assert open_photo(made_of(form, 1_000)).squares(8)[0].shape == (8, 8, 3)
    began = time.process_time()
    with pytest.raises(ImageError, match="more than 50,000 pieces"):
        open_photo(made_of(form, 800_000))
    assert time.process_time() - began < 2


def test_comments_and_padding_of_megabytes_take_no_time() -> None:
    plain = made_of("GIF", 0)
    at = plain.index(b"\x2c\0\0\0\0")
    large = plain[:at] + b"\x21\xfe" + (b"\xff" + b"A" * 255) * 38_000 + b"\0" + plain[at:]
    jpeg = made_of("JPEG", 0)
    padded = jpeg[:2] + b"\xff" * 9_000_000 + jpeg[2:]
    for data in (large, padded):
        began = time.process_time()
        assert open_photo(data).squares(8)[0].shape == (8, 8, 3)
        assert len(without_metadata(data)) < 2_000
        assert time.process_time() - began < 2
