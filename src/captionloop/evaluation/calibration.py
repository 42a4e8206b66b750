"""Calibration of confidences: predictions and references in, calibration curves and their errors out.

A caption is accepted that names hardly anything that nobody named: whose words, each counted as it is rare,
people said of this photo, too, in a larger share than other people did of a person's own caption in the mean.
People agree about some corpora more than about others, and are asked less where they do: it is one measure
for every corpus and language.

CIDEr will not do: a caption that names a kite where there is a balloon is in all else as people say it. Of
1,000 generated scenes, whose facts are known, this measure was right about 915, and two thirds was the best
that CIDEr did with what is asked elsewhere (`benchmarks.reliability`).

A word counts as right when any reference of the photo has it. That asks less than a correct caption does
(word order is ignored, and a true word that no one happened to write counts as wrong), but it can be told for
every word without a person looking. A caption counts as right when a person would accept it
(`acceptance.py`); its confidence is fitted to the sureness that those in its words come to: by references
first, then, where enough captions were rated, by what people said of these.

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

from captionloop.captioner.model_config import sureness
from captionloop.evaluation.evaluation_set import CalibrationParameters
from captionloop.evaluation.predictions import PredictedCaption
from captionloop.languages import ENGLISH, Language
from captionloop.scoring.ngrams import Rarity
from captionloop.tokenizer import word_tokens

if TYPE_CHECKING:
    import pandas as pd

    from captionloop.captioner.model_config import Calibration


def acceptable(
    captions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    threshold: float,
    language: Language = ENGLISH,
) -> NDArray[np.float64] | None:
    """For each caption 1 where a person would accept it, else 0.

    None where that cannot be told: where not every photo was described by two people at least, or there is
    one photo only.

    Args:
        captions: one caption of each photo.
        references: what people said of these photos.
        threshold: how much of a caption people must have said too, as a multiple of the mean of their own.
        language: of all of them.
    """
    described = {photo: references[photo] for photo in captions}
    if len(described) < 2 or min(map(len, described.values())) < 2:
        return None
    rarity = Rarity(described.values(), language)
    human_support = np.mean(
        [
            rarity.support(text, [*texts[:place], *texts[place + 1 :]])
            for texts in described.values()
            for place, text in enumerate(texts)
        ]
    )
    support = np.array([rarity.support(captions[photo], texts) for photo, texts in described.items()])
    # What people said word for word is enough, however much they agree.
    return (support >= min(1.0, threshold * human_support)).astype(np.float64)


Floats = NDArray[np.float64]

_BLOCKS = 40  # equally filled, for isotonic regression: few, so that it cannot learn words by heart
_KNOTS = 41  # points of a temperature curve
_MIN_SURENESS = 1e-6  # sureness of a caption
_PRIOR_STRENGTH = 4.0  # ratings that it takes to be believed half as much as what references say


@dataclass(frozen=True)
class Correctness:
    """Probability, correctness (1 or 0) and photo number of each of many words, or captions."""

    probability: Floats
    right: Floats
    photo: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> "Correctness":
        """The words, or captions, that a mask chooses."""
        return Correctness(self.probability[chosen], self.right[chosen], self.photo[chosen])


class Bin(BaseModel):
    """Words, or captions, of similar confidence."""

    model_config = ConfigDict(frozen=True)

    count: int
    confidence: float
    right: float


class Acceptance(BaseModel):
    """How often captions are accepted, by their sureness; `accepted` are the curve's values at `sureness`.

    Errors and bins are of the captions as references judge them, and before and after as those of words.

    Attributes:
        captions, share: how many there were, and the share of them that a person would accept.
        ratings: how many rated captions the curve was fitted to besides; their expected calibration error
            by references alone, and with them, is `ratings_before` and `ratings_after`.
    """

    model_config = ConfigDict(frozen=True)

    captions: int
    share: float
    error_before: float
    error_after: float
    sureness: tuple[float, ...]
    accepted: tuple[float, ...]
    bins_before: tuple[Bin, ...]
    bins_after: tuple[Bin, ...]
    ratings: int = 0
    ratings_before: float | None = None
    ratings_after: float | None = None


class CalibrationReport(BaseModel):
    """`<model>.calibration`: the curves and what they are worth.

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
    acceptance: Acceptance | None = None


def word_correctness(
    predictions: Mapping[str, PredictedCaption],
    references: Mapping[str, Sequence[str]],
    language: Language = ENGLISH,
) -> Correctness:
    """Every predicted word, and whether a reference of its photo has it."""
    rows: list[tuple[float, bool, int]] = []
    for number, (image_id, caption) in enumerate(predictions.items()):
        known = {word for reference in references[image_id] for word in word_tokens(reference, language)}
        rows += [
            (word.confidence, bool(known.intersection(word_tokens(word.text, language))), number)
            for word in caption.words
        ]
    table = np.array(rows, np.float64)
    return Correctness(table[:, 0], table[:, 1], table[:, 2].astype(np.int64))


