"""Filters of untrustworthy ratings: too many of a rater, contradictory, repeated, or not worded as captions.

Whoever finds a caption good and betters it keeps something of it. Where the correction shares nothing with
the caption, it was meant for another photo, or the stars were given blindly.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final, Self

import pandas as pd
import snowballstemmer

from captionloop.feedback.feedback_parameters import Caps, Contradiction, Copies, Wording
from captionloop.feedback.rating_checks import RatingIssue
from captionloop.languages import ENGLISH, Language
from captionloop.scoring.ngrams import Rarity
from captionloop.tokenizer import is_unspaced, length_in_words, word_tokens

KEY = "key:"
"""How the rater that is an API key begins."""


def beyond_cap(ratings: pd.DataFrame, caps: Caps) -> pd.Series:
    """Which ratings are beyond their rater's cap for the day: of each day the earliest count."""
    ordered = ratings.sort_values(["created_at", "rating_id"])
    number = ordered.groupby([ordered["rater"], ordered["created_at"].dt.floor("D")]).cumcount()
    limit = ordered["rater"].str.startswith(KEY).map({True: caps.key_per_day, False: caps.person_per_day})
    return (number >= limit).reindex(ratings.index).astype(bool)


def in_burst(ratings: pd.DataFrame, caps: Caps) -> pd.Series:
    """Which ratings are part of a burst: `caps.burst` or more of one person within `caps.burst_seconds`."""
    found = pd.Series(False, index=ratings.index)
    people = ratings[~ratings["rater"].str.startswith(KEY)]
    within = pd.Timedelta(seconds=caps.burst_seconds)
    for _, own in people.sort_values(["created_at", "rating_id"]).groupby("rater"):
        times = own["created_at"].tolist()
        for first in range(len(times) - caps.burst + 1):
            last = first + caps.burst - 1
            if times[last] - times[first] <= within:
                found[own.index[first : last + 1]] = True
    return found


def capped_shares(weights: pd.Series, raters: pd.Series, largest: float) -> pd.Series:
    """The weights, scaled down so that no rater has more than the share `largest` of all.

    With fewer than 1 / `largest` raters that cannot be; then all get the same.
    """
    totals = weights.groupby(raters).sum()
    if totals.empty or totals.sum() == 0:
        return weights
    if len(totals) * largest <= 1:
        limit = float(totals[totals > 0].min())
    else:
        limit = _limit(totals.tolist(), largest)
    return weights * raters.map(_scale(totals, limit))


def capped_networks(weights: pd.Series, networks: pd.Series, largest: float, free: float) -> pd.Series:
    """The weights, scaled down so that no network has more than the share `largest` of all, or `free`.

    What comes from no network that is known (a key, a private address) is left as it is.
    """
    known = networks.notna()
    totals = weights[known].groupby(networks[known]).sum()
    if totals.empty:
        return weights
    limit = max(free, _limit(totals.tolist(), largest, float(weights[~known].sum())))
    return weights.where(~known, weights * networks.map(_scale(totals, limit)).astype(float))


def beyond_network(networks: pd.Series, largest: float, free: float) -> pd.Series:
    """Which rows are more than their network may have where each counts the same: the first ones count."""
    equal_weights = pd.Series(1.0, index=networks.index)
    limits = capped_networks(equal_weights, networks, largest, free).groupby(networks).sum().round(6)
    number = networks.groupby(networks).cumcount().reindex(networks.index)
    return networks.notna() & (number >= networks.map(limits).astype(float))


def _scale(totals: pd.Series, limit: float) -> pd.Series:
    return (limit / totals.where(totals > 0, 1.0)).clip(upper=1.0)


def _limit(totals: list[float], largest: float, others: float = 0.0) -> float:
    """The total down to which large ones are cut, so that each is at most the share `largest` of the sum.

    `others` count in the sum, and are not cut.
    """
    ordered = sorted(totals, reverse=True)
    rest = sum(ordered) + others
    for count, total in enumerate(ordered):
        # With `count` raters cut to x each: x = largest * (count * x + rest).
        limit = largest * rest / (1 - largest * count) if largest * count < 1 else float("inf")
        if total <= limit + 1e-12:
            return max(limit, total)
        rest -= total
    count = len(ordered)
    return largest * others / (1 - largest * count) if others and largest * count < 1 else ordered[-1]


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
    rarity = Rarity(corpus.groupby("image_id")["text"].agg(list), language)
    found = [
        rarity.similarity(text, correction) <= rules.similarity
        for text, correction in zip(praised["text"], praised["correction"], strict=True)
    ]
    return pd.Series(found, praised.index).reindex(ratings.index, fill_value=False)


Pairs = frozenset[tuple[str, str]]


