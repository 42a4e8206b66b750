"""The nodes of retraining: the champion's origin is taught on with feedback, tested, brought to the gate."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from captionloop.pipelines.evaluation import nodes as evaluating
from captionloop.pipelines.registration import nodes as registering
from captionloop.pipelines.training.nodes import Results, teach_on_by_words

from captionloop.captioner.model_config import with_dropout
from captionloop.corpus.scenes.render import read_facts
from captionloop.errors import RegistryError
from captionloop.evaluation.evaluation_set import EvaluationParameters, EvaluationSet
from captionloop.evaluation.predictions import Predictions, caption_split
from captionloop.feedback.retraining_data import (
    RetrainingParameters,
    all_training_data,
    feedback_once,
    tables_of,
    training_tables,
)
from captionloop.registry.gate import GateDecision, decide_on_fresh, refuse_rolled_back
from captionloop.registry.gate_report import gate_report, readable_reason
from captionloop.registry.gate_run import apply_gate, apply_image_text_guardrail
from captionloop.registry.registration import (
    ChampionComparison,
    EncodedPhotos,
    RegistrationParameters,
    compare_with_champion,
    register_version,
)
from captionloop.registry.scored_captions import EvaluationCaptions, ScoredCaptions, evaluation_set_hash
from captionloop.scoring.scores import Scores
from captionloop.training.training_parameters import (
    CrossEntropyParameters,
    ValidationParameters,
    VocabularyParameters,
)
from captionloop.vision.encoder import Encoder

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner
    from captionloop.photos import PhotoFolder
    from captionloop.ratings.reader import RatingsDatabase
    from captionloop.registry.model_registry import ModelRegistry
    from captionloop.vision.feature_store import CachedFeatures
else:  # Kedro resolves the hints of nodes; torch, SQLAlchemy and mlflow are not worth importing for that.
    Captioner = PhotoFolder = RatingsDatabase = ModelRegistry = CachedFeatures = Any

Json = dict[str, Any]
CANDIDATE, CHAMPION = "candidate", "champion"
CURVE_PHOTOS = 50
"""Of `val`, after every epoch: for the curve alone, as the last epoch is kept whatever they say."""


def assemble_training_tables(  # noqa: PLR0917 - a node's inputs
    corpus_images: pd.DataFrame,
    corpus_captions: pd.DataFrame,
    feedback_images: pd.DataFrame,
    references: pd.DataFrame,
    ratings_database: RatingsDatabase,
    champion_version: Json,
    parameters: RetrainingParameters,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables to teach with: feedback that nobody has erased meanwhile, and the corpus replayed."""
    return training_tables(
        (corpus_images, corpus_captions),
        (feedback_images, references),
        ratings_database.erased(),
        parameters,
        replay_seed=champion_version["version"],
    )


def train_candidate(  # noqa: PLR0917 - a node's inputs
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: CachedFeatures,
    encoder: Encoder,
    concept_weights: pd.DataFrame,
    origin: Captioner,
    champion_version: Json,
    feedback_report: Json,
    examination: Json,
    parameters: RetrainingParameters,
    checkpoints: Path,
) -> Results:
    """The origin, taught on with what `encoder` sees: words that are new to it join its vocabulary.

    Several decoders are, each with its share of the replayed captions and all with one vocabulary, and their
    mean is kept; the curves are means as well. On CPUs they are trained next to each other.
    """
    from captionloop.captioner.ensembling import average_weights
    from captionloop.training.processes import results_side_by_side
    from captionloop.training.train_captioner import NewWordInit, corpus_digest

    same_eyes = encoder.fingerprint == origin.encoder.fingerprint
    neighbours = origin.neighbours if same_eyes else None
    start = replace(origin, encoder=encoder, neighbours=neighbours)
    grounding = NewWordInit(concept_weights, parameters.new_word_strength)
    feedback = feedback_once((images, captions))[1]
    # Of the feedback alone, and so the same for all: each has other captions of the corpus.
    tokenizer = origin.tokenizer.extended(feedback["text"], min_frequency=parameters.min_frequency)
    lessons = [tables_of((images, captions), number, parameters) for number in range(parameters.decoders)]
    trainings = {
        f"decoder {number + 1} of {parameters.decoders}": partial(
            teach_on_by_words,
            images=own_images,
            captions=own_captions,
            features=features,
            start=start,
            parameters=_teaching(origin, parameters, number),
            checkpoints=checkpoints / f"decoder_{number}",
            keep_last=True,
            grounding=grounding,
            tokenizer=tokenizer,
        )
        for number, (own_images, own_captions) in enumerate(lessons)
    }
    taught = results_side_by_side(trainings, origin.name)
    captioner = taught[0][0]
    curves = pd.concat([each for _, each, _ in taught]).groupby("epoch", as_index=False).mean()
    last = curves.iloc[-1]
    used = feedback["source"].value_counts()
    lineage = captioner.lineage | {
        "corpus_sha256": corpus_digest(images, captions),
        "parent": {"name": origin.name, "version": champion_version["origin"]},
        "parent_version": champion_version["origin"],
        "decoders": parameters.decoders,
        "feedback_until": feedback_report["until"],
        "feedback_rows": int(used.sum()),
        "feedback_corrections": int(used.get("correction", 0)),
        "feedback_approved_captions": int(used.get("approved", 0)),
        "feedback_doubted_references": examination["doubted"],
    }
    metrics = {"validation": {"CIDEr-D": float(last["val_cider"]), "epoch": int(last["epoch"])}}
    decoder = average_weights([each.decoder for each, _, _ in taught])
    return replace(captioner, decoder=decoder, lineage=lineage, metrics=metrics), curves, curves