def bins(confidence: Floats, right: Floats, count: int) -> tuple[Bin, ...]:
    """Words, or captions, by confidence in `count` equally wide bins; empty ones are left out."""
    which = np.minimum((confidence * count).astype(np.int64), count - 1)
    return tuple(
        Bin(
            count=int((which == i).sum()),
            confidence=float(confidence[which == i].mean()),
            right=float(right[which == i].mean()),
        )
        for i in range(count)
        if (which == i).any()
    )


def expected_error(binned: Sequence[Bin]) -> float:
    """The expected calibration error of binned words or captions."""
    total = sum(one.count for one in binned)
    return sum(one.count * abs(one.confidence - one.right) for one in binned) / total


def calibrate(  # noqa: PLR0917
    model: str,
    split: str,
    predictions: Mapping[str, PredictedCaption],
    references: Mapping[str, Sequence[str]],
    parameters: CalibrationParameters,
    language: Language = ENGLISH,
    rated: "pd.DataFrame | None" = None,
) -> CalibrationReport:
    """Fits curves to the words and captions of a split, and tells how well they do on photos not seen.

    `rated` are captions that people have rated (columns `sureness`, `accepted`), of whichever version.
    """
    words = word_correctness(predictions, references, language)
    after = _cross_validated(words, parameters.folds, parameters.method)
    bins_before = bins(words.probability, words.right, parameters.bins)
    bins_after = bins(after, words.right, parameters.bins)
    curve = _fit(words, parameters.method)
    return CalibrationReport(
        model=model,
        split=split,
        method=parameters.method,
        photos=len(predictions),
        words=len(words.right),
        right=float(words.right.mean()),
        error_before=expected_error(bins_before),
        error_after=expected_error(bins_after),
        probability=tuple(round(float(x), 5) for x in curve[0]),
        confidence=tuple(round(float(y), 5) for y in curve[1]),
        bins_before=bins_before,
        bins_after=bins_after,
        acceptance=_acceptance(predictions, references, words, (after, curve), parameters, language, rated),
    )


def as_calibration(report: CalibrationReport) -> "Calibration":
    """The curves in the form that a bundle keeps."""
    from captionloop.captioner.model_config import Calibration

    captions = report.acceptance
    return Calibration(
        probability=report.probability,
        confidence=report.confidence,
        sureness=() if captions is None else captions.sureness,
        accepted=() if captions is None else captions.accepted,
    )


def _acceptance(  # noqa: PLR0917
    predictions: Mapping[str, PredictedCaption],
    references: Mapping[str, Sequence[str]],
    words: Correctness,
    calibrated: tuple[Floats, tuple[Floats, Floats]],
    parameters: CalibrationParameters,
    language: Language,
    rated: "pd.DataFrame | None",
) -> Acceptance | None:
    """`calibrated`: the confidences of the words on photos held out from the fit, and the curve of all."""
    captions = {image_id: one.caption for image_id, one in predictions.items()}
    accepted = acceptable(captions, references, parameters.acceptable, language)
    if accepted is None:
        return None
    held_out, curve = calibrated
    held_out_captions = _caption_sureness(held_out, words.photo, accepted)
    fitted_captions = _caption_sureness(np.interp(words.probability, *curve), words.photo, accepted)
    after = _cross_validated(held_out_captions, parameters.folds, "beta")
    reference_curve = grid, confidence = _beta(fitted_captions)
    rated_errors: dict[str, float | int] = {}
    if rated is not None and len(rated) >= parameters.least_ratings:
        sureness_values, right = (rated[name].to_numpy(np.float64) for name in ("sureness", "accepted"))
        confidence = _corrected(reference_curve, sureness_values, right)
        rated_errors = {"ratings": len(rated)}
        for name, values in (("ratings_before", reference_curve[1]), ("ratings_after", confidence)):
            rated_errors[name] = expected_error(
                bins(np.interp(sureness_values, grid, values), right, parameters.bins)
            )
    bins_before = bins(held_out_captions.probability, accepted, parameters.bins)
    bins_after = bins(after, accepted, parameters.bins)
    return Acceptance(
        captions=len(accepted),
        share=float(accepted.mean()),
        error_before=expected_error(bins_before),
        error_after=expected_error(bins_after),
        sureness=tuple(round(float(x), 8) for x in grid),
        accepted=tuple(round(float(y), 5) for y in confidence),
        bins_before=bins_before,
        bins_after=bins_after,
        **rated_errors,
    )


