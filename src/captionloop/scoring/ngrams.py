"""Tokenised captions in; counts of their n-grams out (numpy), and inverse document frequencies of words.

Every n-gram gets a *code*. An n-gram is its prefix of n-1 tokens and its last token, so the key of an
n-gram is `code(prefix) * 2**31 + token`, and its code is the rank of that key among all keys of its order.
Codes are therefore dense and collision-free, whatever the size of the vocabulary; nothing is hashed.

A word counts as its inverse document frequency, where a document is what people said of one photo: so `a` and
`the` count nothing, without a list of them, in any language (Spärck Jones 1972).
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from captionloop.errors import ScoringError
from captionloop.languages import ENGLISH, Language
from captionloop.tokenizer import word_tokens

Integers = NDArray[np.int64]
Tokens = Sequence[str | int]

_BASE = 1 << 31


@dataclass(frozen=True)
class Ragged:
    """Captions laid end to end: `tokens[sum(lengths)]`, each a number below 2**31, and
    `lengths[captions]`.
    """

    tokens: Integers
    lengths: Integers


@dataclass(frozen=True)
class NgramCounts:
    """How often each n-gram of one order occurs in each caption: row i says `frequency[i]` times `code[i]`
    in `caption[i]`.

    Rows are sorted by caption, then code.
    """

    caption: Integers
    code: Integers
    frequency: Integers


def numbered(captions: Sequence[Tokens], numbers: Mapping[str, int] | None) -> Ragged:
    """Captions as numbers: through `numbers` where tokens are words, as they are where tokens are token ids.

    A word that has no number gets a new one, so that two different unknown words stay different.

    Raises:
        ScoringError: a token id is negative or not a number.
    """
    split = [caption.split() if isinstance(caption, str) else caption for caption in captions]
    lengths = np.fromiter((len(caption) for caption in split), np.int64, len(split))
    flat = chain.from_iterable(split)
    try:
        tokens = np.fromiter(_as_numbers(flat, numbers), np.int64, int(lengths.sum()))
    except (TypeError, ValueError) as error:
        raise ScoringError(
            "The captions to score hold words, but the references hold token ids: give both in the same form."
        ) from error
    if tokens.size and (tokens.min() < 0 or tokens.max() >= _BASE):
        raise ScoringError(
            "A caption to score holds a token id outside 0 .. 2**31 - 1: pass ids of the tokenizer."
        )
    return Ragged(tokens, lengths)


def _as_numbers(tokens: Iterable[str | int], numbers: Mapping[str, int] | None) -> Iterable[int]:
    if numbers is None:
        return tokens  # type: ignore[return-value]  # numpy refuses a word, and `numbered` says so
    unknown: dict[str, int] = {}
    words = map(str, tokens)
    return (
        numbers[word] if word in numbers else unknown.setdefault(word, len(numbers) + len(unknown))
        for word in words
    )


def _orders(captions: Ragged, highest: int) -> Iterator[tuple[Integers, Integers]]:
    """For n = 1 .. highest: where in `captions.tokens` an n-gram starts, and how many tokens its caption
    has left.
    """
    ends = np.repeat(np.cumsum(captions.lengths), captions.lengths)
    left = ends - np.arange(len(ends))
    starts = np.arange(len(ends))
    for n in range(1, highest + 1):
        starts = starts[left[starts] >= n]
        yield starts, left


def _counts(caption: Integers, code: Integers) -> NgramCounts:
    width = int(code.max()) + 1 if code.size else 1
    pairs, frequency = np.unique(caption * width + code, return_counts=True)
    return NgramCounts(pairs // width, pairs % width, frequency.astype(np.int64))


class NgramCodes:
    """The codes of all n-grams, n = 1 .. `highest`, of a corpus; an n-gram that is not in it gets a code
    above `sizes[n-1]`.
    """

    def __init__(self, corpus: Ragged, highest: int) -> None:
        self._keys: list[Integers] = []
        self._highest = highest
        codes = np.zeros(len(corpus.tokens), np.int64)
        for n, (starts, _) in enumerate(_orders(corpus, highest), start=1):
            keys, inverse = np.unique(
                codes[starts] * _BASE + corpus.tokens[starts + n - 1], return_inverse=True
            )
            codes[starts] = inverse
            self._keys.append(keys)

    @property
    def sizes(self) -> list[int]:
        """How many different n-grams of each order the corpus has."""
        return [len(keys) for keys in self._keys]

    def count(self, captions: Ragged) -> Iterator[NgramCounts]:
        """The n-grams of `captions`, one `NgramCounts` for each order."""
        caption = np.repeat(np.arange(len(captions.lengths)), captions.lengths)
        codes = np.zeros(len(captions.tokens), np.int64)
        for n, (starts, _) in enumerate(_orders(captions, self._highest), start=1):
            keys = codes[starts] * _BASE + captions.tokens[starts + n - 1]
            codes[starts] = self._find(self._keys[n - 1], keys)
            yield _counts(caption[starts], codes[starts])

    @staticmethod
    def _find(known: Integers, keys: Integers) -> Integers:
        if not len(known):
            return np.unique(keys, return_inverse=True)[1].astype(np.int64)
        place = np.searchsorted(known, keys)
        missing = known[np.minimum(place, len(known) - 1)] != keys
        if missing.any():
            place[missing] = len(known) + np.unique(keys[missing], return_inverse=True)[1]
        return place.astype(np.int64, copy=False)


class Rarity:
    """Inverse document frequencies of a corpus's words: `photos` holds, of each photo, its captions."""

    def __init__(self, photos: Iterable[Sequence[str]], language: Language = ENGLISH) -> None:
        self._language = language
        documents = [self._words(texts) for texts in photos]
        self._photos = len(documents)
        self._document_counts = Counter(word for document in documents for word in document)

    def similarity(self, one: str, other: str) -> float:
        """Jaccard similarity of the words of two texts, 0 to 1, in which a word counts as it is rare.

        1 where no word counts.
        """
        left, right = self._words([one]), self._words([other])
        total = self._weight(left | right)
        return self._weight(left & right) / total if total else 1.0

    def support(self, text: str, others: Sequence[str]) -> float:
        """The share of a text's words that others said too, 0 to 1, in which a word counts as it is rare.

        1 where no word counts.
        """
        words = self._words([text])
        total = self._weight(words)
        return self._weight(words & self._words(others)) / total if total else 1.0

    def _weight(self, words: Iterable[str]) -> float:
        return sum(math.log((self._photos + 1) / (self._document_counts[word] + 1)) for word in sorted(words))

    def _words(self, texts: Iterable[str]) -> set[str]:
        return {word for text in texts for word in word_tokens(text, self._language)}
