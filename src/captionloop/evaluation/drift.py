"""Drift: does what is served still look like what the served version learnt from and was evaluated on.

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
    """What is large enough to matter, and what is too little to tell."""

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
    """One thing that was looked at. `value` is None where there was too little to tell."""

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
    """Served traffic against the reference.

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
    told = any(signal.value is not None for signal in signals)
    sentence = f"Drift in {', '.join(found)}." if found else "No drift." if told else "Too little to tell."
    return DriftReport(signals=signals, drifted=bool(found), sentence=sentence)


def nearest_photos(
    served: Traffic, reference: Traffic, limits: DriftLimits, seed: int
) -> NDArray[np.float32]:
    """The embeddings of taught photos that are most like those served.

    Taught were the corpus and, to some versions, photos of the feedback. In which proportion people send one
    and the other is no drift: what is like the corpus, like the feedback, or like as many of each was learnt.
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
    ours: NDArray[np.float64],
    corpus: NDArray[np.float64],
    feedback: NDArray[np.float64],
    limits: DriftLimits,
) -> NDArray[np.float64]:
    from scipy.stats import ks_2samp

    known = _mixtures(ours, corpus, feedback, limits)
    return known[0] if len(known) == 1 else min(known, key=lambda them: float(ks_2samp(ours, them).statistic))


def _mixtures(
    ours: NDArray[Any], corpus: NDArray[Any], feedback: NDArray[Any], limits: DriftLimits
) -> tuple[NDArray[Any], ...]:
    """The corpus, the feedback, and as many of each; the corpus alone where one is too little to tell."""
    if min(len(corpus), len(feedback), len(ours)) < limits.fewest:
        return (corpus,)
    size = min(len(corpus), len(feedback))
    return corpus, feedback, np.concatenate([corpus[:size], feedback[:size]])


def two_sample_auc(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], seed: int
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """AUC of a linear classifier between two samples, and the scores of each, all from held-out folds.

    Fisher's linear discriminant with a shrunken covariance: it needs no tuning, and on two samples of one
    distribution its cross-validated AUC is 0.5 up to chance.
    """
    data = np.concatenate([ours, theirs]).astype(np.float64)
    label = np.arange(len(data)) < len(ours)
    fold = _folds(label, seed)
    scores = np.zeros(len(data))
    for held in range(FOLDS):
        train, test = fold != held, fold == held
        direction, offset = _discriminant(data[train & label], data[train & ~label])
        scores[test] = data[test] @ direction - offset
    return auc(scores[label], scores[~label]), scores[label], scores[~label]


def auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Chance that one of the first scores higher than one of the second."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative)))


def hardly_seen(
    texts: Sequence[str], known: Counter[str], rare: int, language: Language = ENGLISH
) -> tuple[Counter[str], int]:
    """Words of the texts that occur less than `rare` times in training, and the number of all words."""
    words = [word for text in texts for word in word_tokens(text, language)]
    return Counter(word for word in words if known[word] < rare), len(words)


def _photos(ours: NDArray[np.float32], theirs: NDArray[np.float32], limits: DriftLimits, seed: int) -> Signal:
    if min(len(ours), len(theirs)) < limits.fewest:
        return _silent("photos", limits.photos, len(ours), "captioned photos", limits)
    value, _, _ = two_sample_auc(ours, theirs, seed)
    # Where nothing differs, an AUC of two samples strays by this much (Mann and Whitney 1947).
    spread = np.sqrt((len(ours) + len(theirs) + 1) / (12 * len(ours) * len(theirs)))
    limit = max(limits.photos, 0.5 + _one_sided(limits.level) * float(spread))
    drifted = value > limit
    verdict = "are not like" if drifted else "are like"
    return Signal(
        name="photos", value=round(value, 4), limit=round(limit, 4), drifted=drifted,
        sentence=f"People's photos {verdict} those of training: a classifier tells them apart with AUC "
        f"{value:.2f} (0.50 is a coin, the limit is {limit:.2f}).",
    )  # fmt: skip


def _confidence(ours: NDArray[np.float64], theirs: NDArray[np.float64], limits: DriftLimits) -> Signal:
    if min(len(ours), len(theirs)) < limits.fewest:
        return _silent("confidence", limits.confidence, len(ours), "served captions", limits)
    value, drifted = _distance(ours, theirs, limits.confidence, limits.level)
    now, then = float(np.median(ours)), float(np.median(theirs))
    verdict = ("less sure than" if now < then else "surer than") if drifted else "as sure as"
    return Signal(
        name="confidence", value=value, limit=limits.confidence, drifted=drifted,
        sentence=f"The model is {verdict} at its evaluation: the median confidence of a caption is "
        f"{now:.2f}, it was {then:.2f}.",
    )  # fmt: skip


def _length(ours: NDArray[np.float64], theirs: NDArray[np.float64], limits: DriftLimits) -> Signal:
    if min(len(ours), len(theirs)) < limits.fewest:
        return _silent("length", limits.length, len(ours), "served captions", limits)
    value, drifted = _distance(ours, theirs, limits.length, limits.level)
    now, then = float(np.mean(ours)), float(np.mean(theirs))
    verdict = ("shorter than" if now < then else "longer than") if drifted else "as long as"
    return Signal(
        name="length", value=value, limit=limits.length, drifted=drifted,
        sentence=f"Captions are {verdict} at the evaluation: {now:.1f} words on average, {then:.1f} then.",
    )  # fmt: skip


def _words(  # noqa: PLR0917
    ours: Sequence[str],
    theirs: Sequence[str],
    known: Counter[str],
    limits: DriftLimits,
    rare: int,
    language: Language,
) -> Signal:
    from scipy.stats import fisher_exact

    new, said = hardly_seen(ours, known, rare, language)
    usual, compared = hardly_seen(theirs, known, rare, language)
    if min(said, compared) < limits.fewest:
        return _silent("words", limits.words, said, "words in corrections", limits)
    count, expected = new.total(), usual.total() / compared
    value = count / said - expected
    table = np.array([[count, said - count], [usual.total(), compared - usual.total()]])
    drifted = value > limits.words and fisher_exact(table, alternative="greater").pvalue < limits.level
    most = ", ".join(word for word, _ in new.most_common(5))
    named = f" Most often: {most}." if most else ""
    return Signal(
        name="words", value=round(value, 4), limit=limits.words, drifted=bool(drifted),
        sentence=f"{100 * count / said:.0f} % of the words that people write in corrections are hardly known "
        f"from training; {100 * expected:.0f} % is usual.{named}",
    )  # fmt: skip


def _ratings(ours: NDArray[np.float64], before: NDArray[np.float64], limits: DriftLimits) -> Signal:
    from scipy.stats import mannwhitneyu

    if min(len(ours), len(before)) < limits.fewest:
        return _silent(
            "ratings", limits.ratings, min(len(ours), len(before)), "ratings now or before", limits
        )
    value = float(before.mean() - ours.mean())
    worse = mannwhitneyu(ours, before, alternative="less").pvalue < limits.level
    drifted = bool(value > limits.ratings and worse)
    verdict = "less content than" if drifted else "as content as"
    return Signal(
        name="ratings", value=round(value, 4), limit=limits.ratings, drifted=drifted,
        sentence=f"People are {verdict} before: {ours.mean():.2f} stars on average, "
        f"{before.mean():.2f} then.",
    )  # fmt: skip


def _silent(name: Name, limit: float, count: int, what: str, limits: DriftLimits) -> Signal:
    sentence = f"Too few {what} to tell: {count}, {limits.fewest} are needed."
    return Signal(name=name, value=None, limit=limit, drifted=False, sentence=sentence)


def _distance(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], limit: float, level: float
) -> tuple[float, bool]:
    from scipy.stats import ks_2samp

    found = ks_2samp(ours, theirs)
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
    ours: NDArray[np.float64], theirs: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Direction and threshold between two samples."""
    centred = np.concatenate([ours - ours.mean(0), theirs - theirs.mean(0)])
    covariance = centred.T @ centred / len(centred)
    ridge = 0.1 * np.trace(covariance) / len(covariance) + 1e-9
    direction = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), ours.mean(0) - theirs.mean(0))
    return direction, float((ours.mean(0) + theirs.mean(0)) @ direction / 2)