def _teaching(origin: Captioner, parameters: RetrainingParameters, decoder: int) -> CrossEntropyParameters:
    return CrossEntropyParameters(
        name=origin.name,
        decoder=with_dropout(origin.decoder.config, parameters.dropout, parameters.feature_dropout),
        decoding=origin.decoding,
        max_length=origin.decoding.max_length,
        vocabulary=VocabularyParameters(min_frequency=parameters.min_frequency),
        validation=ValidationParameters(photos=CURVE_PHOTOS, patience=parameters.epochs),
        **parameters.of_training(decoder),
    )


def caption_frozen_set(  # noqa: PLR0917 - a node's inputs
    captioner: Captioner,
    champion: Captioner,
    photos: Json,
    features: CachedFeatures,
    champion_features: CachedFeatures,
    parameters: EvaluationParameters,
) -> tuple[Json, Json]:
    """What the candidate and the champion say about every photo of the frozen evaluation set."""
    chosen, size = EvaluationSet.model_validate(photos), parameters.batch_size
    candidate = caption_split(replace(captioner, name=CANDIDATE), features, chosen, batch_size=size)
    before = caption_split(replace(champion, name=CHAMPION), champion_features, chosen, batch_size=size)
    return candidate.model_dump(mode="json"), before.model_dump(mode="json")


def caption_fresh_feedback(  # noqa: PLR0917 - a node's inputs
    captioner: Captioner,
    champion: Captioner,
    held_out: Json,
    features: CachedFeatures,
    champion_features: CachedFeatures,
    parameters: EvaluationParameters,
) -> Json:
    """What the two say about the photos that were held out of the feedback, with the corrections of these."""
    said = caption_frozen_set(captioner, champion, held_out, features, champion_features, parameters)
    captions: Json = {}
    for one in said:
        captions |= Predictions.model_validate(one).systems()
    return {**captions, "references": held_out["references"]}


def score(  # noqa: PLR0917 - a node's inputs
    photos: Json,
    raw_photos: PhotoFolder,
    corpus_images: pd.DataFrame,
    corpus_captions: pd.DataFrame,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    parameters: EvaluationParameters,
    candidate: Json,
    champion: Json,
    held_out: Json,
) -> tuple[Json, pd.DataFrame, Json, str, Json]:
    """The report, every photo's scores, the metrics to track, the table for people, what was learnt from."""
    taught = all_training_data((corpus_images, corpus_captions), (images, captions))
    fits = evaluating.compare_with_photos(photos, raw_photos, parameters, candidate, champion)
    report, scores, metrics = evaluating.score_captions(
        photos, *taught, parameters, fits, candidate, champion
    )
    table = evaluating.write_table(report, parameters)
    data = evaluating.describe_training_data(
        *taught, parameters, EvaluationSet.model_validate(photos).language
    )
    data["held_out_photos"] = sorted(held_out["sha256s"])
    return report, scores, metrics, table, data


def calibrate_candidate(  # noqa: PLR0917 - a node's inputs
    captioner: Captioner,
    hypotheses: Json,
    photos: Json,
    features: CachedFeatures,
    verdicts: pd.DataFrame,
    ratings_database: RatingsDatabase,
    parameters: EvaluationParameters,
) -> Json:
    """How the candidate's confidences are to be read, by references and by what people said of captions."""
    named = replace(captioner, name=CANDIDATE)
    rated = verdicts.merge(ratings_database.surenesses(), on="caption_id")
    report: Json = evaluating.calibrate_words(named, hypotheses, photos, features, parameters, rated)
    return report


def measure_candidate(
    captioner: Captioner,
    photos: Json,
    corpus_photos: PhotoFolder,
    features: CachedFeatures,
    parameters: EvaluationParameters,
) -> Json:
    """How long the candidate takes here."""
    latency: Json = evaluating.measure(
        replace(captioner, name=CANDIDATE), photos, corpus_photos, features, parameters
    )
    return latency


def write_model_card(  # noqa: PLR0917 - a node's inputs
    captioner: Captioner,
    calibration: Json,
    latency: Json,
    hypotheses: Json,
    evaluation: Json,
    photos: Json,
    training_data: Json,
) -> str:
    """The candidate's model card."""
    named = replace(captioner, name=CANDIDATE)
    card: str = evaluating.write_card(
        named, calibration, latency, hypotheses, evaluation, photos, training_data
    )
    return card


