"""The drift report as Markdown and figure, and the reference traffic that served traffic is compared with."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from captionloop.errors import CorpusError, ImageError
from captionloop.evaluation.drift import (
    DriftLimits,
    DriftParameters,
    DriftReport,
    Signal,
    nearest_confidences,
    nearest_lengths,
    nearest_photos,
    rare_words,
    two_sample_auc,
)
from captionloop.evaluation.evaluation_set import EvaluationSet
from captionloop.evaluation.figures import COLOURS, INK, MUTED, figure, fonts_for, style_axes
from captionloop.languages import ENGLISH, Language
from captionloop.photos import PhotoFolder
from captionloop.ratings.reader import Traffic
from captionloop.tokenizer import word_tokens
from captionloop.vision.embedding import SIZE, embed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from captionloop.captioner.captioner import Caption, Captioner

BATCH = 32


def reference_traffic(
    captioner: "Captioner",
    images: pd.DataFrame,
    evaluated: EvaluationSet,
    photos: PhotoFolder,
    parameters: DriftParameters,
) -> Traffic:
    """Embeddings of training photos; confidences, lengths and references of photos held out from training.

    Confidences are those of the captioner as it is served: on photos it has learnt by heart they would be too
    high to be compared with.
    """
    train = images.loc[(images["split"] == "train") & (images["source"] == "corpus"), "uri"]
    chosen = train.sample(min(parameters.reference_photos, len(train)), random_state=parameters.seed)
    sample = list(zip(evaluated.image_ids, evaluated.uris, strict=True))[: parameters.reference_photos]
    captions = [
        captioned.best
        for start in range(0, len(sample), BATCH)
        for captioned in captioner.caption([photos.read(uri) for _, uri in sample[start : start + BATCH]])
    ]
    return Traffic(
        embeddings=_embed_photos(captioner, photos, [str(uri) for uri in chosen]),
        confidences=np.array([caption.confidence for caption in captions], np.float64),
        lengths=_lengths(captioner, captions),
        texts=tuple(text for image_id, _ in sample for text in evaluated.references[image_id]),
    )


def feedback_traffic(
    captioner: "Captioner",
    trained: Sequence[str],
    held_out: Sequence[str],
    archive: PhotoFolder,
    parameters: DriftParameters,
) -> Traffic:
    """Embeddings of the feedback's training photos; confidences and lengths of captions of its held-out
    photos.

    Where too few were held out, the captions are those of the training photos: these are as long, and more
    confident, so that captions that are less so still stand out.
    """
    trained_results = captioner.caption_arrays(_squares(captioner, trained, archive, parameters))
    held_out_results = captioner.caption_arrays(_squares(captioner, held_out, archive, parameters))
    embeddings = [one.embedding for one in trained_results if one.embedding is not None]
    captions = [
        one.best
        for one in (
            held_out_results if len(held_out_results) >= parameters.limits.fewest else trained_results
        )
    ]
    return Traffic(
        embeddings=np.stack(embeddings) if embeddings else np.zeros((0, SIZE), np.float32),
        confidences=np.array([caption.confidence for caption in captions], np.float64),
        lengths=_lengths(captioner, captions),
    )


def _lengths(captioner: "Captioner", captions: "Sequence[Caption]") -> NDArray[np.float64]:
    language = captioner.tokenizer.language
    return np.array([len(word_tokens(caption.text, language)) for caption in captions], np.float64)


def _squares(
    captioner: "Captioner", uris: Sequence[str], archive: PhotoFolder, parameters: DriftParameters
) -> NDArray[np.uint8]:
    """Prepared photos `[n, S, S, 3]`, some of them where there are many.

    Those whose retention has ended are not in the archive any more, and left out.
    """
    squares: list[NDArray[np.uint8]] = []
    for uri in np.random.default_rng(parameters.seed).permutation(np.array(uris, dtype=object)):
        if len(squares) == parameters.reference_photos:
            break
        try:
            squares.append(captioner.prepare(archive.read(uri)))
        except (CorpusError, ImageError):
            continue
    return np.stack(squares) if squares else np.zeros((0, 1, 1, 3), np.uint8)


def _embed_photos(captioner: "Captioner", photos: PhotoFolder, uris: Sequence[str]) -> NDArray[np.float32]:
    return np.concatenate(
        [
            _embed_squares(
                captioner, [captioner.prepare(photos.read(uri)) for uri in uris[start : start + BATCH]]
            )
            for start in range(0, len(uris), BATCH)
        ]
    )


def _embed_squares(captioner: "Captioner", squares: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    import torch

    grids = torch.as_tensor(captioner.runtime.encode(np.stack(squares)))
    return embed(grids.float().mean(1).cpu().numpy())


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
    fig = figure(16, 3.6)
    panels = dict(zip(TITLES, fig.subplots(1, len(TITLES)), strict=True))
    silent = {signal.name for signal in report.signals if signal.value is None}
    if "photos" not in silent:
        photos = nearest_photos(served, reference, limits, seed)
        _, served_scores, reference_scores = two_sample_auc(served.embeddings, photos, seed)
        _draw_histograms(
            panels["photos"],
            served_scores,
            reference_scores,
            np.histogram_bin_edges(np.concatenate([served_scores, reference_scores]), 24),
        )
    if "confidence" not in silent:
        usual = nearest_confidences(served, reference, limits)
        _draw_histograms(panels["confidence"], served.confidences, usual, np.linspace(0, 1, 21))
    if "length" not in silent:
        usual = nearest_lengths(served, reference, limits)
        longest = int(max(served.lengths.max(), usual.max()))
        _draw_histograms(panels["length"], served.lengths, usual, np.arange(longest + 2) - 0.5)
    if "words" not in silent:
        rare_counts, _ = rare_words(served.texts, known, rare, language)
        words = rare_counts.most_common(8)[::-1]
        with fonts_for(word for word, _ in words) as drawable:
            names = [drawable(word) for word, _ in words]
            panels["words"].barh(range(len(names)), [count for _, count in words], color=NOW)
            panels["words"].set_yticks(range(len(names)), names)
    if "ratings" not in silent:
        _draw_histograms(panels["ratings"], served.stars, before, np.arange(1, 7) - 0.5)
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
        style_axes(panel, title=f"{TITLES[signal.name]}{mark}", x=labels[signal.name])
        if signal.value is None:
            panel.text(0.5, 0.5, "too little to tell", ha="center", transform=panel.transAxes, color=MUTED)
    panels["photos"].set_ylabel("share", color=INK, fontsize=9.5)
    fig.legend(
        handles=_handles(), loc="outside lower center", ncols=2, frameon=False, fontsize=9, labelcolor=INK
    )
    return fig


def _handles() -> list[Any]:
    from matplotlib.patches import Patch

    return [
        Patch(color=THEN, alpha=0.55, label="training and evaluation (ratings: the time before)"),
        Patch(color=NOW, alpha=0.55, label="people, in this window"),
    ]


def _draw_histograms(
    panel: "Axes", served: NDArray[np.float64], reference: NDArray[np.float64], edges: NDArray[Any]
) -> None:
    for values, paint in ((reference, THEN), (served, NOW)):
        weights = np.full(len(values), 1 / len(values))
        panel.hist(values, edges.tolist(), weights=weights, color=paint, alpha=0.55)
