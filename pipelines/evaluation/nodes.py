"""The nodes of evaluation: what goes in, what comes out, and which part of the library does it."""

from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from captionloop.evaluation.calibration import CalibrationReport, as_calibration, calibrate
from captionloop.evaluation.evaluation_report import evaluation_report, evaluation_table, tracked
from captionloop.evaluation.evaluation_set import (
    EvaluationParameters,
    EvaluationSet,
    evaluation_set,
    training_captions,
)
from captionloop.evaluation.figures import curves_figure, pareto_figure, reliability_figure
from captionloop.evaluation.gallery import Exhibit, choose_exhibits, gallery_figure, square
from captionloop.evaluation.latency import latencies, measure_latency
from captionloop.evaluation.model_card import TrainingData, missing_words, model_card
from captionloop.evaluation.predictions import Predictions, all_systems, caption_split
from captionloop.languages import language_of
from captionloop.scoring.scores import Scores, score_systems
from captionloop.tokenizer import word_tokens

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from captionloop.captioner.captioner import Captioner
    from captionloop.photos import PhotoFolder
    from captionloop.vision.feature_store import CachedFeatures
else:  # Kedro resolves the hints of nodes; torch and matplotlib are not worth importing for that.
    Figure = Captioner = PhotoFolder = CachedFeatures = Any

Json = dict[str, Any]


def choose_photos(
    images: pd.DataFrame, captions: pd.DataFrame, parameters: EvaluationParameters, language: str
) -> tuple[Json, Json]:
    """The photos to score captions on, and those to calibrate confidences on, each with its references."""
    splits = (parameters.split, parameters.calibration.split)
    scored, calibrated = (evaluation_set(images, captions, split, language_of(language)) for split in splits)
    frozen = scored.drawn(parameters.photos, parameters.draw)
    return frozen.model_dump(mode="json"), calibrated.model_dump(mode="json")


def describe_training_data(
    images: pd.DataFrame, captions: pd.DataFrame, parameters: EvaluationParameters, language: str
) -> Json:
    """What the captioners have learnt from, in numbers."""
    photos = images[images["split"] == "train"]
    learnt = captions[captions["image_id"].isin(photos["image_id"])]
    from_people = photos[photos["source"] == "feedback"]
    rated = learnt["image_id"].isin(from_people["image_id"])
    spoken = language_of(language)
    words = Counter(word for text in learnt["text"] for word in word_tokens(text, spoken))
    of_corpus = {word for text in learnt.loc[~rated, "text"] for word in word_tokens(text, spoken)}
    data = TrainingData(
        corpus=parameters.corpus,
        photos=len(photos),
        captions=len(learnt),
        corrections=int((learnt["source"] == "correction").sum()),
        # What one person alone wrote, once, is nobody's vocabulary, and does not outlive its erasure here.
        words={word: count for word, count in sorted(words.items()) if count > 1 or word in of_corpus},
        feedback_photos=sorted(set(from_people["sha256"])),
    )
    return asdict(data)


def predict_captions(
    captioner: Captioner, photos: Json, features: CachedFeatures, parameters: EvaluationParameters
) -> Json:
    """What a captioner says about every photo, searching as its bundle says and greedily."""
    chosen = EvaluationSet.model_validate(photos)
    return caption_split(captioner, features, chosen, batch_size=parameters.batch_size).model_dump(
        mode="json"
    )


def compare_with_photos(
    photos: Json, raw_photos: PhotoFolder, parameters: EvaluationParameters, *hypotheses: Json
) -> Json:
    """How well each caption goes with its photo, `{system: {image: CLIPScore}}`; empty if nobody is asked."""
    if parameters.image_text is None:
        return {}
    from captionloop.evaluation.image_text_score import ImageTextScorer

    chosen = EvaluationSet.model_validate(photos)
    systems = all_systems([Predictions.model_validate(one) for one in hypotheses])
    return ImageTextScorer(parameters.image_text).of_photos(
        dict(zip(chosen.image_ids, chosen.uris, strict=True)), raw_photos.read, systems
    )


def score_captions(
    photos: Json,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    parameters: EvaluationParameters,
    image_text: Json,
    *hypotheses: Json,
) -> tuple[Json, pd.DataFrame, Json]:
    """The report, the scores of every photo, and the metrics to track."""
    chosen = EvaluationSet.model_validate(photos)
    models = [Predictions.model_validate(one) for one in hypotheses]
    scores = score_systems(all_systems(models), chosen.references, chosen.reference_language)
    scores |= {name: scores[name].with_metric("CLIPScore", values) for name, values in image_text.items()}
    known = training_captions(images, captions)
    report = evaluation_report(
        chosen, models, scores, known, seed=parameters.seed, resamples=parameters.resamples
    )
    tables = [one.to_frame().assign(system=name) for name, one in scores.items()]
    return report, pd.concat(tables, ignore_index=True), tracked(report)


