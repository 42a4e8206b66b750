"""What a photo's file says before anything is decoded: its format, its orientation, and what decoding takes.

Pillow decodes the pixels, but reads much else on the way: text, profiles, previews, every tag of the EXIF
block. A fault or a limit in those says nothing about the photo, so they are taken out of the file first, and
the one tag that matters is read here.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Final

from captionloop.errors import ImageError

MEDIA_TYPES: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}
"""The formats that are accepted."""

_ACCEPTED: Final = ", ".join(MEDIA_TYPES)
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_ORIENTATION: Final = 0x0112
_MOST_PIECES: Final = 50_000
"""Segments, chunks or blocks of a file: cameras and programs write a few thousand at most, and going through
millions of empty ones takes seconds.
"""
PADDING: Final = re.compile(rb"\xff+")
"""Before each marker of a JPEG: one such byte, or many."""
_NUMBERS: Final = {1: 1, 3: 2, 4: 4}  # TIFF's types BYTE, SHORT and LONG, in bytes
_OTHERS: Final = (
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"II*\0", "a TIFF or camera raw image"),
    (b"MM\0*", "a TIFF or camera raw image"),
    (b"II+\0", "a TIFF image"),
    (b"MM\0+", "a TIFF image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"8BPS", "a Photoshop file"),
    (b"gimp xcf", "a GIMP file"),
    (b"FUJIFILM", "a camera raw image"),
    (b"\0\0\1\0", "an icon file"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the photo that it stands for"),
)
_BRANDS: Final = {
    b"avif": "an AVIF image",
    b"avis": "an AVIF image",
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "a HEIC image"),
}


@dataclass(frozen=True)
class PhotoFile:
    """A photo's file without its metadata.

    Attributes:
        format: one of `MEDIA_TYPES`.
        data: the file, of which only what pixels are made of may be left.
        orientation: EXIF's, 1 to 8; 1 where there is none, or none that can be read. Orientation that stands
            only in XMP counts nowhere, as in browsers.
        buffered: a JPEG of several scans, whose coefficients are all held while it is decoded.
    """

    format: str
    data: bytes
    orientation: int = 1
    buffered: bool = False


def open_photo_file(data: bytes) -> PhotoFile:
    """The format by the first bytes, the orientation, and the data without metadata.

    Raises:
        ImageError: it is of a format that is not accepted, which the message names, or no image at all.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return PhotoFile("WEBP", data, _orientation(_webp_exif(data)))
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif(data)
    if data.startswith(b"BM"):
        return PhotoFile("BMP", data)
    raise ImageError(_refusal(data))


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP's canvas in px: its decoder takes memory for it as soon as it is made.

    Raises:
        ImageError: the header is damaged.
    """
    kind = data[12:16]
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and len(data) >= 30:
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and data[20:21] == b"\x2f" and len(data) >= 25:
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    raise ImageError("image is damaged or truncated (its WebP header); save it again from the original")


def _refusal(data: bytes) -> str:
    if not data:
        return "the file is empty (0 bytes)"
    what = next((name for start, name in _OTHERS if data.startswith(start)), "")
    if data[4:8] == b"ftyp":
        what = _BRANDS.get(data[8:12], "a video, or an image of another kind")
    text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not what and b"<svg" in text:
        what = "an SVG drawing"
    elif not what and text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        what = "a web page, not a photo"
    if not what:
        return f"not an image that can be read; use one of {_ACCEPTED}"
    return f"this is {what}, which is not accepted; save it as one of {_ACCEPTED}"


def _jpeg(data: bytes) -> PhotoFile:
    """Leaves out all segments before the first scan that neither the pixels nor their colours depend on."""
    view = memoryview(data)
    kept, exif, at, components, buffered = [view[:2]], b"", 2, b"", True
    for piece in count():
        _refuse_many(piece)
        padding = PADDING.match(data, at)
        if padding is None:
            break
        at = padding.end() - 1
        if at + 4 > len(data):
            break
        marker = data[at + 1]
        end = at + 2 + int.from_bytes(view[at + 2 : at + 4], "big")
        if marker == 0xDA:  # a scan; it says how many of the components it holds
            buffered = data[at + 4 : at + 5] != components
            break
        if marker in {0x00, 0x01, *range(0xD0, 0xDA)} or end < at + 4 or end > len(data):
            break  # Pillow may know what to make of it
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            components = data[at + 9 : at + 10] if marker in {0xC0, 0xC1} else b"progressive"
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            exif += bytes(view[at + 10 : end])
        if not (0xE1 <= marker <= 0xED or marker in {0xEF, 0xFE}):
            kept.append(view[at:end])
        at = end
    return PhotoFile("JPEG", b"".join([*kept, view[at:]]), _orientation(exif), buffered)


def _png(data: bytes) -> PhotoFile:
    """Leaves the chunks that every decoder must know, and transparency: the first frame of an animation."""
    view = memoryview(data)
    kept, exif, rest = [view[: len(_PNG)]], b"", len(_PNG)
    for at, end in _chunks(data, len(_PNG), "big"):
        kind = data[at + 4 : at + 8]
        if kind == b"eXIf":
            exif = data[at + 8 : end - 4]
        if kind[:1].isupper() or kind == b"tRNS":
            kept.append(view[at:end])
        rest = end
    return PhotoFile("PNG", b"".join([*kept, view[rest:]]), _orientation(exif))


def _webp_exif(data: bytes) -> bytes:
    for at, end in _chunks(data, 12, "little"):
        if data[at : at + 4] == b"EXIF":
            return data[at + 8 : end]
    return b""


def _chunks(data: bytes, at: int, order: str) -> Iterator[tuple[int, int]]:
    """Where each whole chunk begins and ends: PNG's are a length and a name, RIFF's a name and a length."""
    for piece in count():
        if at + 8 > len(data):
            return
        _refuse_many(piece)
        if order == "big":
            end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        else:
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            end = at + 8 + size + size % 2
        if end > len(data):
            return
        yield at, end
        at = end


def _gif(data: bytes) -> PhotoFile:
    """Leaves out what stands before the first picture and says nothing of it, such as comments."""
    view = memoryview(data)
    with suppress(IndexError):  # Pillow tells what is wrong with it
        at = 13 + gif_colours(data[10])
        kept = [view[:at]]
        for piece in count():
            _refuse_many(piece)
            if data[at] != 0x21:
                return PhotoFile("GIF", b"".join([*kept, view[at:]]))
            end = after_gif_blocks(data, at + 2)
            if data[at + 1] == 0xF9:  # what of the picture is transparent
                kept.append(view[at:end])
            at = end
    return PhotoFile("GIF", data)


def gif_colours(flags: int) -> int:
    """The size of a GIF's colour table in bytes."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def after_gif_blocks(data: bytes, at: int) -> int:
    """Where the blocks that begin there have ended. Raises IndexError where they do not."""
    while data[at]:
        at += 1 + data[at]
    return at + 1


def _refuse_many(piece: int) -> None:
    if piece > _MOST_PIECES:
        raise ImageError(
            f"image is made of more than {_MOST_PIECES:,} pieces; save it again from the original"
        )


def _orientation(exif: bytes) -> int:
    """The last readable orientation in the first directory of an EXIF block."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    sign = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if sign is None or len(exif) < 10:
        return 1
    (start,) = struct.unpack_from(f"{sign}I", exif, 4)
    if start + 2 > len(exif):
        return 1
    (count,) = struct.unpack_from(f"{sign}H", exif, start)
    found = 1
    for at in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, values = struct.unpack_from(f"{sign}HHI", exif, at)
        size = _NUMBERS.get(kind, 0)
        if tag == _ORIENTATION and size and 1 <= values <= 4 // size:
            value = int.from_bytes(exif[at + 8 : at + 8 + size], "little" if sign == "<" else "big")
            found = value if 1 <= value <= 8 else found
    return found
