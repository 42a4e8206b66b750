"""`evaluation.json` and `evaluation.md`: metrics with their intervals, and how the systems compare."""

from collections.abc import Mapping, Sequence
from typing import Any

from captionloop.evaluation.evaluation_set import EvaluationSet, PublishedRow
from captionloop.evaluation.predictions import Predictions, all_systems, diversity
from captionloop.languages import ENGLISH, language_of
from captionloop.scoring.bootstrap import bootstrap, paired_bootstrap
from captionloop.scoring.scores import METRICS, Scores, left_out

PRIMARY = "CIDEr"


def evaluation_report(
    photos: EvaluationSet,
    predictions: Sequence[Predictions],
    scores: Mapping[str, Scores],
    training_captions: Sequence[str],
    *,
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """The report, the same to the last digit whenever the captions are the same.

    Args:
        photos: what was captioned.
        predictions: of each model.
        scores: of every system of these models.
        training_captions: all of them, for `diversity`.
        seed: of all intervals.
        resamples: of all intervals.

    Returns:
        `{split, language, photos, models: {system: {metric: {value, low, high}}}, decodings, comparisons}`:
        values as fractions, beside the metrics also those of `diversity`; `decodings[system]` in words;
        `comparisons`: each model against the best by CIDEr, in their own decoding. A metric that does not
        know the language is absent.
    """
    systems = all_systems(predictions)
    vocabularies = {name: one.vocabulary for one in predictions for name in one.systems()}
    models = {}
    for name, captions in systems.items():
        intervals = bootstrap(scores[name], seed=seed, resamples=resamples)
        intervals |= diversity(
            captions,
            training_captions,
            vocabularies[name],
            seed=seed,
            resamples=resamples,
            language=photos.reference_language,
        )
        models[name] = {metric: interval.to_dict() for metric, interval in intervals.items()}
    return {
        "split": photos.split,
        "language": photos.language,
        "photos": len(photos.image_ids),
        "models": models,
        "decodings": {
            name: decoding
            for one in predictions
            for name, decoding in zip(one.systems(), (one.beam, "greedy"), strict=True)
        },
        "comparisons": _comparisons([one.model for one in predictions], scores, seed, resamples),
    }


def _comparisons(
    models: Sequence[str], scores: Mapping[str, Scores], seed: int, resamples: int
) -> list[dict[str, Any]]:
    best = max(models, key=lambda name: scores[name].values[PRIMARY])
    comparisons = []
    for name in models:
        if name == best:
            continue
        for metric in (metric_name for metric_name in METRICS if metric_name in scores[best].metrics):
            difference = paired_bootstrap(scores[name], scores[best], metric, seed=seed, resamples=resamples)
            comparisons.append(
                {
                    "metric": metric,
                    "better": best,
                    "than": name,
                    **difference.interval.to_dict(),
                    "probability": difference.probability,
                }
            )
    return comparisons


def tracked(evaluation: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The report's metrics as an experiment tracker keeps them: `{key: {value, step}}`."""
    return {
        f"{evaluation['split']}.{system}.{metric}": {"value": float(interval["value"]), "step": 0}
        for system, metrics in evaluation["models"].items()
        for metric, interval in metrics.items()
    }


_SHORT = {"BLEU-1": "B-1", "BLEU-2": "B-2", "BLEU-3": "B-3", "BLEU-4": "B-4"}
_DIVERSITY = {
    "length": ("words a caption", 1, "{:.1f}"),
    "distinct_words": ("distinct words", 1, "{:.0f}"),
    "vocabulary_used": ("of its vocabulary", 100, "{:.0f} %"),
    "distinct_captions": ("distinct captions", 100, "{:.0f} %"),
    "unseen": ("unseen in training", 100, "{:.0f} %"),
}


def evaluation_table(
    evaluation: Mapping[str, Any],
    *,
    reference_points: Sequence[PublishedRow] = (),
    published: Sequence[PublishedRow] = (),
) -> str:
    """The report as Markdown: systems by metrics, x100, beside published rows; diversity; comparisons."""
    photos, split = evaluation["photos"], evaluation["split"]
    sections = [
        f"# Evaluation on `{split}` ({photos:,} photos)",
        _method(evaluation),
        _metrics_table(evaluation),
    ]
    if reference_points:
        sections += ["## What a number means", _rows_table(reference_points, "captions")]
    if published:
        sections += ["## Published", _rows_table(published, "model")]
    if {row.split for row in (*reference_points, *published)} - {split}:
        sections.append(
            f"These rows are of other photos than ours (`{split}`), and so a guide, not a ranking."
        )
    sections += ["## What the captions are like", _diversity_table(evaluation)]
    if evaluation["comparisons"]:
        sections += ["## Which is better", _comparison_table(evaluation["comparisons"])]
    return "\n\n".join(sections) + "\n"


def _method(evaluation: Mapping[str, Any]) -> str:
    method = "x100, with 95 % bootstrap intervals over the photos; pycocoevalcap"
    language = language_of(evaluation.get("language", ENGLISH.code))
    if language == ENGLISH:
        return f"{method}, Penn Treebank tokenizer."
    cut = "words" if language.is_spaced else "characters"
    return (
        f"{method}, {language.name} in {cut} (docs/languages.md). Without"
        f" {', '.join(left_out(language))}, which is of English only."
    )


def label(system: str, evaluation: Mapping[str, Any]) -> str:
    """The label of a system in tables: "show_attend_tell, beam 5"."""
    return f"{system.removesuffix('.greedy')}, {evaluation['decodings'][system]}"


def _metrics_table(evaluation: Mapping[str, Any]) -> str:
    models = evaluation["models"]
    shown = [
        metric
        for metric in (*METRICS, "SPICE", "CLIPScore")
        if all(metric in metrics for metrics in models.values())
    ]
    ordered = sorted(models, key=lambda name: -models[name]["CIDEr"]["value"])
    best = {metric: max(models[name][metric]["value"] for name in models) for metric in shown}
    rows = [
        [label(name, evaluation), *(_value(models[name][metric], best[metric]) for metric in shown)]
        for name in ordered
    ]
    return _markdown(["model", *(_SHORT.get(metric, metric) for metric in shown)], rows)


def _value(interval: Mapping[str, float], best: float) -> str:
    value = f"{100 * interval['value']:.1f}"
    if interval["value"] == best:
        value = f"**{value}**"
    return f"{value} ({100 * interval['low']:.1f} to {100 * interval['high']:.1f})"


def _rows_table(rows: Sequence[PublishedRow], what: str) -> str:
    cells = [
        [row.name, *(f"{row.values[metric]:g}" if metric in row.values else "" for metric in METRICS)]
        for row in rows
    ]
    return _markdown(
        [f"{what} (`{rows[0].split}`)", *(_SHORT.get(metric, metric) for metric in METRICS)], cells
    )


def _diversity_table(evaluation: Mapping[str, Any]) -> str:
    rows = [
        [
            label(name, evaluation),
            *(form.format(scale * metrics[key]["value"]) for key, (_, scale, form) in _DIVERSITY.items()),
        ]
        for name, metrics in evaluation["models"].items()
    ]
    return _markdown(["model", *(name for name, _, _ in _DIVERSITY.values())], rows)


def _comparison_table(comparisons: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{one['better']} over {one['than']}",
            _SHORT.get(one["metric"], one["metric"]),
            f"{100 * one['value']:+.1f} ({100 * one['low']:+.1f} to {100 * one['high']:+.1f})",
            f"{100 * one['probability']:.1f} %",
        ]
        for one in comparisons
    ]
    note = (
        "Paired bootstrap, both models on the same resampled photos; the last column: how often it is better."
    )
    return f"{note}\n\n{_markdown(['', 'metric', 'difference', 'better in'], rows)}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
