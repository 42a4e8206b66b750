"""How rare words are, and what texts have in common by that.

A word counts as its inverse document frequency, where a document is what people said of one photo: so `a` and
`the` count nothing, without a list of them, in any language (Spärck Jones 1972).
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from captionloop.language.languages import ENGLISH, Language
from captionloop.language.words import words_of


class Rarity:
    """How rare words are in a corpus: `photos` is, of each photo, what people said of it."""

    def __init__(self, photos: Iterable[Sequence[str]], language: Language = ENGLISH) -> None:
        self._language = language
        documents = [self._words(texts) for texts in photos]
        self._photos = len(documents)
        self._said = Counter(word for document in documents for word in document)

    def likeness(self, one: str, other: str) -> float:
        """Jaccard similarity of the words of two texts, 0 to 1, in which a word counts as it is rare.

        1 where no word counts.
        """
        left, right = self._words([one]), self._words([other])
        whole = self._weight(left | right)
        return self._weight(left & right) / whole if whole else 1.0

    def support(self, text: str, others: Sequence[str]) -> float:
        """The share of a text's words that others said too, 0 to 1, in which a word counts as it is rare.

        1 where no word counts.
        """
        words = self._words([text])
        whole = self._weight(words)
        return self._weight(words & self._words(others)) / whole if whole else 1.0

    def _weight(self, words: Iterable[str]) -> float:
        return sum(math.log((self._photos + 1) / (self._said[word] + 1)) for word in sorted(words))

    def _words(self, texts: Iterable[str]) -> set[str]:
        return {word for text in texts for word in words_of(text, self._language)}
