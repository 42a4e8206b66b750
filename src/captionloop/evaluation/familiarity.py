"""Features of the training photos in; `Familiarity`, by which unfamiliar photos are recognised, out."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from captionloop.evaluation.evaluation_set import EvaluationSet
from captionloop.vision.embedding import KEPT, Familiarity, Floats, embed

if TYPE_CHECKING:
    from captionloop.vision.feature_store import CachedFeatures

_VIEW = "whole"
_BATCH = 4096


def learn_familiarity(
    images: pd.DataFrame, features: "CachedFeatures", validation: EvaluationSet
) -> Familiarity:
    """The familiarity model of the training photos, its threshold set by photos of the validation split.

    Args:
        images: what was learnt from is of split `train`; photos that came with feedback are all kept, some of
            a large corpus.
        features: of all of these photos, as the captioner's encoder sees them.
        validation: the other photos.
    """
    rows = images[images["split"] == "train"].drop_duplicates("sha256").sort_values("sha256")
    corpus = (rows["source"] == "corpus").to_numpy()
    # By a hash, so in no order that means anything, and in the same one in every run.
    trained = [*rows.loc[~corpus, "sha256"], *rows.loc[corpus, "sha256"]][:KEPT]
    trained_set = set(trained)
    others = [sha256 for sha256 in validation.sha256s if sha256 not in trained_set]
    return Familiarity.learn(_embed(features, trained), _embed(features, others))


def _embed(features: "CachedFeatures", sha256s: list[str]) -> Floats:
    batches = [
        embed(features.means(sha256s[start : start + _BATCH], _VIEW))
        for start in range(0, len(sha256s), _BATCH)
    ]
    return np.concatenate(batches)
