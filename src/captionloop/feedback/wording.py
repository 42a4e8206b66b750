"""Whether a correction reads like a caption: no abuse, and a sentence at all."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from captionloop.evaluation.variety import words_of
from captionloop.feedback.parameters import Wording
from captionloop.feedback.reasons import Reason

_LOOKALIKES: Final = str.maketrans("013457@$!|", "oieastasii")
_DRAWN_OUT: Final = re.compile(r"(.)\1{2,}")
_ADDRESS: Final = re.compile(r"https?:|www\.|\w@\w|\w\.(?:com|net|org|io|ru|info)\b", re.IGNORECASE)
_MARKUP: Final = re.compile(r"[<>{}\[\]\\]|&\w+;")


@dataclass(frozen=True)
class AbuseList:
    """Words that no caption may hold, found also where letters are drawn out, digits, or spaced out."""

    words: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """One word a line; `#` begins a comment."""
        lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
        return cls(frozenset(_bare(line) for line in lines if line))

    def holds(self, text: str) -> bool:
        """Whether one of the words is in the text."""
        words = [form for word in _pieces(text) for form in _shortened(_bare(word))]
        letters = [word for word in words if len(word) == 1]
        spelt_out = "".join(letters) if len(letters) > 3 else ""
        return not self.words.isdisjoint(_forms(words)) or any(word in spelt_out for word in self.words)


def wording_fault(text: str, abuse: AbuseList, wording: Wording) -> str | None:
    """Why a correction cannot be a caption, or None where it can."""
    if abuse.holds(text):
        return Reason.ABUSE
    return None if _is_sentence(text, wording) else Reason.NOT_A_CAPTION


def _is_sentence(text: str, wording: Wording) -> bool:
    words = words_of(text)
    if _ADDRESS.search(text) or _MARKUP.search(text):
        return False
    if not wording.min_words <= len(words) <= wording.max_words:
        return False
    if max(map(len, words)) > wording.longest_word:
        return False
    often = max(Counter(word for word in words if len(word) > 3).values(), default=0)
    letters = sum(character.isalpha() for character in text)
    seen = sum(not character.isspace() for character in text)
    return often <= wording.most_repeated and letters >= 0.7 * seen


def _pieces(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    return re.split(r"[^\w@$!|]+|_", plain)


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
