"""Captions and references in; BLEU, METEOR, ROUGE-L, CIDEr, SPICE and their per-image statistics out.

`try_round_trip` checks the vocabulary before that: where people's own captions, encoded and decoded, do not
come back as they were, every score is wrong from the beginning, mostly because the corpus is in another
language than the configuration says.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from captionloop.errors import CorpusError, ScoringError
from captionloop.languages import ENGLISH, Language
from captionloop.scoring import bleu, java_metrics
from captionloop.scoring.cider import CiderD
from captionloop.scoring.java_metrics import tokenize
from captionloop.tokenizer import CaptionTokenizer, is_unspaced, sentence, word_tokens

MIN_ROUND_TRIP_BLEU: Final = 0.99
"""BLEU-1 of encoded and decoded captions from which on a vocabulary is good enough."""
_MAX_CAPTIONS: Final = 1000
_MAX_UNSPACED: Final = 0.1
_WHAT_TO_DO: Final = (
    "is the corpus in another language? Set `language` in conf/base/globals.yml (docs/languages.md)"
)


@dataclass(frozen=True)
class RoundTrip:
    """BLEU-1 of captions that were encoded and decoded with a vocabulary of all their words.

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

    def to_dict(self) -> dict[str, Any]:
        """As the validation report holds it."""
        return asdict(self)


