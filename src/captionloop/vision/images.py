"""From the bytes of a photo to the square of pixels that an encoder reads.

Training, evaluation and the service all come through here: a model is asked about what it was taught on.
"""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from captionloop.errors import ImageError
from captionloop.vision.views import WHOLE, View

Pixels = NDArray[np.uint8]

MAX_PIXELS: Final = 64_000_000
"""The largest photo we decode: above every common camera, below what makes a decoder a weapon."""

PREPROCESSING: Final = "squash-bilinear-draft/2"
"""Names the recipe below; part of every encoder's fingerprint. Change it whenever the pixels change."""

_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_ORIENTATION: Final = 0x0112


def decode_photo(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes a photo as people see it: upright (EXIF), RGB, transparency over white, first frame only.

    Raises:
        ImageError: not a photo, damaged, truncated, or of more than `max_pixels` (found out before decoding).
    """
    with _decoding_errors():
        return _upright(_rgb(_open(data, max_pixels)))


def square(photo: Image.Image, size: int, view: View = WHOLE) -> Pixels:
    """Squashes a view of an RGB photo to uint8 `[size, size, 3]`, so that attention can look at all of it."""
    box = view.box(photo.width, photo.height)
    if photo.size != (size, size) or box != (0, 0, size, size):
        photo = photo.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=None)
    pixels: Pixels = np.asarray(photo)
    return np.ascontiguousarray(pixels[:, ::-1]) if view.mirrored else pixels


def load_square(data: bytes, size: int, view: View = WHOLE, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decodes a photo and squashes it to uint8 `[size, size, 3]`; of a large JPEG only as much as that needs.

    Raises:
        ImageError: as `decode_photo`.
    """
    return load_views(data, size, (view,), max_pixels=max_pixels)[0]


def load_views(
    data: bytes, size: int, views: Sequence[View], *, max_pixels: int = MAX_PIXELS
) -> list[Pixels]:
    """The same for several views of a photo, which is decoded once for all that show as much of it.

    Raises:
        ImageError: as `decode_photo`.
    """
    with _decoding_errors():
        photos = {extent: _for_extent(data, size, extent, max_pixels) for extent in {v.extent for v in views}}
        return [square(photos[view.extent], size, view) for view in views]


def _for_extent(data: bytes, size: int, extent: float, max_pixels: int) -> Image.Image:
    image = _open(data, max_pixels)
    # Twice what is needed, so that the last halving is the resampler's: the decoder's own scaling is a crude
    # box. JPEG only, by 1/2, 1/4 or 1/8, never below what is asked for.
    needed = 2 * math.ceil(size / extent)
    image.draft("RGB", (needed, needed))
    return _upright(_rgb(image))


def _open(data: bytes, max_pixels: int) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=_FORMATS)  # reads the header only
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageError(
            f"image of {image.width} x {image.height} px is too large: at most"
            f" {max_pixels / 1e6:.0f} megapixels are decoded; scale it down first"
        )
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith("I"):  # 16 bits a channel: keep the upper eight
        grey = np.asarray(image).astype(np.uint32) >> 8
        return _keeping_orientation(image, Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB"))
    if image.has_transparency_data:
        upon = Image.new("RGBA", image.size, "white")
        upon.alpha_composite(image.convert("RGBA"))
        return _keeping_orientation(image, upon.convert("RGB"))
    return _keeping_orientation(image, image.convert("RGB"))


def _keeping_orientation(original: Image.Image, converted: Image.Image) -> Image.Image:
    for key in ("exif", "xmp"):
        if key in original.info:
            converted.info[key] = original.info[key]
    return converted


def _upright(image: Image.Image) -> Image.Image:
    if "exif" not in image.info or image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    turned: Image.Image = ImageOps.exif_transpose(image)
    return turned


@contextmanager
def _decoding_errors() -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image that can be read; use one of {', '.join(_FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"image is too large to decode ({error}); scale it down first") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, MemoryError) as error:
        raise ImageError(
            f"image is damaged or truncated ({error}); save it again from the original"
        ) from error
