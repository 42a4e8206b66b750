"""Captions and references in, metrics out, with all that is needed to compute them again on any sample of
the images.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from captionloop.errors import ScoringError
from captionloop.language.languages import ENGLISH, Language
from captionloop.language.words import words_of
from captionloop.scoring import bleu, meteor, spice
from captionloop.scoring.cider import CiderD
from captionloop.scoring.ptb import tokenize

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
    "METEOR": Family(("METEOR",), meteor.COLUMNS, lambda sums: meteor.corpus_meteor(sums)[..., None]),
    "ROUGE-L": _mean_family("ROUGE-L"),
    "CIDEr": _mean_family("CIDEr"),
    "SPICE": _mean_family("SPICE"),
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
    return [" ".join(words_of(caption, language)) for caption in captions]


def score(
    hypotheses: Mapping[str, str], references: Mapping[str, Sequence[str]], language: Language = ENGLISH
) -> Scores:
    """BLEU-1..4, METEOR, ROUGE-L and CIDEr of one caption for each image, as pycocoevalcap computes them.

    Args:
        hypotheses: a caption for each image, as text.
        references: the captions of the same images by people.
        language: of all of them; METEOR is left out of all but English (`left_out`).

    Raises:
        ScoringError: an image has a caption but no reference or the other way round, a caption is empty,
            or one of the Java programs failed.
    """
    return score_systems({"": hypotheses}, references, language)[""]


def score_systems(
    systems: Mapping[str, Mapping[str, str]],
    references: Mapping[str, Sequence[str]],
    language: Language = ENGLISH,
) -> dict[str, Scores]:
    """`score` for several systems on the same images: references are tokenised and METEOR's table is read
    only once.

    METEOR runs beside everything else.
    """
    for name, hypotheses in systems.items():
        _check(name, hypotheses, references)
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
    with meteor.Meteor() as aligner:
        captions = _tokenize(systems, references, language)
        with ThreadPoolExecutor(1) as beside:
            aligned = beside.submit(aligner.align, list(chain.from_iterable(captions.values())))
            families = _all_but_meteor(captions, image_ids)
            for statistics, rows in zip(
                families.values(), np.split(aligned.result(), len(systems)), strict=True
            ):
                statistics["METEOR"] = rows
    for name, values in spice.score(captions).items():
        families[name]["SPICE"] = _with_images(values)
    return _by_name(families, image_ids)


def _by_name(families: Mapping[str, Mapping[str, Floats]], image_ids: tuple[str, ...]) -> dict[str, Scores]:
    return {
        name: Scores(image_ids, {family: statistics[family] for family in FAMILIES if family in statistics})
        for name, statistics in families.items()
    }


# A caption with the references of its image, all tokenised, in the order of the images.
_Captions = list[tuple[str, list[str]]]


def _check(system: str, hypotheses: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    of = f" of {system!r}" if system else ""
    if not hypotheses:
        raise ScoringError(f"There are no captions{of} to score: give one for each image.")
    for image_id in hypotheses:
        if not references.get(image_id):
            raise ScoringError(
                f"Image {image_id!r} has a caption{of} but no reference: drop it, or add references."
            )
        if not hypotheses[image_id].strip():
            raise ScoringError(
                f"The caption{of} for image {image_id!r} is empty: a captioner has to say something."
            )
    for image_id in references:
        if image_id not in hypotheses:
            raise ScoringError(
                f"Image {image_id!r} has references but no caption{of}: caption it, or drop it."
            )


def _tokenize(
    systems: Mapping[str, Mapping[str, str]],
    references: Mapping[str, Sequence[str]],
    language: Language,
) -> dict[str, _Captions]:
    flat = list(chain.from_iterable(references.values()))
    for hypotheses in systems.values():
        flat += [hypotheses[image_id] for image_id in references]
    tokens = iter(tokenized(flat, language))
    compared = [[next(tokens) for _ in captions] for captions in references.values()]
    return {name: [(next(tokens), captions) for captions in compared] for name in systems}


def _all_but_meteor(
    captions: Mapping[str, _Captions], image_ids: tuple[str, ...]
) -> dict[str, dict[str, Floats]]:
    from pycocoevalcap.rouge.rouge import Rouge

    some = next(iter(captions.values()))
    cider, rouge = (
        CiderD({i: references for i, (_, references) in zip(image_ids, some, strict=True)}),
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