def try_round_trip(texts: Sequence[str], language: Language) -> RoundTrip:
    """Encodes and decodes captions with a vocabulary of all their words, and scores the result against them.

    Raises:
        ScoringError: the Penn Treebank tokenizer failed (English only).
    """
    sample = list(texts[:: max(1, len(texts) // _MAX_CAPTIONS)])[:_MAX_CAPTIONS]
    try:
        vocabulary = CaptionTokenizer.train(sample, language=language)
    except CorpusError:
        return RoundTrip(language.code, len(sample), None, None)
    written = [sentence(vocabulary.decode(vocabulary.encode(text)), language) for text in sample]
    tokens = tokenized([*sample, *written], language)
    before, after = tokens[: len(sample)], tokens[len(sample) :]
    pairs = [(one, [other]) for one, other in zip(after, before, strict=True)]
    score = float(bleu.corpus_bleu(bleu.statistics(pairs).sum(axis=0))[0])
    warning = _unspaced(sample, language)
    if warning is None and score < MIN_ROUND_TRIP_BLEU:
        place = next(number for number, (one, other) in enumerate(pairs) if [one] != other)
        warning = (
            f"captions that are only written through our own vocabulary score BLEU-1 {100 * score:.1f}"
            f" against themselves, {100 * MIN_ROUND_TRIP_BLEU:.0f} is wanted"
            f" ({sample[place]!r} becomes {written[place]!r}): {_WHAT_TO_DO}"
        )
    return RoundTrip(language.code, len(sample), round(score, 4), warning)


def _unspaced(texts: Sequence[str], language: Language) -> str | None:
    """Whole sentences come through as one word each, which is as bad and scores well."""
    found = [text for text in texts if is_unspaced(text)] if language.is_spaced else []
    if len(found) <= _MAX_UNSPACED * len(texts):
        return None
    return (
        f"{len(found)} of {len(texts)} captions are in a script without spaces ({found[0][:40]!r}), and"
        f" {language} takes what stands between spaces for a word: {_WHAT_TO_DO}"
    )


logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")
_OF_ENGLISH_ONLY = ("METEOR",)
"""Its jar knows more languages, but pycocoevalcap ships the table of paraphrases of English alone, and with
exact words and stems only its numbers would be of another metric."""


@dataclass(frozen=True)
class Family:
    """Metrics that come from the same sums: per-image `columns`, and a formula from their sums to the
    metrics.
    """

    metrics: tuple[str, ...]
    columns: tuple[str, ...]
    formula: Callable[[Floats], Floats]  # [..., columns] -> [..., metrics]


def _mean(sums: Floats) -> Floats:
    return sums[..., :1] / sums[..., 1:]


def _mean_family(metric: str) -> Family:
    return Family((metric,), (metric, "images"), _mean)


FAMILIES = {
    "BLEU": Family(METRICS[:4], bleu.COLUMNS, bleu.corpus_bleu),
    "METEOR": Family(
        ("METEOR",), java_metrics.COLUMNS, lambda sums: java_metrics.corpus_meteor(sums)[..., None]
    ),
    "ROUGE-L": _mean_family("ROUGE-L"),
    "CIDEr": _mean_family("CIDEr"),
    "SPICE": _mean_family("SPICE"),
    "CLIPScore": _mean_family("CLIPScore"),
}


@dataclass(frozen=True)
class Scores:
    """The metrics of one system on one set of images, values as fractions.

    `per_image[family]` is `[images, columns]`: statistics whose sums over any images give that family's
    metrics for these images, exactly.
    """

    image_ids: tuple[str, ...]
    per_image: Mapping[str, Floats]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics, in the order of the tables."""
        return tuple(chain.from_iterable(FAMILIES[family].metrics for family in self.per_image))

    @cached_property
    def values(self) -> dict[str, float]:
        """Each metric over all images."""
        ones = np.ones((1, len(self.image_ids)))
        return {metric: float(values[0]) for metric, values in self.weighted(ones).items()}

    def weighted(self, weights: Floats, metrics: Sequence[str] | None = None) -> dict[str, Floats]:
        """Each metric for each row of `weights` `[samples, images]`: how often each image is in the
        sample.
        """
        result: dict[str, Floats] = {}
        for name, statistics in self.per_image.items():
            family = FAMILIES[name]
            if metrics is None or set(family.metrics) & set(metrics):
                values = family.formula(weights @ statistics)
                result.update(zip(family.metrics, np.moveaxis(values, -1, 0), strict=True))
        return {metric: values for metric, values in result.items() if metrics is None or metric in metrics}

    def with_metric(self, metric: str, values: Mapping[str, float]) -> "Scores":
        """The same and a metric that is a mean over images, given for each of them."""
        column = _with_images(np.array([values[image_id] for image_id in self.image_ids], np.float64))
        return Scores(self.image_ids, {**self.per_image, metric: column})

    def cider(self) -> Floats:
        """CIDEr of every image, in the order of `image_ids`."""
        return self.per_image["CIDEr"][:, 0]

    def to_frame(self) -> pd.DataFrame:
        """One row an image, one column a statistic: to keep on disk."""
        columns = {
            f"{name}/{column}": statistics[:, i]
            for name, statistics in self.per_image.items()
            for i, column in enumerate(FAMILIES[name].columns)
        }
        return pd.DataFrame({"image_id": list(self.image_ids), **columns})

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> "Scores":
        """What `to_frame` wrote.

        Raises:
            ScoringError: a column is missing.
        """
        try:
            names = [name for name in FAMILIES if f"{name}/{FAMILIES[name].columns[0]}" in frame]
            per_image = {
                name: frame[[f"{name}/{column}" for column in FAMILIES[name].columns]].to_numpy(np.float64)
                for name in names
            }
            return cls(tuple(frame["image_id"]), per_image)
        except KeyError as error:
            raise ScoringError(
                f"A table of scores lacks columns ({error}): evaluate the model again."
            ) from error


def left_out(language: Language) -> tuple[str, ...]:
    """Which of `METRICS` cannot be computed in a language: they are absent from its scores, and not 0."""
    return () if language == ENGLISH else _OF_ENGLISH_ONLY


def tokenized(captions: Sequence[str], language: Language) -> list[str]:
    """Each caption in lower case, its tokens between single spaces, without punctuation.

    English goes through the Penn Treebank tokenizer, as all published scores do. That one knows English only,
    so other languages are cut as their captioners are.

    Raises:
        ScoringError: the Penn Treebank tokenizer failed.
    """
    if language == ENGLISH:
        return tokenize(captions)
    return [" ".join(word_tokens(caption, language)) for caption in captions]


def score(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], language: Language = ENGLISH
) -> Scores:
    """BLEU-1..4, METEOR, ROUGE-L and CIDEr of one caption for each image, as pycocoevalcap computes them.

    Args:
        predictions: a caption for each image, as text.
        references: the captions of the same images by people.
        language: of all of them; METEOR is left out of all but English (`left_out`).

    Raises:
        ScoringError: an image has a caption but no reference or the other way round, a caption is empty,
            or one of the Java programs failed.
    """
    return score_systems({"": predictions}, references, language)[""]


def score_systems(
    systems: Mapping[str, Mapping[str, str]],
    references: Mapping[str, Sequence[str]],
    language: Language = ENGLISH,
) -> dict[str, Scores]:
    """`score` for several systems on the same images: references are tokenised and METEOR's table is read
    only once.

    METEOR runs beside everything else.
    """
    for name, predictions in systems.items():
        _check(name, predictions, references)
    if not systems:
        return {}
    image_ids = tuple(references)
    if language != ENGLISH:
        logger.info(
            "%s: left out, they know no %s (docs/languages.md)",
            ", ".join((*left_out(language), "SPICE")), language.name,
        )  # fmt: skip
        captions = _tokenize(systems, references, language)
        return _by_name(_all_but_meteor(captions, image_ids), image_ids)
    with java_metrics.Meteor() as aligner:
        captions = _tokenize(systems, references, language)
        with ThreadPoolExecutor(1) as beside:
            aligned = beside.submit(aligner.align, list(chain.from_iterable(captions.values())))
            families = _all_but_meteor(captions, image_ids)
            for statistics, rows in zip(
                families.values(), np.split(aligned.result(), len(systems)), strict=True
            ):
                statistics["METEOR"] = rows
    for name, values in java_metrics.score(captions).items():
        families[name]["SPICE"] = _with_images(values)
    return _by_name(families, image_ids)


def _by_name(families: Mapping[str, Mapping[str, Floats]], image_ids: tuple[str, ...]) -> dict[str, Scores]:
    return {
        name: Scores(image_ids, {family: statistics[family] for family in FAMILIES if family in statistics})
        for name, statistics in families.items()
    }


# A caption with the references of its image, all tokenised, in the order of the images.
_Captions = list[tuple[str, list[str]]]


def _check(system: str, predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    of = f" of {system!r}" if system else ""
    if not predictions:
        raise ScoringError(f"There are no captions{of} to score: give one for each image.")
    for image_id in predictions:
        if not references.get(image_id):
            raise ScoringError(
                f"Image {image_id!r} has a caption{of} but no reference: drop it, or add references."
            )
        if not predictions[image_id].strip():
            raise ScoringError(
                f"The caption{of} for image {image_id!r} is empty: a captioner has to say something."
            )
    for image_id in references:
        if image_id not in predictions:
            raise ScoringError(
                f"Image {image_id!r} has references but no caption{of}: caption it, or drop it."
            )


def _tokenize(
    systems: Mapping[str, Mapping[str, str]],
    references: Mapping[str, Sequence[str]],
    language: Language,
) -> dict[str, _Captions]:
    flat = list(chain.from_iterable(references.values()))
    for predictions in systems.values():
        flat += [predictions[image_id] for image_id in references]
    tokens = iter(tokenized(flat, language))
    compared = [[next(tokens) for _ in captions] for captions in references.values()]
    return {name: [(next(tokens), captions) for captions in compared] for name in systems}


def _all_but_meteor(
    captions: Mapping[str, _Captions], image_ids: tuple[str, ...]
) -> dict[str, dict[str, Floats]]:
    from pycocoevalcap.rouge.rouge import Rouge

    first = next(iter(captions.values()))
    cider, rouge = (
        CiderD({i: references for i, (_, references) in zip(image_ids, first, strict=True)}),
        Rouge(),
    )
    families = {}
    for name, pairs in captions.items():
        longest = np.array([rouge.calc_score([hypothesis], references) for hypothesis, references in pairs])
        families[name] = {
            "BLEU": bleu.statistics(pairs),
            "ROUGE-L": _with_images(longest),
            "CIDEr": _with_images(cider.rewards(image_ids, [hypothesis for hypothesis, _ in pairs])),
        }
    return families


def _with_images(values: Floats) -> Floats:
    return np.column_stack([values, np.ones(len(values))])
