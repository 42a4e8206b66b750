"""Label noise: references that do not fit their photos, by an encoder that was not trained on them.

Of people's corrections some belong to another photo, and whoever has been taught one believes it. So the
photos are divided, and the references of each part are examined by an encoder that was taught the others. A
reference that belongs to its photo fits it better than it fits most other photos; one of another photo fits
better as often as worse. The share of other photos that it fits worse, its *rank*, is then even between 0 and
1: the null hypothesis of a two-groups model (Efron 2008, "Microarrays, Empirical Bayes and the Two-Groups
Model"), and how many ranks are low says how many references are wrong (Storey 2002, of p-values).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from captionloop.languages import ENGLISH, Language
from captionloop.vision.concepts import concept_targets

_LOW = 0.8
"""Ranks below it count as low. Of right references hardly any are; and the wrong ones are few, so that with a
smaller bound a handful of them would tell their number."""

Floats = NDArray[np.float64]


def fold_of(image_ids: "pd.Series[str]", folds: int) -> "pd.Series[int]":
    """The fold of each photo, by the end of its id, a hash: the same in every run."""
    return image_ids.map(lambda image_id: int(image_id[-6:], 16) % folds).astype(int)


def reference_fit(
    logits: NDArray[np.float32],
    image_ids: "pd.Series[str]",
    references: pd.DataFrame,
    concepts: Sequence[str],
    language: Language = ENGLISH,
) -> "pd.Series[float]":
    """For each reference, the share of the other photos that it fits worse; 1 where there is no other.

    Args:
        logits: of an encoder for these photos, `[photos, concepts]`.
        image_ids: of these photos.
        references: of these photos, with `caption_id`, `image_id` and `text`.
        concepts: of the columns.
        language: of the references.
    """
    if len(image_ids) < 2:
        return pd.Series(1.0, index=references.index)
    references_as_images = references.assign(image_id=references["caption_id"], weight=1.0)
    reference_ids = references["caption_id"].tolist()
    mentions = np.ceil(concept_targets(references_as_images, concepts, reference_ids, language))
    logits64 = logits.astype(np.float64)
    likely, unlikely = -np.logaddexp(0, -logits64), -np.logaddexp(0, logits64)
    # log P(what the reference mentions, and nothing else | photo), [references, photos]
    fit: Floats = mentions @ likely.T + (1 - mentions) @ unlikely.T
    own = pd.Index(image_ids).get_indexer(pd.Index(references["image_id"]))
    worse = (fit < fit[np.arange(len(references)), own][:, None]).sum(axis=1)
    return pd.Series(worse / (len(image_ids) - 1), index=references.index)


@dataclass(frozen=True)
class NoiseThreshold:
    """Ranks below `bound` are suspect; `wrong` is the share of all that is estimated to be wrong.

    `wrong` is None where nothing was examined.
    """

    bound: float
    wrong: float | None


def noise_threshold(ranks: Floats, max_noise_rate: float) -> NoiseThreshold:
    """The rank below which references are more probably wrong than right.

    Of the wrong ones a share as large as a bound lies below it, of the right ones hardly any; the bound is
    chosen so that the wrong ones outnumber the right ones below it by most. An encoder that tells nothing
    gives even ranks to all, as if all were wrong; so no more than `max_noise_rate` are assumed to be, and
    then nothing is doubted.

    Args:
        ranks: of the references.
        max_noise_rate: the largest share of wrong references that is assumed.
    """
    wrong = min(max_noise_rate, float((ranks < _LOW).mean()) / _LOW) if len(ranks) else 0.0
    bounds = np.concatenate([[0.0], np.unique(ranks)])
    below = np.searchsorted(np.sort(ranks), bounds)
    gain = 2 * wrong * bounds * len(ranks) - below
    return NoiseThreshold(float(bounds[int(gain.argmax())]), wrong)
