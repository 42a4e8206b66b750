"""The bytes of a photo in, the bytes of the same picture without metadata out.

EXIF (place, time, camera, owner), XMP, IPTC, comments, colour profiles, previews, and whatever stands behind
the end of the picture (the film of a moving photo, a second picture) are left out. The picture's own data
stay as they are, byte for byte, so the pixels do too; only a photo that lies on its side, or a file that is
not put together as its format says, is decoded and encoded anew.
"""

import io
import re
import struct
from collections.abc import Iterator
from typing import Final

from captionloop.image_header import PADDING, PhotoFile, after_gif_blocks, gif_colours, open_photo_file
from captionloop.images import MAX_PIXELS, open_photo

QUALITY: Final = 95
"""Of a JPEG that must be encoded anew."""

_PNG_KEPT: Final = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_WEBP_PICTURES: Final = {b"VP8 ", b"VP8L", b"ANMF"}
_WEBP_KEPT: Final = _WEBP_PICTURES | {b"VP8X", b"ALPH", b"ANIM"}
_WEBP_FLAGS: Final = 0x20 | 0x08 | 0x04  # of VP8X: there is a colour profile, EXIF, XMP
_GIF_LOOPS: Final = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class _Irregular(Exception):  # noqa: N818 - no error: such a file is encoded anew
    """The file is not structured as its format prescribes."""


def without_metadata(data: bytes, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """The same photo, upright, in a file that holds nothing but the picture; such a file comes back as it is.

    A photo on its side of more than 32 megapixels comes back a half or a third as wide and high: there is no
    room to turn it.

    Raises:
        ImageError: no photo of a format that is accepted; or damaged, where it had to be decoded.
        ImageLimitError: too large to be decoded.
    """
    file = open_photo_file(data)
    if file.orientation == 1:
        try:
            return _KEPT[file.format](data)
        except (_Irregular, IndexError, struct.error):
            pass
    return _encoded_anew(data, file, max_pixels)


def _encoded_anew(data: bytes, file: PhotoFile, max_pixels: int) -> bytes:
    out = io.BytesIO()
    with open_photo(data, max_pixels=max_pixels).upright() as upright:
        upright.info = {}  # which Pillow would write into the new file
        if file.format == "JPEG" or data[12:16] == b"VP8 ":
            upright.save(out, "JPEG", quality=QUALITY, subsampling="4:4:4")
        else:
            upright.save(out, "PNG", compress_level=1)  # the smallest file takes ten times as long
    return out.getvalue()


def _jpeg(data: bytes) -> bytes:
    kept, at = [data[:2]], 2
    while True:
        padding = PADDING.match(data, at)
        if padding is None:
            raise _Irregular
        at = padding.end() - 1
        marker = data[at + 1]
        if marker == 0xD9:  # the end; what follows is not the picture
            return b"".join([*kept, data[at : at + 2]])
        if marker < 0xC0 or 0xD0 <= marker <= 0xD8 or 0xF0 <= marker <= 0xFD:
            raise _Irregular
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end < at + 4 or end > len(data):
            raise _Irregular
        if marker == 0xDA:
            following = _AFTER_SCAN.search(data, end)
            if following is None:
                raise _Irregular
            end = following.start()
            kept.append(data[at:end])
        else:
            kept.append(_jpeg_segment(marker, data[at:end]))
        at = end


def _jpeg_segment(marker: int, segment: bytes) -> bytes:
    """Of the segments of applications, only what says how colours are meant; of that, not the preview."""
    body = segment[4:]
    if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        return segment if len(body) == 14 else b"\xff\xe0\0\x10" + body[:12] + b"\0\0"
    if marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
        return b"\xff\xee\0\x0e" + body[:12]
    return b"" if marker >= 0xE0 else segment


def _png(data: bytes) -> bytes:
    kept, at = [data[:8]], 8
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise _Irregular
        if kind in _PNG_KEPT:
            kept.append(data[at:end])
        if kind == b"IEND":
            return b"".join(kept)
        at = end


def _webp(data: bytes) -> bytes:
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise _Irregular
    kept, pictures = [b"WEBP"], 0
    for kind, body in _webp_chunks(data[12:end]):
        pictures += kind in _WEBP_PICTURES
        if kind == b"VP8X":
            kept.append(_webp_chunk(kind, bytes([body[0] & ~_WEBP_FLAGS]) + body[1:]))
        elif kind == b"ANMF":
            frame = [inner for inner in _webp_chunks(body[16:]) if inner[0] in _WEBP_KEPT]
            if not any(inner[0] in _WEBP_PICTURES for inner in frame):  # without one no frame can be decoded
                raise _Irregular
            kept.append(_webp_chunk(kind, body[:16] + b"".join(_webp_chunk(*inner) for inner in frame)))
        elif kind in _WEBP_KEPT:
            kept.append(_webp_chunk(kind, body))
    if not pictures:
        raise _Irregular
    content = b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if at + 8 + size > len(data):
            raise _Irregular
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _webp_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _gif(data: bytes) -> bytes:
    at = 13 + gif_colours(data[10])
    kept = [data[:at]]
    while data[at] != 0x3B:
        if data[at] == 0x21:
            first, end = at + 2, after_gif_blocks(data, at + 2)
            loop = data[at + 1] == 0xFF and data[first + 1 : first + 12] in _GIF_LOOPS and end == first + 17
            if data[at + 1] == 0xF9 or loop:  # how long a frame is shown, and what of it is transparent
                kept.append(data[at:end])
        elif data[at] == 0x2C:
            end = after_gif_blocks(data, at + 11 + gif_colours(data[at + 9]))
            kept.append(data[at:end])
        else:
            raise _Irregular
        at = end
    return b"".join([*kept, b"\x3b"])


def _bmp(data: bytes) -> bytes:
    """Only the plain kind, which nearly all are, is cut to its pixels."""
    (offset,) = struct.unpack_from("<I", data, 10)
    header, width, height, _, bits, packing, _, _, _, colours, _ = struct.unpack_from(
        "<IiiHHIIiiII", data, 14
    )
    table = 4 * (colours or 1 << bits if bits <= 8 else colours)
    end = offset + (width * bits + 31) // 32 * 4 * abs(height)
    if header != 40 or packing or width <= 0 or offset != 54 + table or end > len(data):
        raise _Irregular
    return b"BM" + struct.pack("<IIII", end, 0, offset, header) + data[18:end]


_KEPT: Final = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "GIF": _gif, "BMP": _bmp}
