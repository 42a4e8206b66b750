"""float32 [32]: a random projection of a photo's mean feature; and how familiar that is to a captioner.

Enough to tell whether people send other photos than a model was taught on, too little to see a photo in.
Random projections keep distances (Johnson and Lindenstrauss 1984) and need no fitting, so they are the same
everywhere and for ever.

A photo is its embedding (`embedding.py`), which every caption carries. It is as far from what was learnt as
from the training photo that is nearest to it, in the metric in which training photos vary alike in all
directions (Mahalanobis 1936; nearest neighbours as Sun et al. 2022, "Out-of-Distribution Detection with Deep
Nearest Neighbors", arXiv 2204.06507). How far is far is told by validation photos, which are like those that
were learnt from without being them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Self

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


Floats = NDArray[np.float32]

FLAGGED: Final = 0.01
"""The share of validation photos that are held for unlike what was learnt from."""
KEPT: Final = 4000
"""Training photos at most, of whichever corpus: 256 kB."""
_BATCH: Final = 512
_SHRINKAGE: Final = 0.01


@dataclass(frozen=True)
class Likeness:
    """How a photo looks beside what was learnt from.

    Attributes:
        share: of validation photos that look at least as unlike it, 0 to 1.
        familiar: it is not farther than all but the farthest 1 % of them.
    """

    share: float
    familiar: bool


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Training photos, and how far from them validation photos are.

    Attributes:
        taught: embeddings, float16 `[photos, D]`.
        distances: of validation photos, float32, rising.
        threshold: what is farther is unlike anything that was learnt from.
    """

    taught: NDArray[np.float16]
    distances: Floats
    threshold: float

    @classmethod
    def learn(cls, taught: Floats, validation: Floats) -> Self:
        """From the embeddings of training photos, and of validation photos that are none of them.

        Of many training photos the first `KEPT` are kept: give them in no particular order.

        Raises:
            ValueError: there is no photo of one kind.
        """
        if not len(taught) or not len(validation):
            raise ValueError("familiarity needs training photos, and validation photos beside them")
        empty = np.empty(0, np.float32)
        known = cls(np.asarray(taught[:KEPT], np.float16), empty, 0.0)
        distances = np.sort(known.distance(validation))
        return cls(known.taught, distances, float(np.quantile(distances, 1 - FLAGGED)))

    def distance(self, embeddings: Floats) -> Floats:
        """How far photos are from the nearest that was learnt from: embeddings `[n, D]`, distances `[n]`."""
        known, lengths = self._known
        found = [np.empty(0, np.float32)]
        for start in range(0, len(embeddings), _BATCH):
            asked = self._whitened(embeddings[start : start + _BATCH])
            # Not by BLAS, whose threads would wait behind those of the search that has just ended.
            products = np.einsum("nd,kd->nk", asked, known)
            squared = (asked**2).sum(1)[:, None] + lengths - 2 * products
            found.append(np.sqrt(squared.min(1).clip(0)))
        return np.concatenate(found)

    def __call__(self, embeddings: Floats) -> list[Likeness]:
        """What each photo is like, by its embedding `[n, D]`."""
        distances = self.distance(embeddings)
        farther = len(self.distances) - np.searchsorted(self.distances, distances)
        return [
            Likeness(float(count) / len(self.distances), bool(distance <= self.threshold))
            for count, distance in zip(farther, distances, strict=True)
        ]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All of it as arrays, for a file."""
        threshold = np.array([self.threshold], np.float32)
        return {"taught": self.taught, "distances": self.distances, "threshold": threshold}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self:
        """What `arrays` gave.

        Raises:
            KeyError, ValueError: it is not that, or its numbers are not finite.
        """
        taught, distances = arrays["taught"].astype(np.float16), arrays["distances"].astype(np.float32)
        (threshold,) = arrays["threshold"].astype(np.float32)
        if taught.ndim != 2 or not len(taught) or distances.ndim != 1 or not len(distances):
            raise ValueError("it holds no photos")
        if not (np.isfinite(taught).all() and np.isfinite(distances).all() and np.isfinite(threshold)):
            raise ValueError("its numbers are not finite")
        return cls(taught, distances, float(threshold))

    def _whitened(self, embeddings: NDArray[np.floating]) -> Floats:
        centre, whitening = self._metric
        whitened: Floats = np.einsum("nd,de->ne", embeddings - centre, whitening).astype(np.float32)
        return whitened

    @cached_property
    def _known(self) -> tuple[Floats, Floats]:
        """Training photos in that metric, and the squares of their lengths."""
        known = self._whitened(self.taught)
        return known, (known**2).sum(1)

    @cached_property
    def _metric(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where training photos are, and what makes them vary alike in all directions."""
        taught = self.taught.astype(np.float64)
        centre = taught.mean(0)
        covariance = (taught - centre).T @ (taught - centre) / len(taught)
        values, vectors = np.linalg.eigh(covariance)
        # Of few photos, or of photos that are all alike, nothing is known in most directions.
        floor = _SHRINKAGE * values.mean() + 1e-6
        return centre, vectors / np.sqrt(values + floor)
