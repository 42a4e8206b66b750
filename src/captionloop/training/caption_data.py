"""Tables and cached features in, batches of an epoch (features and packed captions) out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionloop.captioner.decoders.base import PackedCaptions
from captionloop.errors import CorpusError, StoreError
from captionloop.tokenizer import CaptionTokenizer


class Features(Protocol):
    """What is read of `vision`'s `CachedFeatures`."""

    fingerprint: str
    rows: int
    columns: int
    channels: int
    views: tuple[str, ...]

    def grids(self, sha256s: Sequence[str], view: str = ...) -> NDArray[np.float16]:
        """`[n, R, C]`."""

    def means(self, sha256s: Sequence[str], view: str = ...) -> NDArray[np.float32]:
        """`[n, C]`."""


@dataclass(frozen=True)
class CaptionedPhotos:
    """The photos of a split that have captions: ids, content hashes, and for each its captions."""

    image_ids: tuple[str, ...]
    sha256s: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    tokens: tuple[tuple[tuple[int, ...], ...], ...]
    weights: tuple[tuple[float, ...], ...]
    cut: tuple[tuple[bool, ...], ...]  # which captions were longer, and have lost their end

    @classmethod
    def from_tables(
        cls,
        images: pd.DataFrame,
        captions: pd.DataFrame,
        split: str,
        tokenizer: CaptionTokenizer,
        *,
        max_length: int,
        photos: int | None = None,
    ) -> Self:
        """The photos of `split` in the order of their ids (the first `photos`), captions cut to `max_length`
        tokens.

        Raises:
            CorpusError: the split has no photo with a caption.
        """
        of_split = images[images["split"] == split].sort_values("image_id")[["image_id", "sha256"]]
        of_split = of_split[of_split["image_id"].isin(captions["image_id"])].head(photos or len(of_split))
        if of_split.empty:
            raise CorpusError(
                f"Split '{split}': no photo with a caption in it; training needs train and val."
            )
        rows = captions[captions["image_id"].isin(of_split["image_id"])].sort_values("caption_id")
        whole = tokenizer.encode_all(rows["text"].tolist())
        tokens = pd.Series([tuple(ids[:max_length]) for ids in whole], index=rows.index, dtype=object)
        grouped = rows.assign(tokens=tokens, cut=[len(ids) > max_length for ids in whole]).groupby("image_id")
        groups = [grouped.get_group(image_id) for image_id in of_split["image_id"]]
        return cls(
            image_ids=tuple(of_split["image_id"]),
            sha256s=tuple(of_split["sha256"]),
            texts=tuple(tuple(group["text"]) for group in groups),
            tokens=tuple(tuple(group["tokens"]) for group in groups),
            weights=tuple(tuple(group["weight"].astype(float)) for group in groups),
            cut=tuple(tuple(group["cut"].tolist()) for group in groups),
        )

    def __len__(self) -> int:
        return len(self.image_ids)


@dataclass(frozen=True)
class CaptionGroup:
    """Some captions of one photo, with its features in one view."""

    photo: int
    captions: tuple[int, ...]
    view: str


@dataclass(frozen=True)
class Batch:
    """Photos and captions of a step: features float `[P, R, C]`; `photos` are positions in the split.

    `idle`: the others have taken all there was, so that this process does a step whose result counts nothing.
    """

    features: Tensor
    captions: PackedCaptions
    photos: tuple[int, ...]
    idle: bool = False

    def to(self, device: Any, non_blocking: bool = False) -> Self:
        """The same on another device."""
        features = self.features.to(device, non_blocking=non_blocking)
        return type(self)(features, self.captions.to(device, non_blocking), self.photos, self.idle)


def epoch_batches(
    photos: CaptionedPhotos,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    captions_per_photo: int | None,
    views: Sequence[str],
) -> list[list[CaptionGroup]]:
    """Every caption of every photo once, in an order that is a function of (seed, epoch) alone.

    Batches hold at least `batch_size` captions (the last what is left); up to `captions_per_photo` captions
    of a photo stay together. None gives each photo once with all its captions, and batches of `batch_size`
    photos.
    """
    random = np.random.default_rng([seed, epoch])
    group_size = captions_per_photo or max(len(of_photo) for of_photo in photos.tokens)
    groups = []
    for photo, captions in enumerate(photos.tokens):
        order = random.permutation(len(captions)).tolist()
        for start in range(0, len(order), group_size):
            view = views[int(random.integers(len(views)))]
            groups.append(CaptionGroup(photo, tuple(order[start : start + group_size]), view))
    batches: list[list[CaptionGroup]] = [[]]
    filled = 0
    for place in random.permutation(len(groups)).tolist():
        if filled >= batch_size:
            batches.append([])
            filled = 0
        batches[-1].append(groups[place])
        filled += len(groups[place].captions) if captions_per_photo else 1
    return batches


class Batches:
    """The batches of a plan, each read when it is iterated to.

    Of `world` processes each takes its part of every batch, so that together they take the steps that one
    process would.
    """

    def __init__(
        self,
        photos: CaptionedPhotos,
        features: Features,
        plan: list[list[CaptionGroup]],
        *,
        grids: bool,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._photos, self._features, self._grids = photos, features, grids
        self._batches = [(batch[rank::world], batch) for batch in plan]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return (self._read(own or batch[:1], idle=not own) for own, batch in self._batches)

    def _read(self, groups: Sequence[CaptionGroup], *, idle: bool) -> Batch:
        captions, image, weight, cut = [], [], [], []
        for number, group in enumerate(groups):
            for caption in group.captions:
                captions.append(self._photos.tokens[group.photo][caption])
                weight.append(self._photos.weights[group.photo][caption])
                cut.append(self._photos.cut[group.photo][caption])
                image.append(number)
        packed = PackedCaptions.pack(captions, image, weight, images=len(groups), cut=cut)
        return Batch(self._read_features(groups), packed, tuple(group.photo for group in groups), idle)

    def _read_features(self, groups: Sequence[CaptionGroup]) -> Tensor:
        regions = self._features.rows * self._features.columns if self._grids else 1
        features = torch.empty(len(groups), regions, self._features.channels)
        for view in dict.fromkeys(group.view for group in groups):
            places = [place for place, group in enumerate(groups) if group.view == view]
            hashes = [self._photos.sha256s[groups[place].photo] for place in places]
            if self._grids:
                features[places] = torch.from_numpy(self._features.grids(hashes, view)).float()
            else:
                features[places] = torch.from_numpy(self._features.means(hashes, view)).float()[:, None]
        if not torch.isfinite(features.sum()):
            self._refuse(groups, features)
        return features

    def _refuse(self, groups: Sequence[CaptionGroup], features: Tensor) -> None:
        """Raises `StoreError` naming the first photo whose features are not finite, where there is one."""
        for group, grid in zip(groups, features, strict=True):
            if not torch.isfinite(grid).all():
                raise StoreError(
                    f"photo {self._photos.image_ids[group.photo]!r}: its cached features (view"
                    f" {group.view!r}) are not finite; delete the feature store and run again with"
                    " --from-nodes feature_caching.cache_features"
                )
