"""Whether a correction reads like a caption, in any script: no abuse, and a sentence at all."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final, Self

import snowballstemmer

from captionloop.feedback.parameters import Wording
from captionloop.feedback.reasons import Reason
from captionloop.language.languages import ENGLISH, Language
from captionloop.language.words import is_unspaced, length_in_words, words_of

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
        return cls(frozenset(_bare(line) for line in lines if line))

    def holds(self, text: str, language: Language = ENGLISH) -> bool:
        """Whether one of the words, or a form of it that the language's stemmer knows, is in the text."""
        words = [form for word in _pieces(text) for form in _shortened(_bare(word))]
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
        return Reason.ABUSE
    return None if _is_sentence(text, wording, language) else Reason.NOT_A_CAPTION


def _is_sentence(text: str, wording: Wording, language: Language) -> bool:
    words, plain = words_of(text, language), unicodedata.normalize("NFKC", text)
    if not words or _ADDRESS.search(plain) or _MARKUP.search(plain):
        return False
    # What takes "a dog runs" in English is two words where there are no articles.
    fewest = wording.min_words if language.has_articles else max(1, wording.min_words - 1)
    if not fewest <= length_in_words(text, language) <= wording.max_words:
        return False
    if max(map(_letters, words)) > wording.longest_word * (2 if language.compounds else 1):
        return False
    if language != ENGLISH and _most_in_a_row(words) > wording.most_repeated:
        return False
    often = max(Counter(_weighty(words, language)).values(), default=0)
    visible = [character for character in text if not character.isspace() and not _is_invisible(character)]
    letters = sum(character.isalpha() or _is_mark(character) for character in visible)
    return often <= wording.most_repeated and letters >= 0.7 * len(visible)


def _weighty(words: list[str], language: Language) -> list[str]:
    """What may not be said again and again: long words; of characters, those that stand together."""
    if language.is_spaced:
        return [word for word in words if len(word) > 3]
    return [one + other for one, other in pairwise(words)]


def _most_in_a_row(words: list[str]) -> int:
    return max(sum(1 for _ in same) for _, same in groupby(words))


def _letters(word: str) -> int:
    """How long a word looks: marks stand on their letters."""
    return sum(not _is_mark(character) for character in word)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or ord(character) in _VARIANTS


def _pieces(text: str) -> list[str]:
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


def _bare(word: str) -> str:
    """As a reader takes it: `1d10t` is `idiot`."""
    return "".join(_pieces(word)).rstrip("!").translate(_LOOKALIKES)


def _shortened(word: str) -> tuple[str, ...]:
    """The word, and where letters are drawn out (`idiooot`) also with one of each and with two."""
    if _DRAWN_OUT.search(word) is None:
        return (word,)
    return word, _DRAWN_OUT.sub(r"\1", word), _DRAWN_OUT.sub(r"\1\1", word)


def _forms(words: Iterable[str]) -> set[str]:
    found = set(words)
    for ending in ("s", "es", "ed", "er", "ing"):
        found |= {word.removesuffix(ending) for word in found if word.endswith(ending)}
    return found
