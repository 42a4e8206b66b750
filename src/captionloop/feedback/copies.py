"""Corrections that say nearly the same of many different photos."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

import pandas as pd

from captionloop.feedback.parameters import Copies
from captionloop.language.languages import ENGLISH, Language
from captionloop.language.words import words_of

Pairs = frozenset[tuple[str, str]]


def copied(ratings: pd.DataFrame, copies: Copies, language: Language = ENGLISH) -> pd.Series:
    """Which corrections are copies. Rows without a correction are not.

    Every text is compared with every other that may be like it, so the order of the rows does not matter.
    """
    given = ratings[ratings["correction"].notna()]
    photos: dict[Pairs, set[str]] = {}
    pairs = given["correction"].map(lambda text: word_pairs(text, language))
    for said, photo in zip(pairs, given["image_id"], strict=True):
        photos.setdefault(said, set()).add(photo)
    most = max(copies.photos, copies.share * given["image_id"].nunique())
    alike = Alike(photos, copies.likeness)
    many = {said for said in photos if len(set().union(*(photos[one] for one in alike.to(said)))) > most}
    found = pairs.isin(many) if len(given) else pd.Series(dtype=bool)
    return found.reindex(ratings.index, fill_value=False).astype(bool)


def word_pairs(text: str, language: Language = ENGLISH) -> Pairs:
    """The pairs of neighbouring words, the beginning and the end counted."""
    words = ["", *words_of(text, language), ""]
    return frozenset(pairwise(words))


def likeness(one: Pairs, other: Pairs) -> float:
    """Jaccard similarity, 0 to 1."""
    return len(one & other) / len(one | other)


class Alike:
    """Finds the texts that are at least so like a given one, without comparing it with all of them.

    Prefix filtering (Chaudhuri et al. 2006): two sets of similarity t share an element among the rarest
    |x| - ceil(t |x|) + 1 of each.
    """

    def __init__(self, texts: Iterable[Pairs], least: float) -> None:
        self._least = least
        texts = list(texts)
        self._occurs = Counter(pair for said in texts for pair in said)
        self._by_pair: dict[tuple[str, str], list[Pairs]] = defaultdict(list)
        for said in texts:
            for pair in self._rarest(said):
                self._by_pair[pair].append(said)

    def to(self, said: Pairs) -> set[Pairs]:
        """All texts that are like this one; itself, where it is among them."""
        candidates = {other for pair in self._rarest(said) for other in self._by_pair[pair]}
        return {other for other in candidates if likeness(said, other) >= self._least}

    def _rarest(self, said: Pairs) -> list[tuple[str, str]]:
        shared = max(1, math.ceil(self._least * len(said) - 1e-9))
        ordered = sorted(said, key=lambda pair: (self._occurs[pair], pair))
        return ordered[: len(said) - shared + 1]
