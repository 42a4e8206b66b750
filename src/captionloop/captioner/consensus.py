"""Consensus re-ranking: hypotheses of a photo and its nearest training photos in, ranked hypotheses out.

A search prefers the likeliest caption; CIDEr rewards what most people would write. So the captions that a
search found are ranked once more, by their CIDEr-D against the captions of the training photos that are
nearest to the photo: consensus re-ranking (Devlin et al. 2015, "Exploring Nearest Neighbor
Approaches for Image Captioning", arXiv 1505.04467; Mao et al. 2015, arXiv 1412.6632, section 8). No
other caption is made.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from captionloop.captioner.beam_search import Hypothesis
from captionloop.captioner.model_config import ConsensusOptions
from captionloop.errors import CorpusError
from captionloop.scoring.cider import CiderD

DIMENSIONS: Final = 128
_BATCH: Final = 4096

Floats = NDArray[np.float32]


class TokenisedPhotos(Protocol):
    """Photos by content hash, with the tokens of each one's captions. Tables of a corpus are for training: a
    service that ranks by a consensus has no pandas.
    """

    @property
    def sha256s(self) -> Sequence[str]:
        """Each photo's content hash."""

    @property
    def tokens(self) -> Sequence[tuple[tuple[int, ...], ...]]:
        """Each photo's captions."""


class MeanFeatures(Protocol):
    """Cached features by content hash and view."""

    views: tuple[str, ...]

    def means(self, sha256s: Sequence[str], view: str = ...) -> Floats:
        """The mean of each photo's grid, `[n, C]`."""


