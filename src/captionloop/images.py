"""The bytes of a photo in, uint8 RGB pixels out: for inspection, training and the service alike.

All of them come through here, so they agree on which photos can be decoded, which way up they are, and what
is seen where they are transparent (white), animated (the first frame) or have a colour profile (it is
ignored). Memory is bounded: a photo says in its header what decoding it takes, and large ones take turns.
"""

import hashlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from captionloop.errors import ImageError, ImageLimitError, in_a_line
from captionloop.hardware import SharedMemory
from captionloop.image_header import MEDIA_TYPES, PhotoFile, open_photo_file, webp_size
from captionloop.preprocessing import SQUASHED, WHOLE, Preprocessing, View

Pixels = NDArray[np.uint8]

MAX_PIXELS: Final = 64_000_000
"""The largest photo we decode: above every common camera, below what makes a decoder a weapon."""

MAX_DECODED_BYTES: Final = 256_000_000
"""The most memory that one photo may take while it is decoded, and that all large ones together may."""

PREPROCESSING: Final = "squash-bilinear-draft/2"
"""Names the recipe below; part of every encoder's fingerprint. Change it whenever the pixels change."""

_LARGEST_SQUARE: Final = 1024  # px, that an encoder is fed
_MAX_SIDE: Final = 65_535
_MAX_SCANS: Final = 100
_STRIP: Final = 1 << 18  # pixels that are converted at a time
_COPIED: Final = MAX_DECODED_BYTES // 8  # pixels, of the largest photo held as decoded and as upright RGB
_REDUCED: Final = 12_000_000  # pixels, of an upright picture for whose copy there is no room
_LARGE: Final = 16_000_000  # bytes: photos that take less are decoded without waiting for a turn
_READERS: Final[dict[str, Callable[[io.BytesIO, str], ImageFile.ImageFile]]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
_PIXEL_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2}  # of Pillow's modes; the others take 4
_WEBP_PIXEL_BYTES: Final = 16  # two canvases, the frame, and Pillow's copy of it
_TURNED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a photo of each EXIF orientation is turned upright."""


@dataclass(frozen=True)
class Photo:
    """A photo whose header has been read and found within the limits; each method decodes it.

    Attributes:
        media_type: `image/jpeg`, and so on.
        width, height: px, upright.
    """

    media_type: str
    width: int
    height: int
    _file: PhotoFile
    _header: "_Header"

    def squares(
        self, size: int, views: Sequence[View] = (WHOLE,), preprocessing: Preprocessing = SQUASHED
    ) -> list[Pixels]:
        """Views as uint8 `[size, size, 3]` each; decoded once for all that show as much of it.

        Raises:
            ImageError: damaged or truncated.
        """
        squares: dict[View, Pixels] = {}
        for extent in {view.extent for view in views}:
            # Twice what is needed, so that the last halving is the resampler's: the decoder's is a crude box.
            # JPEG only, by 1/2, 1/4 or 1/8, never below what is asked for.
            needed = 2 * math.ceil(size / extent) if preprocessing.scales_roughly else None
            with self._decoded(needed) as picture:
                alike = [view for view in views if view.extent == extent]
                squares |= {view: picture.square(size, view, preprocessing) for view in alike}
        return [squares[view] for view in views]

    def shrunk_and_hash(self, side: int) -> tuple[Pixels, str]:
        """The photo shrunk to uint8 `[side, side, 3]`, and a hash of its pixels.

        The hash is empty for a large JPEG, of which only as much is decoded as the small picture needs.

        Raises:
            ImageError: damaged or truncated.
        """
        with self._decoded(4 * side) as picture:
            box = (0, 0, picture.width, picture.height)
            small = np.asarray(picture.resized((side, side), box, Image.Resampling.BOX))
            whole = (picture.width, picture.height) == (self.width, self.height)
            return small, picture.digest() if whole else ""

    def whole(self) -> Image.Image:
        """All of it, as an upright RGB picture.

        Raises:
            ImageError: damaged or truncated.
        """
        with self._decoded() as picture:
            return picture.rows(0, picture.height)

    @contextmanager
    def upright(self) -> Iterator[Image.Image]:
        """All of it, as an upright RGB picture; one that is too large for a second copy is made smaller.

        No other large photo is decoded before it is let go of.

        Raises:
            ImageError: damaged or truncated.
        """
        with self._decoded() as picture:
            upright = picture.upright()
            picture.close()
            try:
                yield upright
            finally:
                upright.close()  # whoever still holds it

    @contextmanager
    def _decoded(self, needed: int | None = None) -> "Iterator[_Picture]":
        """The pixels, of a JPEG scaled down to no less than `needed` px a side."""
        header, file = self._header, self._file
        weight = header.decoded_bytes(file, needed) + header.copied_bytes(file, needed)
        with _decoding_memory.taken(weight), _decoding_errors():
            image = _READERS[self._file.format](io.BytesIO(self._file.data), "")
            if needed is not None:
                image.draft("RGB", (needed, needed))
            image.load()
            picture = _Picture(image, self._file.orientation)
            try:
                yield picture
            finally:
                picture.close()
                del image


def open_photo(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Reads a photo's header. What it is called does not matter, nor do text, profiles and previews in it.

    Raises:
        ImageError: not a photo of a format that is accepted, or its header is damaged.
        ImageLimitError: more than `max_pixels` or `MAX_PIXELS`, or it takes too much memory to decode.
    """
    file = open_photo_file(data)
    with _decoding_errors():
        header = _Header.read(file)
        header.check(file, min(max_pixels, MAX_PIXELS))
    width, height = header.width, header.height
    if file.orientation >= 5:
        width, height = height, width
    return Photo(MEDIA_TYPES[file.format], width, height, file, header)


