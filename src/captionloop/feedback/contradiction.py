"""Ratings that contradict themselves: praise for a caption, and a correction that has nothing of it.

Whoever finds a caption good and betters it keeps something of it. Where the correction shares nothing with
the caption, it was meant for another photo, or the stars were given blindly.
"""

import math
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from captionloop.feedback.parameters import Contradiction
from captionloop.language.languages import ENGLISH, Language
from captionloop.language.words import words_of


def contradicting(
    ratings: pd.DataFrame, corpus: pd.DataFrame, rules: Contradiction, language: Language = ENGLISH
) -> "pd.Series[bool]":
    """Which ratings contradict themselves. Rows without a correction do not.

    Args:
        ratings: `stars`, `text` (the caption) and `correction`.
        corpus: captions, `image_id` and `text`; they tell how rare words are.
        rules: see `Contradiction`.
        language: of all these texts.
    """
    praised = ratings[(ratings["stars"] >= rules.stars) & ratings["correction"].notna()]
    if praised.empty:
        return pd.Series(False, index=ratings.index)
    rarity = Rarity(corpus, language)
    found = [
        rarity.likeness(text, correction) <= rules.likeness
        for text, correction in zip(praised["text"], praised["correction"], strict=True)
    ]
    return pd.Series(found, praised.index).reindex(ratings.index, fill_value=False)


class Rarity:
    """How rare words are in a corpus: the inverse document frequency, where a document is a photo's captions.

    So `a` and `the` count nothing, without a list of them, in any language (Spärck Jones 1972).
    """

    def __init__(self, corpus: pd.DataFrame, language: Language = ENGLISH) -> None:
        self._language = language
        photos = corpus.groupby("image_id")["text"]
        self._photos = photos.ngroups
        self._said = Counter(word for _, texts in photos for word in self._words(texts))

    def likeness(self, one: str, other: str) -> float:
        """Jaccard similarity of the words of two texts, 0 to 1, in which a word counts as it is rare.

        1 where no word counts.
        """
        left, right = self._words([one]), self._words([other])
        whole = self._weight(left | right)
        return self._weight(left & right) / whole if whole else 1.0

    def _weight(self, words: Iterable[str]) -> float:
        return sum(math.log((self._photos + 1) / (self._said[word] + 1)) for word in sorted(words))

    def _words(self, texts: Iterable[str]) -> set[str]:
        return {word for text in texts for word in words_of(text, self._language)}
