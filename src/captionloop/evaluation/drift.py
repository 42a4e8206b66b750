"""Drift detection: served traffic against the data that the served version was trained and evaluated on.

Five signals, each a number with a limit and a sentence. A signal has drifted only if it is both certain (a
test at the 1 % level) and large enough to matter; with too little to go by, it says so and has not.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from captionloop.languages import ENGLISH, Language
from captionloop.ratings.reader import Traffic
from captionloop.tokenizer import word_tokens

Share = Annotated[float, Field(ge=0, le=1)]
Name = Literal["photos", "confidence", "length", "words", "ratings"]
FOLDS = 5


class DriftLimits(BaseModel):
    """Thresholds of the drift signals, and the sample size that each needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fewest: Annotated[int, Field(ge=2)] = 30
    """Photos, captions, words or ratings, with fewer of which a signal stays silent."""
    level: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Of the tests: how often a signal may speak up although nothing has changed."""
    photos: Share = 0.65
    """AUC with which a classifier tells people's photos from training photos; 0.5 is a coin."""
    confidence: Share = 0.2
    """Kolmogorov-Smirnov distance between the confidences of served and of evaluated captions."""
    length: Share = 0.2
    """The same of their lengths in words."""
    words: Share = 0.05
    """Words of corrections that training has hardly seen, beyond the share that references have."""
    ratings: Annotated[float, Field(gt=0, le=4)] = 0.5
    """Stars that the mean may fall against the time before."""