def repeated_corrections(
    ratings: pd.DataFrame, copies: Copies, language: Language = ENGLISH, usual: float = 0.0
) -> pd.Series:
    """Which corrections are copies, or have the template of many raters. Rows without a correction are not.

    Every text is compared with every other that may be like it, so the order of the rows does not matter.
    `usual` is how alike people's captions are without any harm (`usual_similarity`).
    """
    given = ratings[ratings["correction"].notna()]
    if given.empty:
        return pd.Series(False, index=ratings.index)
    photos = given["image_id"].nunique()
    pairs = given["correction"].map(lambda text: word_pairs(text, language))
    words = given["correction"].map(lambda text: numbered_words(text, language))
    template = max(copies.template_share, copies.template_usual * usual)
    found = _said_of_many_photos(
        given, pairs, copies.similarity, max(copies.photos, copies.share * photos), 1
    )
    found |= _said_of_many_photos(
        given,
        words,
        copies.template_similarity,
        max(copies.photos, template * photos),
        copies.template_raters,
    )
    return found.reindex(ratings.index, fill_value=False).astype(bool)


def usual_similarity(corpus: pd.DataFrame, copies: Copies, language: Language = ENGLISH) -> float:
    """The largest share of the corpus's photos whose captions might have one template, though none has.

    Of each of up to `SAMPLE` photos one caption is looked at (columns `image_id` and `text`).
    """
    one_each = corpus.drop_duplicates("image_id").sort_values("image_id")
    sample = one_each.iloc[:: max(1, len(one_each) // SAMPLE)].head(SAMPLE)
    counts = Counter(numbered_words(text, language) for text in sample["text"])
    similar = SimilarTexts(counts, copies.template_similarity)
    largest = max((sum(counts[one] for one in similar.similar_to(said)) for said in counts), default=0)
    return largest / max(1, len(sample))


SAMPLE: Final = 400


def _said_of_many_photos(
    given: pd.DataFrame, texts: pd.Series, min_similarity: float, photos: float, raters: int
) -> pd.Series:
    """Which rows have a text like those of more than `photos` photos by at least `raters` raters."""
    photos_by_text: dict[Pairs, set[str]] = defaultdict(set)
    raters_by_text: dict[Pairs, set[str]] = defaultdict(set)
    for text, photo, rater in zip(texts, given["image_id"], given["rater"], strict=True):
        photos_by_text[text].add(photo)
        raters_by_text[text].add(rater)
    similar = SimilarTexts(photos_by_text, min_similarity)
    repeated = set()
    for text in photos_by_text:
        matches = similar.similar_to(text)
        users = set().union(*(raters_by_text[one] for one in matches))
        if len(users) >= raters and len(set().union(*(photos_by_text[one] for one in matches))) > photos:
            repeated.add(text)
    return texts.isin(repeated)


def numbered_words(text: str, language: Language = ENGLISH) -> Pairs:
    """The set of (word, number of its earlier occurrences): texts of one template share most of it."""
    counts: Counter[str] = Counter()
    found = []
    for word in word_tokens(text, language):
        found.append((word, str(counts[word])))
        counts[word] += 1
    return frozenset(found)


def word_pairs(text: str, language: Language = ENGLISH) -> Pairs:
    """The pairs of neighbouring words, the beginning and the end counted."""
    words = ["", *word_tokens(text, language), ""]
    return frozenset(pairwise(words))


def jaccard(one: Pairs, other: Pairs) -> float:
    """Jaccard similarity, 0 to 1."""
    return len(one & other) / len(one | other)


class SimilarTexts:
    """Finds the texts that are at least so like a given one, without comparing it with all of them.

    Prefix filtering (Chaudhuri et al. 2006): two sets of similarity t share an element among the rarest
    |x| - ceil(t |x|) + 1 of each.
    """

    def __init__(self, texts: Iterable[Pairs], min_similarity: float) -> None:
        self._min_similarity = min_similarity
        texts = list(texts)
        self._occurs = Counter(pair for text in texts for pair in text)
        self._by_pair: dict[tuple[str, str], list[Pairs]] = defaultdict(list)
        for text in texts:
            for pair in self._rarest(text):
                self._by_pair[pair].append(text)

    def similar_to(self, text: Pairs) -> set[Pairs]:
        """All texts that are similar to this one; itself, where it is among them."""
        candidates = {other for pair in self._rarest(text) for other in self._by_pair[pair]}
        return {other for other in candidates if jaccard(text, other) >= self._min_similarity}

    def _rarest(self, text: Pairs) -> list[tuple[str, str]]:
        shared = max(1, math.ceil(self._min_similarity * len(text) - 1e-9))
        ordered = sorted(text, key=lambda pair: (self._occurs[pair], pair))
        return ordered[: len(text) - shared + 1]


_LOOKALIKES: Final = str.maketrans("013457@$!|", "oieastasii")
_DRAWN_OUT: Final = re.compile(r"(.)\1{2,}")
_ADDRESS: Final = re.compile(r"https?:|www\.|\w@\w|\w\.(?:com|net|org|io|ru|info)\b", re.IGNORECASE)
_MARKUP: Final = re.compile(r"[<>{}\[\]\\]|&\w+;")
_SIGNS: Final = "@$!|"  # that stand for letters
_VARIANTS: Final = range(0xFE00, 0xFE10)  # invisible, as are format characters


@dataclass(frozen=True)
class AbuseList:
    """Words that no caption may hold, found also where letters are drawn out, digits, or spaced out."""

    words: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """One word a line; `#` begins a comment."""
        lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
        return cls(frozenset(_normalised(line) for line in lines if line))

    def holds(self, text: str, language: Language = ENGLISH) -> bool:
        """Whether one of the words, or a form of it that the language's stemmer knows, is in the text."""
        words = [form for word in _plain_words(text) for form in _collapsed(_normalised(word))]
        letters = [word for word in words if len(word) == 1]
        spelt_out = "".join(letters) if len(letters) > 3 else ""
        if not self.words.isdisjoint(_forms(words)) or any(word in spelt_out for word in self.words):
            return True
        # Without spaces, a word may be anywhere.
        line = "".join(words)
        if any(word in line for word in self.words if word and is_unspaced(word)):
            return True
        return not _stemmed(self.words, language).isdisjoint(_stemmed(frozenset(words), language))


def wording_fault(text: str, abuse: AbuseList, wording: Wording, language: Language = ENGLISH) -> str | None:
    """Why a correction cannot be a caption, or None where it can."""
    if abuse.holds(text, language):
        return RatingIssue.ABUSE
    return None if _is_sentence(text, wording, language) else RatingIssue.NOT_A_CAPTION


def _is_sentence(text: str, wording: Wording, language: Language) -> bool:
    words, plain = word_tokens(text, language), unicodedata.normalize("NFKC", text)
    if not words or _ADDRESS.search(plain) or _MARKUP.search(plain):
        return False
    # What takes "a dog runs" in English is two words where there are no articles.
    fewest = wording.min_words if language.has_articles else max(1, wording.min_words - 1)
    if not fewest <= length_in_words(text, language) <= wording.max_words:
        return False
    if max(map(_letters, words)) > wording.longest_word * (2 if language.compounds else 1):
        return False
    if language != ENGLISH and _longest_run(words) > wording.most_repeated:
        return False
    repetitions = max(Counter(_content_tokens(words, language)).values(), default=0)
    visible = [character for character in text if not character.isspace() and not _is_invisible(character)]
    letters = sum(character.isalpha() or _is_mark(character) for character in visible)
    return repetitions <= wording.most_repeated and letters >= 0.7 * len(visible)


def _content_tokens(words: list[str], language: Language) -> list[str]:
    """The tokens that may not be repeated often: long words; of unspaced scripts, pairs of characters."""
    if language.is_spaced:
        return [word for word in words if len(word) > 3]
    return [one + other for one, other in pairwise(words)]


def _longest_run(words: list[str]) -> int:
    return max(sum(1 for _ in run) for _, run in groupby(words))


def _letters(word: str) -> int:
    """How long a word looks: marks stand on their letters."""
    return sum(not _is_mark(character) for character in word)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or ord(character) in _VARIANTS


def _plain_words(text: str) -> list[str]:
    """Words without accents and points; vowel signs, which make the word in many scripts, stay."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    kept = [
        character if character.isalnum() or character in _SIGNS or _is_mark(character) else " "
        for character in plain
        if not unicodedata.combining(character) and not _is_invisible(character)
    ]
    return "".join(kept).split()


def _stemmed(words: frozenset[str], language: Language) -> frozenset[str]:
    """Their stems; nothing for English, whose endings `_forms` knows, and where there is no stemmer."""
    if language == ENGLISH or language.stemmer is None:
        return frozenset()
    return frozenset(snowballstemmer.stemmer(language.stemmer).stemWords(sorted(words)))


def _normalised(word: str) -> str:
    """A word with look-alike characters replaced: `1d10t` is `idiot`."""
    return "".join(_plain_words(word)).rstrip("!").translate(_LOOKALIKES)


def _collapsed(word: str) -> tuple[str, ...]:
    """The word, and where letters are drawn out (`idiooot`) also with one of each and with two."""
    if _DRAWN_OUT.search(word) is None:
        return (word,)
    return word, _DRAWN_OUT.sub(r"\1", word), _DRAWN_OUT.sub(r"\1\1", word)


def _forms(words: Iterable[str]) -> set[str]:
    found = set(words)
    for ending in ("s", "es", "ed", "er", "ing"):
        found |= {word.removesuffix(ending) for word in found if word.endswith(ending)}
    return found