def decode_photo(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes a photo as people see it: upright (EXIF), RGB, transparency over white, first frame only.

    Raises:
        ImageError: not a photo, damaged, truncated, or of more than `max_pixels` (found out before decoding).
    """
    return open_photo(data, max_pixels=max_pixels).whole()


def load_square(data: bytes, size: int, view: View = WHOLE, by: Preprocessing = SQUASHED) -> Pixels:
    """Decodes a photo and scales it to uint8 `[size, size, 3]`; of a large JPEG only as much as that needs.

    Raises:
        ImageError: as `decode_photo`.
    """
    return open_photo(data).squares(size, (view,), by)[0]


def load_views(data: bytes, size: int, views: Sequence[View], by: Preprocessing = SQUASHED) -> list[Pixels]:
    """The same for several views of a photo, which is decoded once for all that show as much of it."""
    return open_photo(data).squares(size, views, by)


def square(photo: Image.Image, size: int, view: View = WHOLE) -> Pixels:
    """Squashes a view of an RGB photo to uint8 `[size, size, 3]`, so that attention can look at all of it."""
    return _Picture(photo, 1).square(size, view, SQUASHED)


@dataclass(frozen=True)
class _Header:
    """A photo's mode (Pillow's) and size in px as stored, a JPEG's components as (horizontal, vertical)
    samplings.
    """

    mode: str
    width: int
    height: int
    samplings: tuple[tuple[int, int], ...] = ()

    @classmethod
    def read(cls, file: PhotoFile) -> "_Header":
        if file.format == "WEBP":
            return cls("RGBA", *webp_size(file.data))
        image = _READERS[file.format](io.BytesIO(file.data), "")
        samplings = tuple((layer[1], layer[2]) for layer in getattr(image, "layer", ()))
        return cls(image.mode, image.width, image.height, samplings)

    def decoded_bytes(self, file: PhotoFile, needed: int | None) -> int:
        """What decoding takes, of a JPEG to no less than `needed` px a side."""
        pixels = self.width * self.height
        if file.format == "WEBP":
            return pixels * _WEBP_PIXEL_BYTES
        weight = self._pixels(file, needed) * _PIXEL_BYTES.get(self.mode, 4)
        weight *= 2 if file.format == "GIF" else 1
        if file.buffered and self.samplings:  # 16 bits for each coefficient
            largest_sampling = max(h for h, _ in self.samplings) * max(v for _, v in self.samplings)
            weight += sum(2 * pixels * h * v for h, v in self.samplings) // max(largest_sampling, 1)
        return weight

    def copied_bytes(self, file: PhotoFile, needed: int | None) -> int:
        """What an upright RGB copy of it takes beside that; nothing where strips are made instead."""
        pixels = self._pixels(file, needed)
        is_plain = file.format == "JPEG" and self.mode == "RGB" and file.orientation == 1
        return 0 if is_plain or pixels > _COPIED else 4 * pixels

    def _pixels(self, file: PhotoFile, needed: int | None) -> int:
        """How many pixels are decoded, of a JPEG to no less than `needed` px a side."""
        pixels = self.width * self.height
        if file.format != "JPEG" or needed is None:
            return pixels
        scales = (by for by in (2, 4, 8) if min(self.width, self.height) >= by * needed)
        return int(pixels // max(scales, default=1) ** 2)

    def check(self, file: PhotoFile, max_pixels: int) -> None:
        size = f"image of {self.width} x {self.height} px"
        if self.width * self.height > max_pixels:
            raise ImageLimitError(
                f"{size} is too large: at most {max_pixels / 1e6:.0f} megapixels are decoded;"
                " scale it down first"
            )
        if max(self.width, self.height) > _MAX_SIDE:
            raise ImageLimitError(f"{size} is too long: at most {_MAX_SIDE:,} px a side; cut it to pieces")
        if file.buffered and (scans := file.data.count(b"\xff\xda")) > _MAX_SCANS:
            raise ImageLimitError(
                f"JPEG image of {scans:,} scans: at most {_MAX_SCANS} are decoded; save it again as JPEG"
            )
        if (weight := self.decoded_bytes(file, _LARGEST_SQUARE)) > MAX_DECODED_BYTES:
            raise ImageLimitError(
                f"{size} is too large: a {file.format} of this kind takes {weight / 1e6:.0f} MB to decode, at"
                f" most {MAX_DECODED_BYTES / 1e6:.0f} MB; scale it down, or save it as a plain JPEG"
            )


class _Picture:
    """A decoded photo, still in its file's mode and orientation, of which upright RGB is made in strips.

    So a large photo is held once, and not once more for each step on its way.
    """

    def __init__(self, image: Image.Image, orientation: int) -> None:
        self._image = image
        self._orientation = orientation
        self._plain = orientation == 1 and image.mode == "RGB" and not image.has_transparency_data
        self.width, self.height = image.size if orientation < 5 else image.size[::-1]

    def square(self, size: int, view: View, preprocessing: Preprocessing) -> Pixels:
        """A view as uint8 `[size, size, 3]`."""
        box = preprocessing.box(self.width, self.height, size, view)
        by = Image.Resampling[preprocessing.interpolation.upper()]
        pixels: Pixels = np.asarray(self.resized((size, size), box, by))
        return np.ascontiguousarray(pixels[:, ::-1]) if view.mirrored else pixels

    def resized(
        self, size: tuple[int, int], box: tuple[float, float, float, float], by: Image.Resampling
    ) -> Image.Image:
        """A part of the photo scaled to `size`.

        What is too large for a second copy is scaled across strip by strip, then down: now and then Pillow
        would have done it the other way round, and a pixel then differs by 1.
        """
        if self._plain or self.width * self.height <= _COPIED:
            return self._upright.resize(size, by, box=box, reducing_gap=None)
        left, top, right, bottom = box
        across = Image.new("RGB", (size[0], self.height))
        for begin, end in self._strips():
            strip = self.rows(begin, end)
            narrow = strip.resize((size[0], end - begin), by, box=(left, 0, right, end - begin))
            across.paste(narrow, (0, begin))
        return across.resize(size, by, box=(0, top, size[0], bottom))

    @cached_property
    def _upright(self) -> Image.Image:
        if self._plain or self.width * self.height <= _STRIP:
            return self.rows(0, self.height)
        upright = Image.new("RGB", (self.width, self.height))
        for begin, end in self._strips():
            upright.paste(self.rows(begin, end), (0, begin))
        return upright

    def upright(self) -> Image.Image:
        """All of it in RGB; of a large one, every so many pixels each way as one."""
        if self._plain or self.width * self.height <= _COPIED:
            return self._upright
        by = math.ceil(math.sqrt(self.width * self.height / _REDUCED))
        small = Image.new("RGB", (math.ceil(self.width / by), math.ceil(self.height / by)))
        step = by * max(1, _STRIP // self.width // by)
        for begin in range(0, self.height, step):
            strip = self.rows(begin, min(begin + step, self.height))
            small.paste(strip.reduce(by), (0, begin // by))
        return small

    def close(self) -> None:
        """Frees the pixels, whoever still holds the picture."""
        self.__dict__.pop("_upright", None)
        self._image = Image.new("L", (1, 1))

    def digest(self) -> str:
        """A hash of all pixels."""
        digest = hashlib.blake2b(f"{self.width}x{self.height}".encode(), digest_size=16)
        for begin, end in self._strips():
            digest.update(self.rows(begin, end).tobytes())
        return digest.hexdigest()

    def rows(self, begin: int, end: int) -> Image.Image:
        """Some rows of the upright photo, RGB."""
        width, height = self._image.size
        if self._orientation >= 5:  # upright rows are columns of what is stored
            rows = (width - end, width - begin) if self._orientation >= 7 else (begin, end)
            box = (rows[0], 0, rows[1], height)
        else:
            rows = (height - end, height - begin) if self._orientation in {3, 4} else (begin, end)
            box = (0, rows[0], width, rows[1])
        strip = _rgb(self._image if box == (0, 0, width, height) else self._image.crop(box))
        return strip.transpose(_TURNED[self._orientation]) if self._orientation > 1 else strip

    def _strips(self) -> Iterator[tuple[int, int]]:
        step = max(1, _STRIP // self.width)
        for begin in range(0, self.height, step):
            yield begin, min(begin + step, self.height)


def _rgb(image: Image.Image) -> Image.Image:
    """RGB pixels, transparency over white."""
    if image.mode.startswith("I"):  # 16 bits: keep the upper eight
        values = np.asarray(image).astype(np.uint32)
        grey = (values >> 8).clip(0, 255).astype(np.uint8)
        if isinstance(image.info.get("transparency"), int):
            grey[values == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        upon = Image.new("RGBA", image.size, "white")
        upon.alpha_composite(image.convert("RGBA"))
        return upon.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


_decoding_memory: Final = SharedMemory(MAX_DECODED_BYTES, least=_LARGE)


@contextmanager
def _decoding_errors() -> Iterator[None]:
    """Turns what Pillow raises into `ImageError` or `ImageLimitError`."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageLimitError(
            f"image is too large to decode ({in_a_line(error)}); scale it down first"
        ) from None
    except MemoryError:
        raise ImageLimitError(
            "image takes more memory to decode than there is; scale it down first"
        ) from None
    except Exception as error:  # damaged files raise nearly everything
        raise ImageError(
            f"image is damaged or truncated ({in_a_line(error)}); save it again from the original"
        ) from error.with_traceback(None)  # which would hold on to the pixels