def prepare_candidate(  # noqa: PLR0917 - a node's inputs
    captioner: Captioner,
    evaluation: Json,
    model_card: str,
    calibration: Json,
    hypotheses: Json,
    photos: Json,
    images: pd.DataFrame,
    features: CachedFeatures,
    validation: Json,
) -> tuple[Captioner, Json]:
    """The captioner to register, with its metrics, calibration, familiarity and card; and what it said."""
    named = replace(captioner, name=CANDIDATE)
    known_of_it = model_card, calibration, hypotheses
    complete, kept = registering.evaluated_candidate(
        named, evaluation, *known_of_it, photos, images, features, validation
    )
    return replace(complete, name=captioner.name), kept


def compare_candidate(  # noqa: PLR0917 - a node's inputs
    parameters: RegistrationParameters,
    photos: Json,
    corpus_photos: PhotoFolder,
    model_registry: ModelRegistry,
    candidate: Captioner,
    champion_version: Json,
) -> Json:
    """What the champion says about the frozen set; it must still be the one that the run began with."""
    chosen = EvaluationSet.model_validate(photos)
    challenge = compare_with_champion(
        model_registry,
        candidate,
        EncodedPhotos(corpus_photos, dict(zip(chosen.image_ids, chosen.uris, strict=True))),
        evaluation_set_hash(chosen.references),
        parameters.timed_photos,
    )
    begun = champion_version["version"]
    if challenge.version != begun:
        raise RegistryError(
            f"this run began with version {begun}, but the champion is now version {challenge.version}: "
            "start a new run, which begins with that one"
        )
    return challenge.model_dump(mode="json")


def decide_promotion(  # noqa: PLR0917 - a node's inputs
    parameters: RegistrationParameters,
    photos: Json,
    raw_photos: PhotoFolder,
    caption_scores: pd.DataFrame,
    candidate_captions: Json,
    challenge: Json,
    fresh_captions: Json,
    champion_hypotheses: Json,
    scene_facts: Json,
) -> tuple[Json, str]:
    """The gate's decision and its report, on the frozen set and on fresh feedback."""
    kept, called = (
        EvaluationCaptions.model_validate(candidate_captions),
        ChampionComparison.model_validate(challenge),
    )
    chosen = EvaluationSet.model_validate(photos)
    candidate = ScoredCaptions(
        name=CANDIDATE,
        evaluation_set=kept.evaluation_set,
        captions=kept.captions,
        scores=Scores.from_frame(caption_scores[caption_scores["system"] == CANDIDATE]),
        seconds_per_photo=called.candidate_seconds,
        language=chosen.reference_language,
    )
    name = f"version {called.version}"
    champion = _champion(name, called, caption_scores, champion_hypotheses, chosen)
    decision = apply_gate(candidate, champion, called, chosen, read_facts(scene_facts), parameters.gate)
    fresh = fresh_captions["references"]
    if len(fresh) > 1:  # CIDEr of a single photo is zero: every word is in all of the documents
        decision = decide_on_fresh(
            decision,
            ScoredCaptions.by_cider(CANDIDATE, fresh_captions[CANDIDATE], fresh, chosen.reference_language),
            ScoredCaptions.by_cider(name, fresh_captions[CHAMPION], fresh, chosen.reference_language),
            parameters.gate,
        )
    decision = apply_image_text_guardrail(decision, candidate, champion, chosen, raw_photos.read, parameters)
    if called.rolled_back:
        decision = refuse_rolled_back(decision, called.rolled_back)
    return decision.model_dump(mode="json"), gate_report(decision)


def _champion(
    name: str, called: ChampionComparison, caption_scores: pd.DataFrame, said: Json, photos: EvaluationSet
) -> ScoredCaptions:
    """The champion's evidence; it is scored already where it said the same in this run's evaluation."""
    if Predictions.model_validate(said).systems()[CHAMPION] != called.captions:
        return ScoredCaptions.by_all_metrics(
            name, called.captions, photos.references, called.champion_seconds, photos.reference_language
        )
    scores = Scores.from_frame(caption_scores[caption_scores["system"] == CHAMPION])
    return ScoredCaptions(
        name,
        evaluation_set_hash(photos.references),
        called.captions,
        scores,
        called.champion_seconds,
        photos.reference_language,
    )


def register_challenger(  # noqa: PLR0917 - a node's inputs
    model_registry: ModelRegistry,
    candidate: Captioner,
    candidate_captions: Json,
    gate: Json,
    gate_report: str,
    training_data: Json | None = None,
) -> Json:
    """Enters the candidate as challenger, with what the gate decided; promoting it is a step of its own."""
    decision = GateDecision.model_validate(gate)
    kept = EvaluationCaptions.model_validate(candidate_captions)
    version = register_version(
        model_registry, candidate, kept, decision, gate_report, training_data=training_data, promote=False
    )
    return {
        "name": version.name,
        "version": version.version,
        "passed": decision.promoted,
        "reason": decision.reason,
        "verdict": readable_reason(decision.reason),
        "metrics": dict(version.metrics),
        "fingerprint": version.fingerprint,
        "source": version.source,
    }
