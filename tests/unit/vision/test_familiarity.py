"""What is unlike anything that was learnt from."""

import numpy as np
import pytest

from captionloop.vision.embedding import FLAGGED, KEPT, Familiarity


def photos(count: int, seed: int, moved: float = 0.0) -> np.ndarray:
    """Two kinds of photos, in numbers that vary much in some directions and little in others."""
    centre = moved * np.where(np.arange(32) % 2, 1, -1)
    random = np.random.default_rng(seed)
    kind = random.integers(0, 2, (count, 1)) * 6.0
    return (random.normal(size=(count, 32)) * np.geomspace(0.02, 2, 32) + kind + centre).astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> Familiarity:
    return Familiarity.learn(photos(800, 0), photos(500, 1))


def test_of_photos_like_those_learnt_from_one_in_a_hundred_is_held_for_unlike_them(fitted):
    assert sum(not one.familiar for one in fitted(photos(500, 1))) == FLAGGED * 500
    assert sum(not one.familiar for one in fitted(photos(2000, 2))) < 0.03 * 2000


def test_photos_of_another_world_are_unlike_them_and_none_is_as_unlike(fitted):
    for photo in fitted(photos(100, 3, moved=2.0)):
        assert not photo.familiar
        assert photo.share == 0


def test_the_share_is_of_validation_photos_that_are_at_least_as_unlike(fitted):
    distances = fitted.distance(photos(500, 1))
    for place in (0, 250, 499):
        (photo,) = fitted(photos(500, 1)[place : place + 1])
        assert photo.share == pytest.approx((distances >= distances[place]).mean(), abs=0.005)


def test_what_varies_little_tells_as_much_as_what_varies_much(fitted):
    odd = photos(1, 2)
    odd[:, 0] += 1.0  # fifty times as far as it ever strays
    assert not fitted(odd)[0].familiar


def test_it_is_the_same_out_of_a_file(fitted):
    again = Familiarity.from_arrays(fitted.arrays())
    assert again(photos(20, 5)) == fitted(photos(20, 5))


def test_of_very_many_photos_some_are_kept():
    kept = Familiarity.learn(photos(KEPT + 10, 0), photos(10, 1))
    assert len(kept.training) == KEPT


def test_two_photos_suffice_and_none_do_not():
    assert Familiarity.learn(photos(1, 0), photos(1, 1))(photos(1, 1))[0].familiar
    for nothing in ((photos(0, 0), photos(5, 1)), (photos(5, 0), photos(0, 1))):
        with pytest.raises(ValueError, match="needs training photos"):
            Familiarity.learn(*nothing)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("taught", np.full((2, 32), np.nan, np.float16)),
        ("taught", np.empty((0, 32), np.float16)),
        ("distances", np.empty(0, np.float32)),
        ("threshold", np.array([np.inf], np.float32)),
        ("threshold", np.empty(0, np.float32)),
    ],
)
def test_what_is_no_familiarity_is_refused(fitted, name, value):
    with pytest.raises(ValueError):
        Familiarity.from_arrays(fitted.arrays() | {name: value})
