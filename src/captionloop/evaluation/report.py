"""`evaluation.json`: every system's metrics with their intervals, and how the systems compare."""

from collections.abc import Mapping, Sequence
from typing import Any

from captionloop.evaluation.hypotheses import Hypotheses, all_systems
from captionloop.evaluation.split import EvaluationSet
from captionloop.evaluation.variety import variety
from captionloop.scoring.bootstrap import bootstrap, paired_bootstrap
from captionloop.scoring.scores import METRICS, Scores

PRIMARY = "CIDEr"


def evaluation_report(
    photos: EvaluationSet,
    hypotheses: Sequence[Hypotheses],
    scores: Mapping[str, Scores],
    known: Sequence[str],
    *,
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """The report, the same to the last digit whenever the captions are the same.

    Args:
        photos: what was captioned.
        hypotheses: of each model.
        scores: of every system of these models.
        known: the training captions.
        seed: of all intervals.
        resamples: of all intervals.

    Returns:
        `{split, language, photos, models: {system: {metric: {value, low, high}}}, decodings, comparisons}`:
        values as fractions, beside the metrics also those of `variety`; `decodings[system]` in words;
        `comparisons`: each model against the best by CIDEr, in their own decoding. A metric that does not
        know the language is absent.
    """
    systems = all_systems(hypotheses)
    vocabularies = {name: one.vocabulary for one in hypotheses for name in one.systems()}
    models = {}
    for name, captions in systems.items():
        intervals = bootstrap(scores[name], seed=seed, resamples=resamples)
        intervals |= variety(
            captions, known, vocabularies[name], seed=seed, resamples=resamples, language=photos.spoken
        )
        models[name] = {metric: interval.to_dict() for metric, interval in intervals.items()}
    return {
        "split": photos.split,
        "language": photos.language,
        "photos": len(photos.image_ids),
        "models": models,
        "decodings": {
            name: decoding
            for one in hypotheses
            for name, decoding in zip(one.systems(), (one.beam, "greedy"), strict=True)
        },
        "comparisons": _comparisons([one.model for one in hypotheses], scores, seed, resamples),
    }


def _comparisons(
    models: Sequence[str], scores: Mapping[str, Scores], seed: int, resamples: int
) -> list[dict[str, Any]]:
    best = max(models, key=lambda name: scores[name].values[PRIMARY])
    found = []
    for name in models:
        if name == best:
            continue
        for metric in (known for known in METRICS if known in scores[best].metrics):
            difference = paired_bootstrap(scores[name], scores[best], metric, seed=seed, resamples=resamples)
            found.append(
                {
                    "metric": metric,
                    "better": best,
                    "than": name,
                    **difference.interval.to_dict(),
                    "probability": difference.probability,
                }
            )
    return found


def tracked(evaluation: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The report's metrics as an experiment tracker keeps them: `{key: {value, step}}`."""
    return {
        f"{evaluation['split']}.{system}.{metric}": {"value": float(interval["value"]), "step": 0}
        for system, metrics in evaluation["models"].items()
        for metric, interval in metrics.items()
    }
