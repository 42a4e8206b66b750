"""The drift report as people read it: a page and a figure with a panel for each signal."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from captionloop.evaluation.drift import (
    DriftLimits,
    DriftReport,
    Signal,
    Traffic,
    hardly_seen,
    nearest_confidences,
    nearest_lengths,
    nearest_photos,
    separation,
)
from captionloop.evaluation.style import COLOURS, INK, MUTED, figure, fonts_for, tidy
from captionloop.language.languages import ENGLISH, Language

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOW, THEN = COLOURS[1], COLOURS[0]
TITLES = {
    "photos": "photos",
    "confidence": "confidence of captions",
    "length": "length of captions",
    "words": "words people miss",
    "ratings": "ratings",
}


def drift_page(report: DriftReport, *, window: str, version: str) -> str:
    """Markdown: a sentence and a row for each signal."""
    return "\n".join(
        [
            f"# {report.sentence}",
            "",
            f"What people sent and said {window}, compared with what version {version} learnt from and was "
            "evaluated on.",
            "",
            *(f"- {'**Drifted.** ' if signal.drifted else ''}{signal.sentence}" for signal in report.signals),
            "",
            "| signal | value | limit | |",
            "|---|---:|---:|---|",
            *(_row(signal) for signal in report.signals),
            "",
            "How each is computed, and what to do about it: docs/how-to/drift.md.",
            "",
            "![a panel for each signal](drift.png)",
            "",
        ]
    )


def _row(signal: Signal) -> str:
    value = "" if signal.value is None else f"{signal.value:.3f}"
    verdict = "**drifted**" if signal.drifted else "too little" if signal.value is None else "fine"
    return f"| {TITLES[signal.name]} | {value} | {signal.limit:.3f} | {verdict} |"


def drift_figure(  # noqa: PLR0917 - what `compare` was given
    report: DriftReport,
    served: Traffic,
    before: NDArray[np.float64],
    reference: Traffic,
    known: Counter[str],
    limits: DriftLimits = DriftLimits(),  # noqa: B008 - frozen
    *,
    rare: int = 3,
    seed: int = 0,
    language: Language = ENGLISH,
) -> "Figure":
    """What `compare` compared, a panel for each signal; one with too little to show stays empty."""
    drawn = figure(16, 3.6)
    panels = dict(zip(TITLES, drawn.subplots(1, len(TITLES)), strict=True))
    silent = {signal.name for signal in report.signals if signal.value is None}
    if "photos" not in silent:
        photos = nearest_photos(served, reference, limits, seed)
        _, ours, theirs = separation(served.embeddings, photos, seed)
        _two(panels["photos"], ours, theirs, np.histogram_bin_edges(np.concatenate([ours, theirs]), 24))
    if "confidence" not in silent:
        usual = nearest_confidences(served, reference, limits)
        _two(panels["confidence"], served.confidences, usual, np.linspace(0, 1, 21))
    if "length" not in silent:
        usual = nearest_lengths(served, reference, limits)
        longest = int(max(served.lengths.max(), usual.max()))
        _two(panels["length"], served.lengths, usual, np.arange(longest + 2) - 0.5)
    if "words" not in silent:
        new, _ = hardly_seen(served.texts, known, rare, language)
        words = new.most_common(8)[::-1]
        with fonts_for(word for word, _ in words) as drawable:
            names = [drawable(word) for word, _ in words]
            panels["words"].barh(range(len(names)), [count for _, count in words], color=NOW)
            panels["words"].set_yticks(range(len(names)), names)
    if "ratings" not in silent:
        _two(panels["ratings"], served.stars, before, np.arange(1, 7) - 0.5)
    labels = {
        "photos": "score of the classifier",
        "confidence": "confidence",
        "length": "words",
        "words": "times in corrections",
        "ratings": "stars",
    }
    for signal in report.signals:
        panel = panels[signal.name]
        mark = " (drifted)" if signal.drifted else ""
        tidy(panel, title=f"{TITLES[signal.name]}{mark}", x=labels[signal.name])
        if signal.value is None:
            panel.text(0.5, 0.5, "too little to tell", ha="center", transform=panel.transAxes, color=MUTED)
    panels["photos"].set_ylabel("share", color=INK, fontsize=9.5)
    drawn.legend(
        handles=_handles(), loc="outside lower center", ncols=2, frameon=False, fontsize=9, labelcolor=INK
    )
    return drawn


def _handles() -> list[Any]:
    from matplotlib.patches import Patch

    return [
        Patch(color=THEN, alpha=0.55, label="training and evaluation (ratings: the time before)"),
        Patch(color=NOW, alpha=0.55, label="people, in this window"),
    ]


def _two(panel: "Axes", ours: NDArray[np.float64], theirs: NDArray[np.float64], edges: NDArray[Any]) -> None:
    for values, paint in ((theirs, THEN), (ours, NOW)):
        weights = np.full(len(values), 1 / len(values))
        panel.hist(values, edges.tolist(), weights=weights, color=paint, alpha=0.55)