class DriftParameters(BaseModel):
    """All of `params:drift`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: Annotated[float, Field(gt=0)] = 7
    """How far the window reaches back."""
    before_days: Annotated[float, Field(gt=0)] = 28
    """The time before the window, with whose ratings those in it are compared."""
    max_rows: Annotated[int, Field(ge=100)] = 5000
    """Captions and ratings that are read, the newest."""
    reference_photos: Annotated[int, Field(ge=10)] = 300
    """Photos of training, and of the evaluation set, that stand for the time before."""
    rare: Annotated[int, Field(ge=1)] = 3
    """Words that training has less often count as hardly known."""
    seed: int = 0
    limits: DriftLimits = DriftLimits()


class Signal(BaseModel):
    """One drift measurement. `value` is None where the sample was too small."""

    model_config = ConfigDict(frozen=True)

    name: Name
    value: float | None
    limit: float
    drifted: bool
    sentence: str


class DriftReport(BaseModel):
    """All signals, and whether any has drifted."""

    model_config = ConfigDict(frozen=True)

    signals: tuple[Signal, ...]
    drifted: bool
    sentence: str


def compare(
    served: Traffic,
    before: NDArray[np.float64],
    reference: Traffic,
    known: Counter[str],
    limits: DriftLimits,
    *,
    rare: int = 3,
    seed: int = 0,
    language: Language = ENGLISH,
) -> DriftReport:
    """Compares served traffic with the reference, by five signals.

    `before` are the stars of the time before; `known` counts the words of the training captions, of which
    those below `rare` count as hardly seen.
    """
    signals = (
        _photos(served.embeddings, nearest_photos(served, reference, limits, seed), limits, seed),
        _confidence(served.confidences, nearest_confidences(served, reference, limits), limits),
        _length(served.lengths, nearest_lengths(served, reference, limits), limits),
        _words(served.texts, reference.texts, known, limits, rare, language),
        _ratings(served.stars, before, limits),
    )
    found = [signal.name for signal in signals if signal.drifted]
    is_measured = any(signal.value is not None for signal in signals)
    sentence = (
        f"Drift in {', '.join(found)}." if found else "No drift." if is_measured else "Too little to tell."
    )
    return DriftReport(signals=signals, drifted=bool(found), sentence=sentence)


def nearest_photos(
    served: Traffic, reference: Traffic, limits: DriftLimits, seed: int
) -> NDArray[np.float32]:
    """The embeddings of training photos that are most like those served.

    Trained on were the corpus and, to some versions, photos of the feedback. In which proportion people send
    one and the other is no drift: what is like the corpus, like the feedback, or like as many of each was
    learnt.
    """
    feedback = (reference.from_feedback or Traffic()).embeddings
    known = _mixtures(served.embeddings, reference.embeddings, feedback, limits)
    if len(known) == 1:
        return known[0]
    return min(known, key=lambda photos: two_sample_auc(served.embeddings, photos, seed)[0])


def nearest_confidences(served: Traffic, reference: Traffic, limits: DriftLimits) -> NDArray[np.float64]:
    """The confidences that are most like those served: at the evaluation, on feedback, or on as many of each.

    Whoever sends what was learnt from feedback gets captions as confident as those, and that is no drift.
    """
    feedback = (reference.from_feedback or Traffic()).confidences
    return _nearest(served.confidences, reference.confidences, feedback, limits)


def nearest_lengths(served: Traffic, reference: Traffic, limits: DriftLimits) -> NDArray[np.float64]:
    """As `nearest_confidences`, of the lengths of captions."""
    feedback = (reference.from_feedback or Traffic()).lengths
    return _nearest(served.lengths, reference.lengths, feedback, limits)


def _nearest(
    served: NDArray[np.float64],
    corpus: NDArray[np.float64],
    feedback: NDArray[np.float64],
    limits: DriftLimits,
) -> NDArray[np.float64]:
    from scipy.stats import ks_2samp

    known = _mixtures(served, corpus, feedback, limits)
    return (
        known[0]
        if len(known) == 1
        else min(known, key=lambda values: float(ks_2samp(served, values).statistic))
    )


def _mixtures(
    served: NDArray[Any], corpus: NDArray[Any], feedback: NDArray[Any], limits: DriftLimits
) -> tuple[NDArray[Any], ...]:
    """The corpus, the feedback, and as many of each; the corpus alone where one is too little to tell."""
    if min(len(corpus), len(feedback), len(served)) < limits.fewest:
        return (corpus,)
    size = min(len(corpus), len(feedback))
    return corpus, feedback, np.concatenate([corpus[:size], feedback[:size]])


def two_sample_auc(
    first: NDArray[np.float32], second: NDArray[np.float32], seed: int
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """AUC of a linear classifier between two samples, and the scores of each, all from held-out folds.

    Fisher's linear discriminant with a shrunken covariance: it needs no tuning, and on two samples of one
    distribution its cross-validated AUC is 0.5 up to chance.
    """
    data = np.concatenate([first, second]).astype(np.float64)
    label = np.arange(len(data)) < len(first)
    fold = _folds(label, seed)
    scores = np.zeros(len(data))
    for held_out in range(FOLDS):
        train, test = fold != held_out, fold == held_out
        direction, offset = _discriminant(data[train & label], data[train & ~label])
        scores[test] = data[test] @ direction - offset
    return auc(scores[label], scores[~label]), scores[label], scores[~label]


def auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Chance that one of the first scores higher than one of the second."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative)))


def rare_words(
    texts: Sequence[str], known: Counter[str], rare: int, language: Language = ENGLISH
) -> tuple[Counter[str], int]:
    """Words of the texts that occur less than `rare` times in training, and the number of all words."""
    words = [word for text in texts for word in word_tokens(text, language)]
    return Counter(word for word in words if known[word] < rare), len(words)


def _photos(
    served: NDArray[np.float32], reference: NDArray[np.float32], limits: DriftLimits, seed: int
) -> Signal:
    if min(len(served), len(reference)) < limits.fewest:
        return _too_few("photos", limits.photos, len(served), "captioned photos", limits)
    value, _, _ = two_sample_auc(served, reference, seed)
    # Where nothing differs, an AUC of two samples strays by this much (Mann and Whitney 1947).
    spread = np.sqrt((len(served) + len(reference) + 1) / (12 * len(served) * len(reference)))
    limit = max(limits.photos, 0.5 + _one_sided(limits.level) * float(spread))
    drifted = value > limit
    verdict = "are not like" if drifted else "are like"
    return Signal(
        name="photos", value=round(value, 4), limit=round(limit, 4), drifted=drifted,
        sentence=f"People's photos {verdict} those of training: a classifier tells them apart with AUC "
        f"{value:.2f} (0.50 is a coin, the limit is {limit:.2f}).",
    )  # fmt: skip


def _confidence(served: NDArray[np.float64], reference: NDArray[np.float64], limits: DriftLimits) -> Signal:
    if min(len(served), len(reference)) < limits.fewest:
        return _too_few("confidence", limits.confidence, len(served), "served captions", limits)
    value, drifted = _distance(served, reference, limits.confidence, limits.level)
    now, then = float(np.median(served)), float(np.median(reference))
    verdict = ("less sure than" if now < then else "surer than") if drifted else "as sure as"
    return Signal(
        name="confidence", value=value, limit=limits.confidence, drifted=drifted,
        sentence=f"The model is {verdict} at its evaluation: the median confidence of a caption is "
        f"{now:.2f}, it was {then:.2f}.",
    )  # fmt: skip


def _length(served: NDArray[np.float64], reference: NDArray[np.float64], limits: DriftLimits) -> Signal:
    if min(len(served), len(reference)) < limits.fewest:
        return _too_few("length", limits.length, len(served), "served captions", limits)
    value, drifted = _distance(served, reference, limits.length, limits.level)
    now, then = float(np.mean(served)), float(np.mean(reference))
    verdict = ("shorter than" if now < then else "longer than") if drifted else "as long as"
    return Signal(
        name="length", value=value, limit=limits.length, drifted=drifted,
        sentence=f"Captions are {verdict} at the evaluation: {now:.1f} words on average, {then:.1f} then.",
    )  # fmt: skip


def _words(  # noqa: PLR0917
    served: Sequence[str],
    reference: Sequence[str],
    known: Counter[str],
    limits: DriftLimits,
    rare: int,
    language: Language,
) -> Signal:
    from scipy.stats import fisher_exact

    rare_counts, word_count = rare_words(served, known, rare, language)
    usual_rare, reference_count = rare_words(reference, known, rare, language)
    if min(word_count, reference_count) < limits.fewest:
        return _too_few("words", limits.words, word_count, "words in corrections", limits)
    count, expected = rare_counts.total(), usual_rare.total() / reference_count
    value = count / word_count - expected
    table = np.array(
        [[count, word_count - count], [usual_rare.total(), reference_count - usual_rare.total()]]
    )
    drifted = value > limits.words and fisher_exact(table, alternative="greater").pvalue < limits.level
    frequent = ", ".join(word for word, _ in rare_counts.most_common(5))
    examples = f" Most often: {frequent}." if frequent else ""
    return Signal(
        name="words", value=round(value, 4), limit=limits.words, drifted=bool(drifted),
        sentence=f"{100 * count / word_count:.0f} % of the words that people write in corrections are hardly "
        f"known from training; {100 * expected:.0f} % is usual.{examples}",
    )  # fmt: skip


def _ratings(served: NDArray[np.float64], before: NDArray[np.float64], limits: DriftLimits) -> Signal:
    from scipy.stats import mannwhitneyu

    if min(len(served), len(before)) < limits.fewest:
        return _too_few(
            "ratings", limits.ratings, min(len(served), len(before)), "ratings now or before", limits
        )
    value = float(before.mean() - served.mean())
    worse = mannwhitneyu(served, before, alternative="less").pvalue < limits.level
    drifted = bool(value > limits.ratings and worse)
    verdict = "less content than" if drifted else "as content as"
    return Signal(
        name="ratings", value=round(value, 4), limit=limits.ratings, drifted=drifted,
        sentence=f"People are {verdict} before: {served.mean():.2f} stars on average, "
        f"{before.mean():.2f} then.",
    )  # fmt: skip


def _too_few(name: Name, limit: float, count: int, what: str, limits: DriftLimits) -> Signal:
    sentence = f"Too few {what} to tell: {count}, {limits.fewest} are needed."
    return Signal(name=name, value=None, limit=limit, drifted=False, sentence=sentence)


def _distance(
    served: NDArray[np.float64], reference: NDArray[np.float64], limit: float, level: float
) -> tuple[float, bool]:
    from scipy.stats import ks_2samp

    found = ks_2samp(served, reference)
    return round(float(found.statistic), 4), bool(found.statistic > limit and found.pvalue < level)


def _one_sided(level: float) -> float:
    from scipy.stats import norm

    return float(norm.isf(level))


def _folds(label: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """A fold for each row, both samples spread evenly."""
    generator = np.random.default_rng(seed)
    fold = np.zeros(len(label), np.int64)
    for side in (True, False):
        rows = np.flatnonzero(label == side)
        fold[rows] = generator.permutation(np.arange(len(rows)) % FOLDS)
    return fold


def _discriminant(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Direction and threshold between two samples."""
    centred = np.concatenate([first - first.mean(0), second - second.mean(0)])
    covariance = centred.T @ centred / len(centred)
    ridge = 0.1 * np.trace(covariance) / len(covariance) + 1e-9
    direction = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), first.mean(0) - second.mean(0))
    return direction, float((first.mean(0) + second.mean(0)) @ direction / 2)
