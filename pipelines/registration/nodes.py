"""The nodes of registration: a trained captioner becomes a version, and perhaps the champion."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from captionloop.corpus.scenes.render import read_facts
from captionloop.errors import ConfigurationError
from captionloop.evaluation.evaluation_set import EvaluationSet
from captionloop.evaluation.predictions import Predictions
from captionloop.registry.gate import GateDecision, refuse_rolled_back
from captionloop.registry.gate_report import gate_report
from captionloop.registry.gate_run import apply_gate, apply_image_text_guardrail
from captionloop.registry.registration import (
    ChampionComparison,
    EncodedPhotos,
    RegistrationParameters,
    compare_with_champion,
    register_version,
    with_evaluation,
)
from captionloop.registry.scored_captions import EvaluationCaptions, ScoredCaptions, evaluation_set_hash
from captionloop.scoring.scores import Scores
from captionloop.vision.embedding import learn_familiarity

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner
    from captionloop.photos import PhotoFolder
    from captionloop.registry.model_registry import ModelRegistry
    from captionloop.vision.feature_store import CachedFeatures
else:  # Kedro resolves the hints of nodes; torch and mlflow are not worth importing for that.
    Captioner = PhotoFolder = ModelRegistry = CachedFeatures = Any

Json = dict[str, Any]


def prepare_candidate(  # noqa: PLR0917 - a node's inputs
    parameters: RegistrationParameters,
    evaluation: Json,
    photos: Json,
    images: pd.DataFrame,
    features: CachedFeatures,
    validation: Json,
    **trained: Any,
) -> tuple[Captioner, Json]:
    """The captioner to register, with its metrics, calibration, familiarity and card; and what it said.

    `trained` holds `<model>.captioner`, `.hypotheses`, `.calibration` and `.model_card` of every model.
    """
    name = parameters.model
    if f"{name}.captioner" not in trained:
        known = ", ".join(sorted({key.split(".")[0] for key in trained}))
        raise ConfigurationError(
            f"registration.model is {name!r}, which is not trained here: choose one of {known}"
        )
    captioner: Captioner = trained[f"{name}.captioner"]
    known_of_it = trained[f"{name}.model_card"], trained[f"{name}.calibration"], trained[f"{name}.hypotheses"]
    candidate, kept = evaluated_candidate(
        captioner, evaluation, *known_of_it, photos, images, features, validation
    )
    return replace(candidate, lineage={"parent_version": None, **captioner.lineage}), kept


def evaluated_candidate(  # noqa: PLR0917 - as its callers' nodes have them
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
    """A captioner with its metrics, calibration, familiarity and card; and what it said."""
    learnt_from = learn_familiarity(images, features, EvaluationSet.model_validate(validation).sha256s)
    kept = EvaluationCaptions(
        evaluation_set=evaluation_set_hash(EvaluationSet.model_validate(photos).references),
        captions=_said(hypotheses),
    )
    complete = with_evaluation(captioner, evaluation, model_card, calibration, learnt_from)
    return complete, kept.model_dump(mode="json")


def compare_candidate(
    parameters: RegistrationParameters,
    photos: Json,
    raw_photos: PhotoFolder,
    model_registry: ModelRegistry,
    candidate: Captioner,
) -> Json:
    """What the champion says about the same photos, and how fast the two are."""
    chosen = EvaluationSet.model_validate(photos)
    return compare_with_champion(
        model_registry,
        candidate,
        EncodedPhotos(raw_photos, dict(zip(chosen.image_ids, chosen.uris, strict=True))),
        evaluation_set_hash(chosen.references),
        parameters.timed_photos,
    ).model_dump(mode="json")


def decide_promotion(  # noqa: PLR0917 - a node's inputs
    parameters: RegistrationParameters,
    photos: Json,
    raw_photos: PhotoFolder,
    caption_scores: pd.DataFrame,
    candidate_captions: Json,
    challenge: Json,
    scene_facts: Json,
) -> tuple[Json, str]:
    """The gate's decision and its report."""
    kept, called = (
        EvaluationCaptions.model_validate(candidate_captions),
        ChampionComparison.model_validate(challenge),
    )
    chosen = EvaluationSet.model_validate(photos)
    candidate = ScoredCaptions(
        name=parameters.model,
        evaluation_set=kept.evaluation_set,
        captions=kept.captions,
        scores=Scores.from_frame(caption_scores[caption_scores["system"] == parameters.model]),
        seconds_per_photo=called.candidate_seconds,
        language=chosen.reference_language,
    )
    champion = _champion(called, chosen)
    decision = apply_gate(candidate, champion, called, chosen, read_facts(scene_facts), parameters.gate)
    decision = apply_image_text_guardrail(decision, candidate, champion, chosen, raw_photos.read, parameters)
    if called.rolled_back:
        decision = refuse_rolled_back(decision, called.rolled_back)
    return decision.model_dump(mode="json"), gate_report(decision)


def publish(gate: Json, gate_report: str) -> tuple[Json, str]:
    """The decision and its report once more, for the place where people look whatever the corpus."""
    return gate, gate_report


def register_candidate(  # noqa: PLR0917 - a node's inputs
    model_registry: ModelRegistry,
    candidate: Captioner,
    candidate_captions: Json,
    gate: Json,
    gate_report: str,
    training_data: Json | None = None,
) -> Json:
    """Enters the candidate into the registry, and promotes it where the gate says so."""
    decision = GateDecision.model_validate(gate)
    kept = EvaluationCaptions.model_validate(candidate_captions)
    version = register_version(
        model_registry, candidate, kept, decision, gate_report, training_data=training_data
    )
    return {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "promoted": decision.promoted,
        "reason": decision.reason,
        "metrics": dict(version.metrics),
        "fingerprint": version.fingerprint,
        "source": version.source,
    }


def _said(hypotheses: Json) -> dict[str, str]:
    said = Predictions.model_validate(hypotheses).default
    return {image_id: one.caption for image_id, one in said.items()}


def _champion(called: ChampionComparison, photos: EvaluationSet) -> ScoredCaptions | None:
    if called.version is None:
        return None
    return ScoredCaptions.by_all_metrics(
        f"version {called.version}",
        called.captions,
        photos.references,
        called.champion_seconds,
        photos.reference_language,
    )
