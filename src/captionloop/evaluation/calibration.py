"""How far a word's confidence can be believed, and a curve that makes it believable.

A word counts as right when any reference of the photo has it. That asks less than a correct caption does
(word order is ignored, and a true word that no one happened to write counts as wrong), but it can be told for
every word without a person looking.

The expected calibration error is that of Guo et al. 2017 (arXiv 1706.04599, equation 3): words are put into
equally wide bins by confidence, and the gaps between a bin's mean confidence and its share of right words are
averaged by the number of words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from captionloop.evaluation.hypotheses import Said
from captionloop.evaluation.parameters import CalibrationParameters
from captionloop.language.languages import ENGLISH, Language
from captionloop.language.words import words_of

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Calibration

Floats = NDArray[np.float64]

_BLOCKS = 40  # equally filled, for isotonic regression: few, so that it cannot learn words by heart
_KNOTS = 41  # points of a temperature curve


@dataclass(frozen=True)
class Outcomes:
    """Every word of many captions: its probability, whether it was right, and the photo it is about (a
    number).
    """

    probability: Floats
    right: Floats
    photo: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> "Outcomes":
        """Only some of the words."""
        return Outcomes(self.probability[chosen], self.right[chosen], self.photo[chosen])


class Bin(BaseModel):
    """Words of similar confidence."""

    model_config = ConfigDict(frozen=True)

    words: int
    confidence: float
    right: float


class CalibrationReport(BaseModel):
    """`<model>.calibration`: the curve and what it is worth.

    `error_before` and `error_after` are expected calibration errors; the latter, like `bins_after`, on photos
    that the curve was not fitted to (cross-validation by photo). `probability` and `confidence` are the
    points of the curve fitted to all of them.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    split: str
    method: Literal["isotonic", "temperature"]
    photos: int
    words: int
    right: float
    error_before: float
    error_after: float
    probability: tuple[float, ...]
    confidence: tuple[float, ...]
    bins_before: tuple[Bin, ...]
    bins_after: tuple[Bin, ...]


def outcomes(
    said: Mapping[str, Said], references: Mapping[str, Sequence[str]], language: Language = ENGLISH
) -> Outcomes:
    """Every word that was said, and whether a reference of the photo has it."""
    rows: list[tuple[float, bool, int]] = []
    for number, (image_id, caption) in enumerate(said.items()):
        known = {word for reference in references[image_id] for word in words_of(reference, language)}
        rows += [
            (word.confidence, bool(known.intersection(words_of(word.text, language))), number)
            for word in caption.words
        ]
    table = np.array(rows, np.float64)
    return Outcomes(table[:, 0], table[:, 1], table[:, 2].astype(np.int64))


def bins(confidence: Floats, right: Floats, count: int) -> tuple[Bin, ...]:
    """Words by confidence in `count` equally wide bins; empty ones are left out."""
    which = np.minimum((confidence * count).astype(np.int64), count - 1)
    return tuple(
        Bin(
            words=int((which == i).sum()),
            confidence=float(confidence[which == i].mean()),
            right=float(right[which == i].mean()),
        )
        for i in range(count)
        if (which == i).any()
    )


def expected_error(binned: Sequence[Bin]) -> float:
    """The expected calibration error of binned words."""
    total = sum(one.words for one in binned)
    return sum(one.words * abs(one.confidence - one.right) for one in binned) / total


def calibrate(  # noqa: PLR0917
    model: str,
    split: str,
    said: Mapping[str, Said],
    references: Mapping[str, Sequence[str]],
    parameters: CalibrationParameters,
    language: Language = ENGLISH,
) -> CalibrationReport:
    """Fits a curve to the words of a split, and tells how well it does on photos it has not seen."""
    words = outcomes(said, references, language)
    after = _cross_validated(words, parameters)
    bins_before = bins(words.probability, words.right, parameters.bins)
    bins_after = bins(after, words.right, parameters.bins)
    curve = _fit(words, parameters.method)
    return CalibrationReport(
        model=model,
        split=split,
        method=parameters.method,
        photos=len(said),
        words=len(words.right),
        right=float(words.right.mean()),
        error_before=expected_error(bins_before),
        error_after=expected_error(bins_after),
        probability=tuple(round(float(x), 5) for x in curve[0]),
        confidence=tuple(round(float(y), 5) for y in curve[1]),
        bins_before=bins_before,
        bins_after=bins_after,
    )


def as_calibration(report: CalibrationReport) -> "Calibration":
    """The curve in the form that a bundle keeps."""
    from captionloop.captioner.captioner import Calibration

    return Calibration(probability=report.probability, confidence=report.confidence)


def _cross_validated(words: Outcomes, parameters: CalibrationParameters) -> Floats:
    fold = words.photo % min(parameters.folds, int(words.photo.max()) + 1)
    if fold.max() == 0:
        return np.interp(words.probability, *_fit(words, parameters.method))
    calibrated = np.empty_like(words.probability)
    for held_out in range(int(fold.max()) + 1):
        curve = _fit(words.where(fold != held_out), parameters.method)
        calibrated[fold == held_out] = np.interp(words.probability[fold == held_out], *curve)
    return calibrated


def _fit(words: Outcomes, method: str) -> tuple[Floats, Floats]:
    return _isotonic(words) if method == "isotonic" else _temperature(words)


def _isotonic(words: Outcomes) -> tuple[Floats, Floats]:
    """Isotonic regression (Zadrozny and Elkan 2002) over equally filled blocks of words."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(words.probability, kind="stable")
    blocks = [block for block in np.array_split(order, min(_BLOCKS, len(order))) if len(block)]
    sizes = np.array([len(block) for block in blocks], np.float64)
    probability = np.array([words.probability[block].mean() for block in blocks])
    # Half a word more on either side, so that no block is ever certain.
    right = np.array([(words.right[block].sum() + 0.5) / (len(block) + 1) for block in blocks])
    return probability, np.asarray(isotonic_regression(right, weights=sizes).x, np.float64)


def _temperature(words: Outcomes) -> tuple[Floats, Floats]:
    """A slope and an offset of the log-odds that make the right words likeliest (Platt 1999)."""
    from scipy.optimize import minimize
    from scipy.special import expit

    odds = _log_odds(words.probability)

    def surprise(parameters: Floats) -> float:
        logits = np.exp(parameters[0]) * odds + parameters[1]
        return float(np.mean(np.logaddexp(0, logits) - words.right * logits))

    slope, offset = minimize(surprise, np.zeros(2), method="Nelder-Mead").x
    grid = np.linspace(0, 1, _KNOTS)
    return grid, np.asarray(expit(np.exp(slope) * _log_odds(grid) + offset))


def _log_odds(probability: Floats) -> Floats:
    clipped = np.clip(probability, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
