import numpy as np
import pytest

from captionloop.vision.embedding import SIZE, embed, from_bytes, to_bytes


@pytest.fixture
def means() -> np.ndarray:
    return np.random.default_rng(0).gamma(1.0, 1.0, (50, 512)).astype(np.float32)


def test_an_embedding_is_32_numbers_in_64_bytes(means) -> None:
    (embedding,) = embed(means[:1])
    assert embedding.shape == (SIZE,)
    assert len(to_bytes(embedding)) == 64
    assert np.array_equal(from_bytes(to_bytes(embedding)), embedding)


def test_an_embedding_does_not_depend_on_its_batch(means) -> None:
    assert np.allclose(embed(means)[7], embed(means[7:8])[0], atol=0.1)


def test_distances_are_kept_roughly(means) -> None:
    near = means + np.random.default_rng(1).normal(0, 0.05, means.shape).astype(np.float32)
    moved = np.linalg.norm(embed(means) - embed(near), axis=1)
    apart = np.linalg.norm(embed(means) - embed(means[::-1]), axis=1)[means.shape[0] // 4 :]
    assert moved.max() < apart[apart > 0].min()


def test_the_projection_is_the_same_for_ever() -> None:
    ones = embed(np.ones((1, 3), np.float32))[0]
    assert ones[:4] == pytest.approx([0.1917, -0.0961, 0.0912, -0.2847], abs=1e-3)


def test_a_broken_feature_is_still_a_number() -> None:
    broken = np.full((1, 8), np.inf, np.float32)
    broken[0, 0] = np.nan
    assert np.isfinite(embed(broken)).all()
