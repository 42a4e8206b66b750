"""What is lost of captions that are only written through a vocabulary and read again.

A captioner can say no more than its vocabulary can. Where people's own captions do not come through it as
they were, no training makes that good, and every score is wrong from the beginning: mostly because the corpus
is in another language than the configuration says.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from captionloop.errors import CorpusError
from captionloop.language.languages import Language
from captionloop.language.tokenizer import CaptionTokenizer
from captionloop.language.words import is_unspaced, sentence
from captionloop.scoring import bleu
from captionloop.scoring.scores import tokenized

FAITHFUL: Final = 0.99
"""BLEU-1 of captions against themselves with which a vocabulary is good enough."""
_MOST_CAPTIONS: Final = 1000
_MOST_UNSPACED: Final = 0.1
_WHAT_TO_DO: Final = (
    "is the corpus in another language? Set `language` in conf/base/globals.yml (docs/languages.md)"
)


@dataclass(frozen=True)
class RoundTrip:
    """How captions came through a vocabulary of all their words.

    Attributes:
        language: its code.
        captions: how many were tried, evenly over all.
        bleu_1: of what came out against what went in; None where there was no word.
        warning: what is wrong, on one line; None where nothing is.
    """

    language: str
    captions: int
    bleu_1: float | None
    warning: str | None

    def told(self) -> dict[str, Any]:
        """As the validation report holds it."""
        return asdict(self)


def try_round_trip(texts: Sequence[str], language: Language) -> RoundTrip:
    """Writes captions through a vocabulary of all their words, and scores them against themselves.

    Raises:
        ScoringError: the Penn Treebank tokenizer failed (English only).
    """
    some = list(texts[:: max(1, len(texts) // _MOST_CAPTIONS)])[:_MOST_CAPTIONS]
    try:
        vocabulary = CaptionTokenizer.train(some, language=language)
    except CorpusError:
        return RoundTrip(language.code, len(some), None, None)
    written = [sentence(vocabulary.decode(vocabulary.encode(text)), language) for text in some]
    tokens = tokenized([*some, *written], language)
    before, after = tokens[: len(some)], tokens[len(some) :]
    pairs = [(one, [other]) for one, other in zip(after, before, strict=True)]
    score = float(bleu.corpus_bleu(bleu.statistics(pairs).sum(axis=0))[0])
    warning = _unspaced(some, language)
    if warning is None and score < FAITHFUL:
        place = next(number for number, (one, other) in enumerate(pairs) if [one] != other)
        warning = (
            f"captions that are only written through our own vocabulary score BLEU-1 {100 * score:.1f}"
            f" against themselves, {100 * FAITHFUL:.0f} is wanted"
            f" ({some[place]!r} becomes {written[place]!r}): {_WHAT_TO_DO}"
        )
    return RoundTrip(language.code, len(some), round(score, 4), warning)


def _unspaced(texts: Sequence[str], language: Language) -> str | None:
    """Whole sentences come through as one word each, which is as bad and scores well."""
    found = [text for text in texts if is_unspaced(text)] if language.is_spaced else []
    if len(found) <= _MOST_UNSPACED * len(texts):
        return None
    return (
        f"{len(found)} of {len(texts)} captions are in a script without spaces ({found[0][:40]!r}), and"
        f" {language} takes what stands between spaces for a word: {_WHAT_TO_DO}"
    )