def score_beside_others(  # noqa: PLR0917 - a node's inputs
    photos: Json,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    parameters: EvaluationParameters,
    image_text: Json,
    others: dict[str, Json],
    *hypotheses: Json,
) -> tuple[Json, pd.DataFrame, Json]:
    """As `score_captions`, with what other captioners said before, as far as it is of the same photos."""
    models = {one["model"] for one in hypotheses}
    same = set(EvaluationSet.model_validate(photos).image_ids)
    beside = [one for one in others.values() if one["model"] not in models and set(one["default"]) == same]
    return score_captions(photos, images, captions, parameters, image_text, *hypotheses, *beside)


def write_table(evaluation: Json, parameters: EvaluationParameters) -> str:
    """The report as the table that people read."""
    return evaluation_table(
        evaluation, reference_points=parameters.reference_points, published=parameters.published
    )


def publish(evaluation: Json, table: str) -> tuple[Json, str]:
    """The report and its table once more, for the place where people look whatever the corpus."""
    return evaluation, table


def calibrate_words(  # noqa: PLR0917 - a node's inputs
    captioner: Captioner,
    hypotheses: Json,
    photos: Json,
    features: CachedFeatures,
    parameters: EvaluationParameters,
    rated: pd.DataFrame | None = None,
) -> Json:
    """How a captioner's confidences are to be read; captions `photos` unless they are those evaluated.

    `rated` are captions that people rated (columns `sureness`, `accepted`).
    """
    said, chosen = Predictions.model_validate(hypotheses), EvaluationSet.model_validate(photos)
    if said.split != chosen.split:
        said = caption_split(captioner, features, chosen, batch_size=parameters.batch_size)
    report = calibrate(
        captioner.name,
        chosen.split,
        said.default,
        chosen.references,
        parameters.calibration,
        chosen.reference_language,
        rated,
    )
    return report.model_dump(mode="json")


def measure(
    captioner: Captioner,
    photos: Json,
    raw_photos: PhotoFolder,
    features: CachedFeatures,
    parameters: EvaluationParameters,
) -> Json:
    """How long captioning takes here, one photo at a time and in batches."""
    chosen = EvaluationSet.model_validate(photos)
    some = [raw_photos.read(uri) for uri in chosen.uris[: parameters.latency.photos]]
    return measure_latency(captioner, some, features, chosen.sha256s, parameters.latency)


def draw_reliability(*calibrations: Json) -> Figure:
    """Confidence against truth, for every model."""
    return reliability_figure([CalibrationReport.model_validate(one) for one in calibrations])


def draw_training_curves(**curves: pd.DataFrame) -> Figure:
    """Loss and CIDEr of every model while it was trained."""
    return curves_figure(curves)


def draw_quality_and_latency(evaluation: Json, *measured: Json) -> Figure:
    """CIDEr against the time for one photo, of those whose time was measured."""
    known = latencies(measured)
    models = {name: metrics for name, metrics in evaluation["models"].items() if name in known}
    return pareto_figure({**evaluation, "models": models}, known, measured[0]["machine"])


def draw_gallery(  # noqa: PLR0917 - a node's inputs
    captioner: Captioner,
    calibration: Json,
    hypotheses: Json,
    caption_scores: pd.DataFrame,
    photos: Json,
    raw_photos: PhotoFolder,
    features: CachedFeatures,
    parameters: EvaluationParameters,
) -> Figure:
    """Some of the best, middle and worst photos with where the captioner looked for each word."""
    chosen = EvaluationSet.model_validate(photos)
    scores = Scores.from_frame(caption_scores[caption_scores["system"] == captioner.name])
    ciders = dict(zip(scores.image_ids, scores.cider().tolist(), strict=True))
    captions = Predictions.model_validate(hypotheses).systems()[captioner.name]
    shown = choose_exhibits(ciders, captions, parameters.gallery.each)
    rows = [chosen.image_ids.index(image_id) for _, image_id in shown]
    calibrated = replace(captioner, calibration=as_calibration(CalibrationReport.model_validate(calibration)))
    said = calibrated.caption_grids(features.grids([chosen.sha256s[row] for row in rows]))
    exhibits = [
        Exhibit(
            photo=square(raw_photos.read(chosen.uris[row]), captioner.encoder.spec.preprocessing),
            caption=captioned.best,
            reference=chosen.references[image_id][0],
            cider=ciders[image_id],
            rank=rank,
        )
        for (rank, image_id), row, captioned in zip(shown, rows, said, strict=True)
    ]
    title = f"{captioner.name} on {chosen.split}: what it looked at for each word, and how sure it is"
    widest = round(parameters.gallery.widest * captioner.tokenizer.language.tokens_per_word)
    return gallery_figure(exhibits, title=title, widest=widest)


def write_card(  # noqa: PLR0917 - a node's inputs
    captioner: Captioner,
    calibration: Json,
    latency: Json,
    hypotheses: Json,
    evaluation: Json,
    photos: Json,
    training_data: Json,
) -> str:
    """The model card of a captioner."""
    captions = Predictions.model_validate(hypotheses).systems()[captioner.name]
    return model_card(
        captioner,
        evaluation,
        calibration=CalibrationReport.model_validate(calibration),
        latency=latencies([latency])[captioner.name],
        machine=latency["machine"],
        data=TrainingData(**training_data),
        missing=missing_words(captions, EvaluationSet.model_validate(photos)),
    )
