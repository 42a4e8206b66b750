"""A photo in 32 numbers: its features averaged over the grid, and projected at random.

Enough to tell whether people send other photos than a model was taught on, too little to see a photo in.
Random projections keep distances (Johnson and Lindenstrauss 1984) and need no fitting, so they are the same
everywhere and for ever.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SIZE = 32


def embed(means: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of grids, float `[n, channels]`, as embeddings `[n, 32]`, rounded to float16 as they are kept."""
    projected = np.asarray(means, np.float32) @ _projection(means.shape[1])
    # A broken feature must not break a caption, and what is kept must be a number.
    limit = float(np.finfo(np.float16).max)
    sound = np.nan_to_num(projected, nan=0.0, posinf=limit, neginf=-limit).clip(-limit, limit)
    rounded: NDArray[np.float32] = sound.astype(np.float16).astype(np.float32)
    return rounded


def to_bytes(embedding: NDArray[np.float32]) -> bytes:
    """64 bytes: float16, little-endian."""
    return embedding.astype("<f2").tobytes()


def from_bytes(data: bytes) -> NDArray[np.float32]:
    """What `to_bytes` wrote."""
    return np.frombuffer(data, "<f2").astype(np.float32)


@lru_cache(maxsize=8)
def _projection(channels: int) -> NDArray[np.float32]:
    # RandomState and not default_rng: its numbers are promised never to change.
    normal = np.random.RandomState(7242).standard_normal((channels, SIZE))
    projection: NDArray[np.float32] = (normal / np.sqrt(SIZE)).astype(np.float32)
    return projection
