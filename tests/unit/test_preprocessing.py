import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captionloop.images import load_square
from captionloop.preprocessing import SQUASHED, VIEWS, WHOLE, Preprocessing

SIZES = st.integers(64, 3000)


def photo(width: int, height: int, form: str = "JPEG") -> bytes:
    """A picture with edges, as large as cameras make them."""
    rng = np.random.default_rng(width)
    tiles = Image.fromarray(rng.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), dtype=np.uint8))
    out = io.BytesIO()
    tiles.resize((width, height), Image.Resampling.BICUBIC).save(out, form)
    return out.getvalue()


@pytest.mark.parametrize("crop", ["center", "squash"])
@pytest.mark.parametrize("share", [1.0, 0.95, 0.875])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(1600, 1200), (801, 1333), (500, 375), (224, 224)])
def test_the_pixels_are_those_of_timms_own_transform(
    crop: str, share: float, interpolation: str, size: tuple[int, int]
) -> None:
    timm_data = pytest.importorskip("timm.data")
    data = photo(*size)
    transform = timm_data.create_transform(
        (3, 224, 224), crop_pct=share, crop_mode=crop, interpolation=interpolation, normalize=False
    )
    expected = transform(Image.open(io.BytesIO(data))).permute(1, 2, 0).numpy()
    by = Preprocessing(crop=crop, share=share, interpolation=interpolation)
    if by.scales_roughly:  # our own recipe lets the JPEG decoder halve; a PNG is scaled in one step
        data = photo(*size, form="PNG")
        expected = transform(Image.open(io.BytesIO(data))).permute(1, 2, 0).numpy()
    found = load_square(data, 224, by=by)
    assert np.abs(found.astype(int) - expected).max() <= 1


@given(width=SIZES, height=SIZES, share=st.floats(0.5, 1), crop=st.sampled_from(["center", "squash"]))
def test_what_is_seen_lies_in_the_photo_and_a_view_in_what_is_seen(
    width: int, height: int, share: float, crop: str
) -> None:
    by = Preprocessing(crop=crop, share=share)
    left, top, right, bottom = by.visible_box(width, height, 224)
    assert -1e-6 <= left < right <= width + 1e-6
    assert -1e-6 <= top < bottom <= height + 1e-6
    assert by.box(width, height, 224, WHOLE) == pytest.approx((left, top, right, bottom))
    for view in VIEWS.values():
        inner = by.box(width, height, 224, view)
        assert inner[0] >= left - 1e-6
        assert inner[3] <= bottom + 1e-6


@given(width=SIZES, height=SIZES, share=st.floats(0.6, 1), crop=st.sampled_from(["center", "squash"]))
def test_a_grid_over_what_is_seen_keeps_its_sum_over_the_photo(
    width: int, height: int, share: float, crop: str
) -> None:
    by = Preprocessing(crop=crop, share=share)
    grid = np.random.default_rng(0).random((7, 7))
    spread = by.over_photo(grid, width, height, 224)
    assert spread.sum() == pytest.approx(grid.sum(), rel=1e-6)
    assert min(spread.shape) >= 7
    assert (spread >= 0).all()


def test_what_the_middle_of_a_wide_photo_shows_lies_in_its_middle() -> None:
    by = Preprocessing(crop="center")
    spread = by.over_photo(np.ones((8, 8), np.float32), 1600, 800, 224)
    assert spread.shape == (8, 16)
    assert spread.dtype == np.float32
    assert (spread[:, :4] == 0).all()
    assert (spread[:, 12:] == 0).all()
    np.testing.assert_allclose(spread[:, 4:12], 1, atol=1e-3)
    assert SQUASHED.over_photo(spread, 1600, 800, 224) is spread
