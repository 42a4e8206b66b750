"""Caption text in, words and token ids out, and back: the tokenizer of a captioner, for every language.

English is cut as it always was here. In every other language one rule of Unicode holds: what is neither
letter, mark, number nor joiner separates words, whatever script it is of; marks and joiners (Arabic vowel
points, Hindi vowel signs and viramas, Hebrew points, zero-width joiners) belong to their letters; apostrophes
and hyphens stay inside words. Where people put no spaces, each character with its marks is a token, as is
usual for caption metrics in Chinese and Japanese.

Cutting what was joined gives the same words again.

Words by default: lower case, punctuation removed, and what occurs too seldom becomes one unknown word. In
English hyphens inside a word (`t-shirt`) and the possessive `'s` stay, as the Penn Treebank tokenizer of the
metrics keeps them too; other languages are cut as above. With `subwords` the vocabulary is learnt
by byte-pair encoding (Sennrich et al. 2016), and nothing is unknown.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Self

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from captionloop.errors import BundleError, CorpusError
from captionloop.languages import ENGLISH, Language

_ENGLISH_WORD: Final = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")

_APOSTROPHES: Final = "[‘’‛`´ʼ′＇]"
_DASHES: Final = "[‐‑‒–—−]"
_INVISIBLE: Final = (
    "[\u00ad\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufe00-\ufe0f\u0640\u055b\u055c\u055e]"
)
"""What may stand between a word's letters and is none of them: soft hyphens, directions, variants of a
picture, the stroke that makes an Arabic word longer, Armenian signs of tone.
"""
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


def word_tokens(text: str, language: Language = ENGLISH) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    if language == ENGLISH:
        return _ENGLISH_WORD.findall(text.lower())
    normal = normalizer(language).normalize_str(text)
    return [word for word, _ in pre_tokenizer().pre_tokenize_str(normal)]


def length_in_words(text: str, language: Language = ENGLISH) -> int:
    """How many words a text has, about: where it is cut into characters, several of them make a word."""
    return math.ceil(len(word_tokens(text, language)) / language.tokens_per_word)


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


SPECIALS: Final = ("<pad>", "<bos>", "<eos>", "<unk>")
CONTINUATION: Final = "##"
_DASHES_AND_QUOTES: Final = (("[‐‑‒–—]", "-"), ("[‘’`´]", "'"))
_PUNCTUATION: Final = r"(?<![\p{L}\p{N}])-|-(?![\p{L}\p{N}])|'(?!s\b)|[^\p{L}\p{M}\p{N}\s'-]"


@dataclass(frozen=True)
class Span:
    """A word and which of the tokens it came from: `ids[start:stop]` (one token each, but for sub-words)."""

    word: str
    start: int
    stop: int


class CaptionTokenizer:
    """Text in a language to token ids and back, around a tokenizer of Hugging Face's `tokenizers`."""

    PAD: Final = 0
    BOS: Final = 1
    EOS: Final = 2
    UNK: Final = 3

    def __init__(self, tokenizer: Tokenizer, language: Language = ENGLISH) -> None:
        self._tokenizer = tokenizer
        self.language = language
        vocabulary = tokenizer.get_vocab()
        self._words = sorted(vocabulary, key=lambda word: vocabulary[word])
        if tuple(self._words[: len(SPECIALS)]) != SPECIALS:
            raise BundleError(
                f"Tokenizer: the first entries are {self._words[:4]}, not {list(SPECIALS)}: not ours."
            )

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        min_frequency: int = 1,
        subwords: int | None = None,
        language: Language = ENGLISH,
    ) -> Self:
        """A vocabulary of the words that `texts` hold at least `min_frequency` times, or of `subwords`
        entries.

        Raises:
            CorpusError: when not a single word is left.
        """
        if subwords is not None:
            return cls(_byte_pairs(texts, subwords, min_frequency, language), language)
        counts = _count_words(texts, language)
        words = sorted((w for w, n in counts.items() if n >= min_frequency), key=lambda w: (-counts[w], w))
        if not words:
            raise CorpusError(
                f"Captions: no word occurs {min_frequency} times, so there is nothing to learn;"
                " lower `min_frequency`."
            )
        return cls(_word_level([*SPECIALS, *words], language), language)

    @classmethod
    def load(cls, path: Path, language: Language = ENGLISH) -> Self:
        """Read `tokenizer.json`, of that language (BundleError when it is missing or is not one)."""
        try:
            return cls(Tokenizer.from_str(Path(path).read_text(encoding="utf-8")), language)
        except BundleError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            raise BundleError(f"{path}: not a tokenizer that can be read ({error}).") from error

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`, the format of Hugging Face's `tokenizers`."""
        Path(path).write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")

    def extended(self, texts: Iterable[str], *, min_frequency: int = 1) -> Self:
        """This vocabulary with the new words of `texts` behind the old ones, whose ids stay as they are.

        A sub-word vocabulary knows every word already and is returned unchanged.
        """
        if not self.is_word_level:
            return self
        known = set(self._words)
        counts = _count_words(texts, self.language)
        new = sorted((w for w, n in counts.items() if n >= min_frequency and w not in known),
                     key=lambda w: (-counts[w], w))  # fmt: skip
        if not new:
            return self
        return type(self)(_word_level([*self._words, *new], self.language), self.language)

    @property
    def is_word_level(self) -> bool:
        """Whether a token is a word."""
        return isinstance(self._tokenizer.model, models.WordLevel)

    @property
    def words(self) -> list[str]:
        """All entries in the order of their ids, the four special ones first."""
        return list(self._words)

    @property
    def vocabulary_size(self) -> int:
        """How many entries there are, the four special ones included."""
        return len(self._words)

    def encode(self, text: str) -> list[int]:
        """Token ids of a caption, without begin and end; words never seen become `UNK`."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many captions at once."""
        return [e.ids for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def split(self, text: str) -> list[str]:
        """The words of a caption as metrics compare them, those outside the vocabulary too."""
        normalised: str = self._tokenizer.normalizer.normalize_str(text)
        return _cut(normalised, self.language)

    def spans(self, ids: Sequence[int]) -> list[Span]:
        """The words that token ids stand for, special tokens left out, and which tokens each came from."""
        spans: list[Span] = []
        for position, token in enumerate(ids):
            if token < len(SPECIALS):
                continue
            piece = self._words[token]
            if piece.startswith(CONTINUATION) and not self.is_word_level:
                piece = piece.removeprefix(CONTINUATION)
                if spans:
                    last = spans.pop()
                    spans.append(Span(last.word + piece, last.start, position + 1))
                    continue
            spans.append(Span(piece, position, position + 1))
        return spans

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The words that token ids stand for, special tokens left out."""
        return [span.word for span in self.spans(ids)]


def _normalizer(language: Language) -> normalizers.Normalizer:
    if language != ENGLISH:
        return normalizer(language)
    return normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            *(normalizers.Replace(Regex(pattern), plain) for pattern, plain in _DASHES_AND_QUOTES),
            normalizers.Replace(Regex(_PUNCTUATION), ""),
            normalizers.Replace(Regex(r"\s*'s\b"), " 's"),
        ]
    )


def _pre_tokenizer(language: Language) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.WhitespaceSplit() if language == ENGLISH else pre_tokenizer()


def _cut(normalised: str, language: Language) -> list[str]:
    if language == ENGLISH:
        return normalised.split()
    return [word for word, _ in pre_tokenizer().pre_tokenize_str(normalised)]


def _count_words(texts: Iterable[str], language: Language) -> Counter[str]:
    normalizer = _normalizer(language)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_cut(normalizer.normalize_str(text), language))
    for special in SPECIALS:
        counts.pop(special, None)
    return counts


def _word_level(entries: Sequence[str], language: Language) -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(entries)}, unk_token=SPECIALS[3])
    )
    tokenizer.normalizer = _normalizer(language)
    tokenizer.pre_tokenizer = _pre_tokenizer(language)
    return tokenizer


def _byte_pairs(texts: Iterable[str], entries: int, min_frequency: int, language: Language) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIALS[3], continuing_subword_prefix=CONTINUATION))
    tokenizer.normalizer = _normalizer(language)
    tokenizer.pre_tokenizer = _pre_tokenizer(language)
    trainer = trainers.BpeTrainer(
        vocab_size=entries,
        min_frequency=min_frequency,
        special_tokens=list(SPECIALS),
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() <= len(SPECIALS):
        raise CorpusError("Captions: there is not a single word in them, so there is nothing to learn.")
    return tokenizer
