"""The tokenizer of a pre-trained model behind the interface of `CaptionTokenizer`: token ids and words.

Our searches and losses know four special ids (`tokenizer.SPECIALS`). The model's own ids stand behind them,
moved by four; what pads, begins or ends a text there is never generated here.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from captionloop.languages import ENGLISH, Language
from captionloop.tokenizer import SPECIALS, CaptionTokenizer, Span, word_tokens

OFFSET: Final = len(SPECIALS)
_UNFINISHED: Final = "\ufffd"


class SubwordTokenizer(CaptionTokenizer):
    """Captions in a pre-trained model's tokens. Words are what stands between spaces, in its own case."""

    def __init__(self, tokenizer: Any, size: int, language: Language = ENGLISH) -> None:
        """`size`: of the model's vocabulary, which may have room for more than the tokenizer knows."""
        self._own = tokenizer
        self._size = size
        self.language = language

    def in_language(self, language: Language) -> Self:
        """The same for captions in another language."""
        return type(self)(self._own, self._size, language)

    def save(self, path: str | Path) -> None:
        """Nothing: it is a file of the base."""

    def extended(self, texts: Any, *, min_frequency: int = 1) -> Self:  # noqa: ARG002
        """Itself: with pieces of words nothing is unknown."""
        return self

    @property
    def is_word_level(self) -> bool:
        """Never."""
        return False

    @cached_property
    def words(self) -> list[str]:
        """All entries in the order of their ids, the four special ones first."""
        named = self._own.convert_ids_to_tokens(list(range(self._size)))
        return [*SPECIALS, *(name or "" for name in named)]

    @property
    def vocabulary_size(self) -> int:
        """How many entries there are, the four special ones included."""
        return self._size + OFFSET

    @cached_property
    def forbidden_tokens(self) -> list[int]:
        """Ids of ours that are no part of any text: what marks its ends, and what stands for a photo."""
        marks = {token for token, mark in self._own.added_tokens_decoder.items() if mark.special}
        unknown = range(len(self._own), self._size)
        return [token + OFFSET for token in sorted({*marks, *self._own.all_special_ids, *unknown})]

    @cached_property
    def blank(self) -> list[int]:
        """Ids of ours in whose text is no letter or digit: a caption of `!` alone would have no word."""
        texts = self._own.batch_decode([[token] for token in range(self._size)], **_DECODE_OPTIONS)
        return [token + OFFSET for token, text in enumerate(texts) if not any(map(str.isalnum, text))]

    def encode(self, text: str) -> list[int]:
        """Token ids of a caption, without begin and end."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many captions at once."""
        if not texts:
            return []
        found = self._own([" ".join(text.split()) for text in texts], add_special_tokens=False)["input_ids"]
        return [[token + OFFSET for token in ids] for ids in found]

    def split(self, text: str) -> list[str]:
        """The words of a caption as metrics compare them."""
        return word_tokens(text, self.language)

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The words that token ids stand for, as metrics compare them."""
        return self.split(" ".join(span.word for span in self.spans(ids)))

    def spans(self, ids: Sequence[int]) -> list[Span]:
        """The words that token ids stand for, and which tokens each came from.

        A token belongs to the word in which its text ends; one that holds a part of a character belongs where
        that character is finished. So every tokenizer's pieces find their words, whatever marks it puts on
        them.
        """
        tokens = [token - OFFSET for token in ids if token >= OFFSET]
        places = [place for place, token in enumerate(ids) if token >= OFFSET]
        read = [""] + [
            self._own.decode(tokens[:count], **_DECODE_OPTIONS).rstrip(_UNFINISHED)
            for count in range(1, len(tokens) + 1)
        ]
        whole = self._own.decode(tokens, **_DECODE_OPTIONS)
        spans: list[Span] = []
        start, first = 0, 0
        for word in whole.split():
            start = whole.index(word, start)
            end = start + len(word)
            last = next((n for n in range(first, len(tokens)) if len(read[n + 1]) >= end), len(tokens) - 1)
            # A piece that ends one word and begins the next counts for both.
            began = next((n for n in range(len(tokens)) if len(read[n + 1]) > start), last)
            spans.append(Span(word, places[min(began, last)], places[last] + 1))
            start, first = end, last
        return _as_written(spans)


def _as_written(spans: Sequence[Span]) -> list[Span]:
    """Words with the signs that belong to them: some tokenizers say `man ' s hat .` for `man's hat.`"""
    found: list[Span] = []
    for span in spans:
        before = found[-1] if found else None
        if before is not None and (span.word in _CLOSING or _is_elided(before.word, span.word)):
            found[-1] = Span(before.word + span.word, before.start, span.stop)
        else:
            found.append(span)
    return found


def _is_elided(before: str, word: str) -> bool:
    """Whether an apostrophe, or what follows one, goes on with the word before it."""
    return (word == "'" and before[-1].isalnum()) or (
        before[-1] == "'" and len(before) > 1 and word in _ELIDED
    )


_DECODE_OPTIONS: Final = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
_CLOSING: Final = frozenset(".,;:!?")
_ELIDED: Final = frozenset(("s", "t", "d", "m", "re", "ve", "ll"))
