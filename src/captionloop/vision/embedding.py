"""The mean feature of a photo in; a random projection float32 [32], and its distance to training photos, out.

The projection is enough to detect photos unlike those of training, too little to reconstruct a photo. Random
projections keep distances (Johnson and Lindenstrauss 1984) and need no fitting, so they are the same
everywhere and for ever.

`Familiarity` holds the embeddings of training photos. A photo is as far from them as from the one that is
nearest to it, in the metric in which training photos vary alike in all
directions (Mahalanobis 1936; nearest neighbours as Sun et al. 2022, "Out-of-Distribution Detection with Deep
Nearest Neighbors", arXiv 2204.06507). The threshold is a quantile of the distances of validation photos.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the gateway embeds photos, and reads no tables and no stores
    import pandas as pd

    from captionloop.vision.feature_store import CachedFeatures

SIZE = 32


def embed(means: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of grids, float `[n, channels]`, as embeddings `[n, 32]`, rounded to float16 as they are kept."""
    projected = np.asarray(means, np.float32) @ _projection(means.shape[1])
    # A broken feature must not break a caption, and what is kept must be a number.
    limit = float(np.finfo(np.float16).max)
    finite = np.nan_to_num(projected, nan=0.0, posinf=limit, neginf=-limit).clip(-limit, limit)
    rounded: NDArray[np.float32] = finite.astype(np.float16).astype(np.float32)
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
"""The share of validation photos beyond the threshold."""
KEPT: Final = 4000
"""Training photos at most, of whichever corpus: 256 kB."""
_BATCH: Final = 512
_SHRINKAGE: Final = 0.01


@dataclass(frozen=True)
class PhotoFamiliarity:
    """How similar a photo is to the training photos.

    Attributes:
        share: of validation photos that are at least as far from the training photos, 0 to 1.
        familiar: whether it is no farther than all but the farthest 1 % of them.
    """

    share: float
    familiar: bool


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Training photos, and how far from them validation photos are.

    Attributes:
        training: embeddings, float16 `[photos, D]`.
        distances: of validation photos, float32, rising.
        threshold: a photo that is farther is not familiar.
    """

    training: NDArray[np.float16]
    distances: Floats
    threshold: float

    @classmethod
    def learn(cls, training: Floats, validation: Floats) -> Self:
        """From the embeddings of training photos, and of validation photos that are none of them.

        Of many training photos the first `KEPT` are kept: give them in no particular order.

        Raises:
            ValueError: there is no photo of one kind.
        """
        if not len(training) or not len(validation):
            raise ValueError("familiarity needs training photos, and validation photos beside them")
        empty = np.empty(0, np.float32)
        fitted = cls(np.asarray(training[:KEPT], np.float16), empty, 0.0)
        distances = np.sort(fitted.distance(validation))
        return cls(fitted.training, distances, float(np.quantile(distances, 1 - FLAGGED)))

    def distance(self, embeddings: Floats) -> Floats:
        """Embeddings `[n, D]` in, their distances `[n]` to the nearest training photo out."""
        training, lengths = self._whitened_training
        found = [np.empty(0, np.float32)]
        for start in range(0, len(embeddings), _BATCH):
            whitened = self._whitened(embeddings[start : start + _BATCH])
            # Not by BLAS, whose threads would wait behind those of the search that has just ended.
            products = np.einsum("nd,kd->nk", whitened, training)
            squared = (whitened**2).sum(1)[:, None] + lengths - 2 * products
            found.append(np.sqrt(squared.min(1).clip(0)))
        return np.concatenate(found)

    def __call__(self, embeddings: Floats) -> list[PhotoFamiliarity]:
        """The familiarity of each photo, by its embedding `[n, D]`."""
        distances = self.distance(embeddings)
        farther = len(self.distances) - np.searchsorted(self.distances, distances)
        return [
            PhotoFamiliarity(float(count) / len(self.distances), bool(distance <= self.threshold))
            for count, distance in zip(farther, distances, strict=True)
        ]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All of it as arrays, for a file."""
        threshold = np.array([self.threshold], np.float32)
        return {"taught": self.training, "distances": self.distances, "threshold": threshold}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self:
        """What `arrays` gave.

        Raises:
            KeyError, ValueError: it is not that, or its numbers are not finite.
        """
        training, distances = arrays["taught"].astype(np.float16), arrays["distances"].astype(np.float32)
        (threshold,) = arrays["threshold"].astype(np.float32)
        if training.ndim != 2 or not len(training) or distances.ndim != 1 or not len(distances):
            raise ValueError("it holds no photos")
        if not (np.isfinite(training).all() and np.isfinite(distances).all() and np.isfinite(threshold)):
            raise ValueError("its numbers are not finite")
        return cls(training, distances, float(threshold))

    def _whitened(self, embeddings: NDArray[np.floating]) -> Floats:
        centre, whitening = self._metric
        whitened: Floats = np.einsum("nd,de->ne", embeddings - centre, whitening).astype(np.float32)
        return whitened

    @cached_property
    def _whitened_training(self) -> tuple[Floats, Floats]:
        """Training photos in that metric, and the squares of their lengths."""
        training = self._whitened(self.training)
        return training, (training**2).sum(1)

    @cached_property
    def _metric(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where training photos are, and what makes them vary alike in all directions."""
        training = self.training.astype(np.float64)
        centre = training.mean(0)
        covariance = (training - centre).T @ (training - centre) / len(training)
        values, vectors = np.linalg.eigh(covariance)
        # Of few photos, or of photos that are all alike, nothing is known in most directions.
        floor = _SHRINKAGE * values.mean() + 1e-6
        return centre, vectors / np.sqrt(values + floor)


_READ_AT_ONCE: Final = 4096


def learn_familiarity(
    images: "pd.DataFrame", features: "CachedFeatures", validation: Sequence[str]
) -> Familiarity:
    """The familiarity model of the training photos, its threshold set by photos of the validation split.

    Args:
        images: what was learnt from is of split `train`; photos that came with feedback are all kept, some of
            a large corpus.
        features: of all of these photos, as the captioner's encoder sees them.
        validation: the SHA-256 of the other photos.
    """
    rows = images[images["split"] == "train"].drop_duplicates("sha256").sort_values("sha256")
    corpus = (rows["source"] == "corpus").to_numpy()
    # By a hash, so in no order that means anything, and in the same one in every run.
    trained = [*rows.loc[~corpus, "sha256"], *rows.loc[corpus, "sha256"]][:KEPT]
    known = set(trained)
    others = [sha256 for sha256 in validation if sha256 not in known]
    return Familiarity.learn(_embedded(features, trained), _embedded(features, others))


def _embedded(features: "CachedFeatures", sha256s: Sequence[str]) -> NDArray[np.float32]:
    starts = range(0, len(sha256s), _READ_AT_ONCE)
    return np.concatenate([embed(features.means(sha256s[at : at + _READ_AT_ONCE])) for at in starts])
