"""Corrections that say nearly the same of many different photos."""

from itertools import pairwise

import pandas as pd

from captionloop.evaluation.variety import words_of
from captionloop.feedback.parameters import Copies

Pairs = frozenset[tuple[str, str]]


def copied(ratings: pd.DataFrame, copies: Copies) -> pd.Series:
    """Which corrections are copies. Rows without a correction are not.

    Every text is compared with every other, so that the order of the rows does not matter.
    """
    given = ratings[ratings["correction"].notna()]
    photos: dict[Pairs, set[str]] = {}
    pairs = given["correction"].map(word_pairs)
    for said, photo in zip(pairs, given["image_id"], strict=True):
        photos.setdefault(said, set()).add(photo)
    most = max(copies.photos, copies.share * given["image_id"].nunique())
    many = {said for said in photos if len(_photos_alike(said, photos, copies.likeness)) > most}
    found = pairs.isin(many) if len(given) else pd.Series(dtype=bool)
    return found.reindex(ratings.index, fill_value=False).astype(bool)


def word_pairs(text: str) -> Pairs:
    """The pairs of neighbouring words, the beginning and the end counted."""
    words = ["", *words_of(text), ""]
    return frozenset(pairwise(words))


def likeness(one: Pairs, other: Pairs) -> float:
    """Jaccard similarity, 0 to 1."""
    return len(one & other) / len(one | other)


def _photos_alike(said: Pairs, photos: dict[Pairs, set[str]], least: float) -> set[str]:
    alike: set[str] = set()
    for other, theirs in photos.items():
        shorter, longer = sorted((len(said), len(other)))
        if shorter >= least * longer and likeness(said, other) >= least:
            alike |= theirs
    return alike
