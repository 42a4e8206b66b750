"""Text as words and words as text, in every language.

English is cut as it always was here. In every other language one rule of Unicode holds: what is neither
letter, mark, number nor joiner separates words, whatever script it is of; marks and joiners (Arabic vowel
points, Hindi vowel signs and viramas, Hebrew points, zero-width joiners) belong to their letters; apostrophes
and hyphens stay inside words. Where people put no spaces, each character with its marks is a token, as is
usual for caption metrics in Chinese and Japanese.

Cutting what was joined gives the same words again.
"""

import math
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

from tokenizers import Regex, normalizers, pre_tokenizers

from captionloop.language.languages import ENGLISH, Language

_ENGLISH_WORD: Final = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")

_APOSTROPHES: Final = "[‘’‛`´ʼ′＇]"
_DASHES: Final = "[‐‑‒–—−]"
_INVISIBLE: Final = "[\u00ad\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufe00-\ufe0f]"
_JOINERS: Final = "\u200c\u200d"
_IN_NUMBERS: Final = ".,:٫٬"
_HEBREW_SIGNS: Final = "׳״־"

_IDEOGRAMS: Final = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b"  # Han
    "\u3040-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3100-\u312f"  # kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts in which a character is about a word, and a foreign word beside it needs no space."""
_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Thai and Lao, Burmese, Khmer."""
_STACKED: Final = "\u1039\u17d2"
"""Signs that put the next letter under the last."""
_CHARACTER: Final = rf"(?:[{_IDEOGRAMS}]|[{_UNSPACED}&&\p{{L}}])(?:[{_STACKED}]\p{{L}}|\p{{M}}|[{_JOINERS}])*"

_ENDS_IN_IDEOGRAM: Final = re.compile(f"[{_IDEOGRAMS}]$")
_BEGINS_WITH_IDEOGRAM: Final = re.compile(f"[{_IDEOGRAMS}]")
_UNSPACED_CHARACTER: Final = re.compile(f"[{_IDEOGRAMS}{_UNSPACED}]")
_ENDS_UNSPACED: Final = re.compile(f"[{_UNSPACED}][{_JOINERS}]*$")
_BEGINS_UNSPACED: Final = re.compile(f"[{_UNSPACED}]")


def words_of(text: str, language: Language = ENGLISH) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    if language == ENGLISH:
        return _ENGLISH_WORD.findall(text.lower())
    normal = normalizer(language).normalize_str(text)
    return [word for word, _ in pre_tokenizer().pre_tokenize_str(normal)]


def length_in_words(text: str, language: Language = ENGLISH) -> int:
    """How many words a text has, about: where it is cut into characters, several of them make a word."""
    return math.ceil(len(words_of(text, language)) / language.tokens_per_word)


def is_unspaced(text: str) -> bool:
    """Whether there is a character in it of a script that is written without spaces."""
    return _UNSPACED_CHARACTER.search(text) is not None


def sentence(words: Sequence[str], language: Language = ENGLISH) -> str:
    """Words as a line of text, as people write it: `a dog's ball`, `l'objet dans l'herbe`, `草地上的狗`."""
    if language == ENGLISH:
        return " ".join(words).replace(" 's", "'s")
    line = ""
    for word in words:
        line += word if not line or _joins(line, word, language) else f" {word}"
    return line


def _joins(line: str, word: str, language: Language) -> bool:
    """Whether a word follows without a space."""
    if line.endswith("'") and language.elided:
        return line.rpartition(" ")[2].removesuffix("'") not in language.truncated
    if _ENDS_IN_IDEOGRAM.search(line) or _BEGINS_WITH_IDEOGRAM.match(word):
        return True
    return bool(_ENDS_UNSPACED.search(line) and _BEGINS_UNSPACED.match(word))


@cache
def normalizer(language: Language) -> normalizers.Normalizer:
    """What makes text of a language, but English, plain: lower case, and spaces for punctuation."""
    steps: list[normalizers.Normalizer] = [
        _replace(_APOSTROPHES, "'"),
        _replace(_DASHES, "-"),
        _replace(_INVISIBLE, ""),  # before letters and marks are composed, which it may stand between
        normalizers.NFKC() if language.compatible else normalizers.NFC(),
        _replace(_INVISIBLE, ""),
        *_lower_case(language),
        normalizers.NFC(),  # of a letter that lost its dot, a mark may be composed with what is left
        _replace(r'(?<=\p{Hebrew})["“”](?=\p{Hebrew})', "״"),
        _replace(_separators(language), " "),
    ]
    if language.elided:
        known = "|".join(rf"\b{word}" for word in (*language.elided, *language.truncated))
        steps.append(_replace(rf"(?<={known})'(?=\p{{L}})", "' "))
    return normalizers.Sequence(steps)


@cache
def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """What cuts plain text: at spaces, and around each character of a script without them."""
    characters = pre_tokenizers.Split(Regex(_CHARACTER), "isolated")
    return pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), characters])


def _replace(pattern: str, plain: str) -> normalizers.Normalizer:
    return normalizers.Replace(Regex(pattern), plain)


def _lower_case(language: Language) -> Iterable[normalizers.Normalizer]:
    """Letter by letter; German ß stays, Greek gets its last sigma back."""
    if language.dotless_i:
        yield from (_replace("İ", "i"), _replace("I", "ı"))
    yield normalizers.Lowercase()
    if language.code == "el":
        yield _replace(r"(?<=[\p{L}\p{M}])σ(?![\p{L}\p{M}])", "ς")


def _separators(language: Language) -> str:
    """What stands between words, and signs that belong to a word only in its middle."""
    keeps = "".join(rf"|\b{word}" for word in (*language.elided, *language.truncated))
    kept_after = rf"(?<!{keeps.removeprefix('|')})" if keeps else ""
    kept_before = rf"(?!(?:{'|'.join(language.clitics)})\b)" if language.clitics else ""
    # A character that is a word of its own has no other at the other side of a hyphen.
    alone = rf"&&[^{_IDEOGRAMS}{_UNSPACED}]"
    letter, letter_before = rf"[\p{{L}}\p{{N}}{alone}]", rf"[\p{{L}}\p{{M}}\p{{N}}{alone}]"
    character, mark = rf"[{_IDEOGRAMS}{_UNSPACED}]", rf"[\p{{M}}{_JOINERS}]"
    marked = "|".join(character + mark * marks for marks in (1, 2, 3, 4))
    inside = rf"\p{{M}}{_JOINERS}'·{_IN_NUMBERS}{_HEBREW_SIGNS}-"
    return "|".join(
        [
            rf"[^\p{{L}}\p{{M}}\p{{N}}\s'·{_JOINERS}{_IN_NUMBERS}{_HEBREW_SIGNS}-]",
            rf"{kept_after}'(?!{letter})",
            rf"(?<!{letter_before})'{kept_before}",
            rf"-(?!{letter})|(?<!{letter_before})-",
            rf"[{_IN_NUMBERS}](?!\p{{N}})|(?<!\p{{N}})[{_IN_NUMBERS}]",
            rf"(?<={marked})['·-]",
            rf"·(?![\p{{L}}{alone}])|(?<![\p{{L}}{alone}])·",
            rf"(?<![\p{{Hebrew}}&&[^{_HEBREW_SIGNS}]])[{_HEBREW_SIGNS}]",
            rf"(?<![\p{{L}}\p{{M}}{_JOINERS}])[{_JOINERS}][{inside}]*",
            rf"(?<![\p{{L}}\p{{M}}\p{{N}}{_JOINERS}])\p{{M}}[{inside}]*",
        ]
    )
