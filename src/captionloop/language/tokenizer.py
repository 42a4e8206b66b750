"""Captions as numbers: the tokenizer that a captioner is trained with and carries in its bundle.

Words by default: lower case, punctuation removed, and what occurs too seldom becomes one unknown word. In
English hyphens inside a word (`t-shirt`) and the possessive `'s` stay, as the Penn Treebank tokenizer of the
metrics keeps them too; other languages are cut as `words.py` says. With `subwords` the vocabulary is learnt
by byte-pair encoding (Sennrich et al. 2016), and nothing is unknown.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from captionloop.errors import BundleError, CorpusError
from captionloop.language import words as cutting
from captionloop.language.languages import ENGLISH, Language

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

    def grown(self, texts: Iterable[str], *, min_frequency: int = 1) -> Self:
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
        return cutting.normalizer(language)
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
    return pre_tokenizers.WhitespaceSplit() if language == ENGLISH else cutting.pre_tokenizer()


def _cut(normalised: str, language: Language) -> list[str]:
    if language == ENGLISH:
        return normalised.split()
    return [word for word, _ in cutting.pre_tokenizer().pre_tokenize_str(normalised)]


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