def _caption_sureness(confidence: Floats, photo: NDArray[np.int64], accepted: Floats) -> Correctness:
    """Sureness and correctness of captions, from the confidences of their words."""
    by_photo: list[list[float]] = [[] for _ in accepted]
    for number, value in zip(photo.tolist(), confidence.tolist(), strict=True):
        by_photo[number].append(value)
    return Correctness(np.array([sureness(words) for words in by_photo]), accepted, np.arange(len(accepted)))


def _corrected(curve: tuple[Floats, Floats], sureness_values: Floats, accepted: Floats) -> Floats:
    """The curve's values, moved by the slope and offset of their log-odds that suit what people accepted.

    A few ratings hardly move it: what references say is where it begins.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    odds = _log_odds(np.interp(sureness_values, *curve))

    def negative_log_likelihood(parameters: Floats) -> float:
        logits = np.exp(parameters[0]) * odds + parameters[1]
        penalty = _PRIOR_STRENGTH / 2 * float(parameters @ parameters)
        return float(np.sum(np.logaddexp(0, logits) - accepted * logits)) + penalty

    slope, offset = minimize(negative_log_likelihood, np.zeros(2), method="Nelder-Mead").x
    return np.asarray(expit(np.exp(slope) * _log_odds(curve[1]) + offset))


def _cross_validated(words: Correctness, folds: int, method: str) -> Floats:
    fold = words.photo % min(folds, int(words.photo.max()) + 1)
    if fold.max() == 0:
        return np.interp(words.probability, *_fit(words, method))
    calibrated = np.empty_like(words.probability)
    for held_out in range(int(fold.max()) + 1):
        curve = _fit(words.where(fold != held_out), method)
        calibrated[fold == held_out] = np.interp(words.probability[fold == held_out], *curve)
    return calibrated


def _fit(words: Correctness, method: str) -> tuple[Floats, Floats]:
    return {"isotonic": _isotonic, "temperature": _temperature, "beta": _beta}[method](words)


def _isotonic(words: Correctness) -> tuple[Floats, Floats]:
    """Isotonic regression (Zadrozny and Elkan 2002) over equally filled blocks of words."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(words.probability, kind="stable")
    blocks = [block for block in np.array_split(order, min(_BLOCKS, len(order))) if len(block)]
    sizes = np.array([len(block) for block in blocks], np.float64)
    probability = np.array([words.probability[block].mean() for block in blocks])
    # Half a word more on either side, so that no block is ever certain.
    right = np.array([(words.right[block].sum() + 0.5) / (len(block) + 1) for block in blocks])
    return probability, np.asarray(isotonic_regression(right, weights=sizes).x, np.float64)


def _temperature(words: Correctness) -> tuple[Floats, Floats]:
    """A slope and an offset of the log-odds that make the right words likeliest (Platt 1999)."""
    from scipy.optimize import minimize
    from scipy.special import expit

    odds = _log_odds(words.probability)

    def negative_log_likelihood(parameters: Floats) -> float:
        logits = np.exp(parameters[0]) * odds + parameters[1]
        return float(np.mean(np.logaddexp(0, logits) - words.right * logits))

    slope, offset = minimize(negative_log_likelihood, np.zeros(2), method="Nelder-Mead").x
    grid = np.linspace(0, 1, _KNOTS)
    return grid, np.asarray(expit(np.exp(slope) * _log_odds(grid) + offset))


def _beta(captions: Correctness) -> tuple[Floats, Floats]:
    """Beta calibration (Kull et al. 2017, equation 9): the log-odds that captions are accepted are `a` times
    the logarithm of their sureness, less `b` times that of their doubt, and an offset.

    Three numbers, for a split has hundreds of captions where it has thousands of words.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    # Never quite certain, as Platt has it: slopes are finite though all accepted ones are the surest.
    right = captions.right.sum()
    wrong = len(captions.right) - right
    target = np.where(captions.right > 0, (right + 1) / (right + 2), 1 / (wrong + 2))

    def logits(parameters: Floats, caption_sureness: Floats) -> Floats:
        clipped = np.clip(caption_sureness, _MIN_SURENESS, 1 - 1e-4)
        a, b = np.exp(parameters[:2])
        return np.asarray(a * np.log(clipped) - b * np.log1p(-clipped) + parameters[2])

    def negative_log_likelihood(parameters: Floats) -> float:
        predicted = logits(parameters, captions.probability)
        return float(np.mean(np.logaddexp(0, predicted) - target * predicted))

    best = minimize(negative_log_likelihood, np.zeros(3), method="Nelder-Mead", options={"maxiter": 2000}).x
    grid = np.geomspace(_MIN_SURENESS, 1, _KNOTS)  # long captions are all near zero, and not all alike
    return grid, np.asarray(expit(logits(best, grid)))


def _log_odds(probability: Floats) -> Floats:
    clipped = np.clip(probability, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
