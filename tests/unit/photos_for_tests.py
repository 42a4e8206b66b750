"""Photos of every form that is accepted, small enough to be spoilt by the hundred."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SQUARES = np.load(Path(__file__).with_name("squares_of_photos.npz"))
"""Photos, and what `load_views` made of each when the recipe `squash-bilinear-draft/2` was settled."""

FORMS = {name.removesuffix("|photo"): SQUARES[name].tobytes() for name in SQUARES.files if "|photo" in name}


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png_with(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with more chunks behind its header."""
    more = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return data[:33] + more + data[33:]


def jpeg_with(data: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment at its front."""
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + data[2:]


def exif_with(*entries: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block of these (tag, type, count, four bytes of value), big-endian."""
    table = b"".join(struct.pack(">HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + table + b"\0\0\0\0"


def spoilt(data: bytes, lengths: int, places: int) -> Iterator[bytes]:
    """Cut off at so many lengths, and with a byte changed at so many places, most of them in the header."""
    for length in np.linspace(0, len(data) - 1, lengths).astype(int):
        yield data[:length]
    header = np.arange(min(len(data), places // 2))
    beyond = np.linspace(min(len(header), len(data) - 1), len(data) - 1, places - len(header)).astype(int)
    for place in (*header, *beyond):
        yield data[:place] + bytes([data[place] ^ (0xFF if place % 2 else 0x41)]) + data[place + 1 :]
