"""The node of drift: what is served beside what the served version learnt from."""

import tempfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from captionloop.errors import RegistryError
from captionloop.evaluation.drift import DriftParameters, compare
from captionloop.evaluation.drift_report import drift_figure, drift_page, feedback_traffic, reference_traffic
from captionloop.evaluation.evaluation_set import EvaluationSet, training_captions
from captionloop.registry.scored_captions import load_training_data
from captionloop.tokenizer import word_tokens

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from captionloop.photos import PhotoFolder
    from captionloop.ratings.reader import RatingsDatabase
    from captionloop.registry.model_registry import ModelRegistry
else:  # Kedro resolves the hints of nodes; matplotlib and mlflow are not worth importing for that.
    Figure = PhotoFolder = RatingsDatabase = ModelRegistry = Any

Json = dict[str, Any]
ENCODER = "encoder_fingerprint"


def measure_drift(  # noqa: PLR0917 - a node's inputs
    model_registry: ModelRegistry,
    ratings_database: RatingsDatabase,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    photos: PhotoFolder,
    evaluation_photos: Json,
    parameters: DriftParameters,
    photo_archive: PhotoFolder | None = None,
) -> tuple[Json, str, Figure]:
    """The report, its page and its figure.

    Compared is with what the champion was taught, feedback included: its words, and its photos as far as they
    are in the archive and nobody has erased them.
    """
    from captionloop.captioner.captioner import Captioner
    from captionloop.photos import archive_uri
    from captionloop.ratings.reader import read_traffic

    champion = model_registry.champion()
    if champion is None:
        raise RegistryError(f"{model_registry.name} has no champion whose traffic could be looked at")
    with tempfile.TemporaryDirectory() as scratch:
        captioner = Captioner.load(model_registry.fetch(champion.version, Path(scratch) / "champion"))
        evidence = model_registry.fetch_evidence(champion.version, Path(scratch) / "evidence")
        taught = None if evidence is None else load_training_data(evidence)
    language = captioner.tokenizer.language
    alike = [
        str(version.version)
        for version in model_registry.versions()
        if version.version == champion.version
        or (ENCODER in version.lineage and version.lineage[ENCODER] == champion.lineage.get(ENCODER))
    ]
    until = datetime.now(UTC)
    since = until - timedelta(days=parameters.days)
    engine = ratings_database.engine()
    read = partial(
        read_traffic,
        engine,
        served=[str(champion.version)],
        comparable=alike,
        limit=parameters.max_rows,
        language=language,
    )
    try:
        served = read(since, until)
        before = read(since - timedelta(days=parameters.before_days), since)
    finally:
        engine.dispose()
    evaluated = EvaluationSet.model_validate(evaluation_photos)
    reference = reference_traffic(captioner, images, evaluated, photos, parameters)
    if taught is None:  # of a version from before this was kept
        known = Counter(
            word for text in training_captions(images, captions) for word in word_tokens(text, language)
        )
    else:
        known = Counter(taught["words"])
        if photo_archive is not None:
            erased = ratings_database.erased()
            learnt, held_out = (
                [archive_uri(sha256) for sha256 in sorted(set(taught.get(kind, ())) - erased)]
                for kind in ("feedback_photos", "held_out_photos")
            )
            from_feedback = feedback_traffic(captioner, learnt, held_out, photo_archive, parameters)
            reference = replace(reference, from_feedback=from_feedback)
    rare, seed = parameters.rare, parameters.seed
    report = compare(
        served, before.stars, reference, known, parameters.limits, rare=rare, seed=seed, language=language
    )
    window = f"in the {parameters.days:g} days before {until:%Y-%m-%d %H:%M} UTC"
    told = {**report.model_dump(mode="json"), "model": champion.name, "version": champion.version}
    told["until"] = until.isoformat()
    page = drift_page(report, window=window, version=str(champion.version))
    drawn = drift_figure(
        report,
        served,
        before.stars,
        reference,
        known,
        parameters.limits,
        rare=rare,
        seed=seed,
        language=language,
    )
    return told, page, drawn