@dataclass(frozen=True, eq=False)
class NeighbourIndex:
    """Training photos, each as a unit vector `[D]`, with its captions in tokens.

    A grid's mean `[C]` becomes a direction `[D]` by `(mean - centre) @ projection`, cut to length one:
    principal components of standardised channels.

    Attributes:
        centre: float32 `[C]`. projection: float32 `[C, D]`.
        directions: float16 `[photos, D]`.
        captions: of each photo, in tokens of the captioner.
    """

    centre: Floats
    projection: Floats
    directions: NDArray[np.float16]
    captions: tuple[tuple[tuple[int, ...], ...], ...] = field(repr=False)

    @classmethod
    def collect(cls, photos: TokenisedPhotos, features: MeanFeatures) -> Self:
        """An index of photos by their features in the first view; repeated ones count once.

        Raises:
            CorpusError: there is one photo only, which is like nothing else.
        """
        rows = _distinct(photos)
        if len(rows) < 2:
            raise CorpusError("consensus: neighbours need two training photos at least; leave it out")
        hashes = [photos.sha256s[row] for row in rows]
        centre, deviation, correlation = _statistics(_means(hashes, features))
        _, components = np.linalg.eigh(correlation)
        kept = components[:, ::-1][:, : min(DIMENSIONS, len(rows))]
        projection = (kept / deviation[:, None]).astype(np.float32)
        empty = cls(centre.astype(np.float32), projection, np.empty((0, kept.shape[1]), np.float16), ())
        return empty.extended_with(photos, features)

    def extended_with(self, photos: TokenisedPhotos, features: MeanFeatures) -> Self:
        """An index of these photos too, whose features are of the same encoder."""
        rows = _distinct(photos)
        seen = [self._directions(means) for means in _means([photos.sha256s[row] for row in rows], features)]
        return replace(
            self,
            directions=np.concatenate([self.directions, *(one.astype(np.float16) for one in seen)]),
            captions=(*self.captions, *(photos.tokens[row] for row in rows)),
        )

    def __len__(self) -> int:
        return len(self.captions)

    def nearest(self, means: Floats, options: ConsensusOptions) -> tuple[NDArray[np.int64], Floats]:
        """The photos nearest to each of `means` `[B, C]`, and how much each counts: both `[B, k]`.

        The weights of a row sum to one; they fall with the cosine.
        """
        cosines = _product(self._directions(means), self._directions_float32.T)
        count = min(options.neighbours, len(self))
        # Sorted, and not only partitioned: where two photos are equally near, the first of them is nearer.
        rows = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        near = np.take_along_axis(cosines, rows, axis=1)
        weights = np.exp((near - near[:, :1]) / options.nearness)
        return rows, weights / weights.sum(axis=1, keepdims=True)

    def rank(
        self, means: Floats, found: Sequence[Sequence[Hypothesis]], options: ConsensusOptions
    ) -> list[list[Hypothesis]]:
        """The hypotheses about photos whose grids have these means `[B, C]`, each photo's best first.

        The score of a hypothesis is its weighted mean CIDEr-D with the captions of the neighbours, plus
        `options.likelihood` times the score of the search.
        """
        rows, weights = self.nearest(means, options)
        pairs = [
            (row, hypothesis)
            for near, of in zip(rows, found, strict=True)
            for hypothesis in of
            for row in near
        ]
        rewards = self._cider.rewards([str(row) for row, _ in pairs], [one.tokens for _, one in pairs])
        ranked, start = [], 0
        for weight, of_photo in zip(weights, found, strict=True):
            size = len(of_photo) * len(weight)
            consensus = rewards[start : start + size].reshape(len(of_photo), len(weight)) @ weight
            start += size
            scored = [
                replace(one, score=float(agreement) + options.likelihood * one.score)
                for one, agreement in zip(of_photo, consensus, strict=True)
            ]
            ranked.append(sorted(scored, key=lambda one: -one.score))
        return ranked

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All of it as arrays, for a file."""
        flat = [caption for of_photo in self.captions for caption in of_photo]
        return {
            "centre": self.centre,
            "projection": self.projection,
            "directions": self.directions,
            "captions_of_photo": np.array([len(of_photo) for of_photo in self.captions], np.int32),
            "tokens_of_caption": np.array([len(caption) for caption in flat], np.int32),
            "tokens": np.array([token for caption in flat for token in caption], np.int32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self:
        """What `arrays` gave.

        Raises:
            KeyError, ValueError: it is not that.
        """
        flat = iter(_cut(arrays["tokens"].tolist(), arrays["tokens_of_caption"].tolist()))
        captions = tuple(
            tuple(next(flat) for _ in range(count)) for count in arrays["captions_of_photo"].tolist()
        )
        directions = arrays["directions"].astype(np.float16)
        if len(directions) != len(captions):
            raise ValueError(f"{len(directions)} photos have captions for {len(captions)}")
        return cls(
            arrays["centre"].astype(np.float32), arrays["projection"].astype(np.float32), directions, captions
        )

    def _directions(self, means: Floats) -> Floats:
        projected = _product(np.asarray(means, np.float32) - self.centre, self.projection)
        length = np.linalg.norm(projected, axis=1, keepdims=True)
        return np.asarray(projected / np.maximum(length, 1e-9), np.float32)

    @cached_property
    def _directions_float32(self) -> Floats:
        return self.directions.astype(np.float32)

    @cached_property
    def _cider(self) -> CiderD:
        return CiderD({str(row): of_photo for row, of_photo in enumerate(self.captions)})


def _product(one: Floats, other: Floats) -> Floats:
    """Their matrix product, by torch, whose threads have just searched: NumPy's would wait behind them."""
    found: Floats = (torch.from_numpy(one) @ torch.from_numpy(other)).numpy()
    return found


def _distinct(photos: TokenisedPhotos) -> list[int]:
    """The first row of each photo by its content."""
    first: dict[str, int] = {}
    for row, sha256 in enumerate(photos.sha256s):
        first.setdefault(sha256, row)
    return list(first.values())


def _means(sha256s: Sequence[str], features: MeanFeatures) -> Iterator[Floats]:
    for start in range(0, len(sha256s), _BATCH):
        yield features.means(sha256s[start : start + _BATCH], features.views[0])


def _statistics(batches: Iterator[Floats]) -> tuple[NDArray[np.float64], ...]:
    """Mean `[C]`, deviation `[C]` and correlation `[C, C]`, in one pass."""
    count, total, products = 0, np.zeros(1), np.zeros((1, 1))
    for batch in batches:
        wide = batch.astype(np.float64)
        count, total, products = count + len(wide), total + wide.sum(0), products + wide.T @ wide
    mean = total / count
    covariance = products / count - np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0)) + 1e-6
    return mean, deviation, covariance / np.outer(deviation, deviation)


def _cut(tokens: Sequence[int], lengths: Sequence[int]) -> Iterator[tuple[int, ...]]:
    start = 0
    for length in lengths:
        yield tuple(tokens[start : start + length])
        start += length
