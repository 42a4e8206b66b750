"""The nodes of retraining that see photos: the encoder is taught on, and what it sees is cached."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from captionloop.pipelines.retraining.nodes import assemble_training_tables

from captionloop.evaluation.evaluation_set import EvaluationSet
from captionloop.feedback.retraining_data import (
    EncoderRetrainingParameters,
    RetrainingParameters,
    encoder_tables,
    extended_concepts,
    usable_feedback,
)
from captionloop.preprocessing import views_named
from captionloop.vision.encoder import Encoder
from captionloop.vision.feature_caching import CachingParameters, cache_folders
from captionloop.vision.feature_store import FeatureManifest

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner
    from captionloop.photos import PhotoFolder
    from captionloop.ratings.reader import RatingsDatabase
    from captionloop.vision.feature_store import FeatureStore
else:  # Kedro resolves the hints of nodes; torch and SQLAlchemy are not worth importing for that.
    Captioner = PhotoFolder = RatingsDatabase = FeatureStore = Any

Json = dict[str, Any]


def finetune_encoder(  # noqa: PLR0917 - a node's inputs
    origin: Captioner,
    champion_version: Json,
    corpus_images: pd.DataFrame,
    corpus_captions: pd.DataFrame,
    corpus_photos: PhotoFolder,
    concepts: pd.DataFrame,
    feedback_images: pd.DataFrame,
    references: pd.DataFrame,
    photo_archive: PhotoFolder,
    ratings_database: RatingsDatabase,
    parameters: EncoderRetrainingParameters,
    checkpoints: Path,
) -> tuple[Encoder, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The origin's encoder, taught what people named in their photos; with no epochs, it stays as it is.

    With what its classifier looks for (columns `concept`, `weights`). Its curves are there twice: for the
    report, and for MLflow.
    """
    from captionloop.training.train_encoder import no_curves, train_encoder

    if parameters.epochs == 0 or not origin.encoder.trainable:
        return origin.encoder, pd.DataFrame({"concept": [], "weights": []}), no_curves(), no_curves()
    feedback = usable_feedback((feedback_images, references), ratings_database.erased())
    images, captions = encoder_tables(
        (corpus_images, corpus_captions), feedback, parameters, replay_seed=champion_version["version"]
    )
    language = origin.tokenizer.language
    named = extended_concepts(concepts, corpus_captions, feedback[1], parameters, language)
    folders = {"corpus": corpus_photos, "feedback": photo_archive}
    taught = train_encoder(
        images, captions, named, folders, origin.encoder, parameters, checkpoints, language
    )
    weights = pd.DataFrame({"concept": named, "weights": list(taught.weights)})
    return taught.encoder, weights, taught.curves, taught.curves


def cache(  # noqa: PLR0917 - a node's inputs
    encoder: Encoder,
    champion: Captioner,
    champion_version: Json,
    corpus_images: pd.DataFrame,
    corpus_captions: pd.DataFrame,
    corpus_photos: PhotoFolder,
    frozen: Json,
    calibration: Json,
    feedback_images: pd.DataFrame,
    references: pd.DataFrame,
    held_out: Json,
    photo_archive: PhotoFolder,
    ratings_database: RatingsDatabase,
    store: FeatureStore,
    base_store: FeatureStore,
    parameters: CachingParameters,
    retraining: RetrainingParameters,
) -> tuple[FeatureManifest, FeatureManifest, Json, Json]:
    """What the candidate's encoder sees in all that is taught and tested with, the champion's in the tests.

    The candidate's features go to the store of the run, and are gone with it; unless its encoder was left as
    it is: what the base store holds of it is taken, and what is new is added there for the next run. Of the
    photos that are held out those are tested with that nobody has erased since.
    """
    there = EvaluationSet.model_validate(held_out).without(ratings_database.erased()).model_dump(mode="json")
    taught, _ = assemble_training_tables(
        corpus_images,
        corpus_captions,
        feedback_images,
        references,
        ratings_database,
        champion_version,
        retraining,
    )
    of_corpus, tested = taught["source"] == "corpus", _photos_of(frozen)
    old = pd.concat([taught.loc[of_corpus, ["sha256", "uri"]], tested, _photos_of(calibration)])
    fresh = _photos_of(there)
    new = pd.concat([taught.loc[~of_corpus, ["sha256", "uri"]], fresh])
    seen = parameters.model_copy(update={"views": tuple(dict.fromkeys(("whole", *retraining.views)))})
    looked = parameters.model_copy(update={"views": ("whole",)})
    place = base_store if _holds(base_store, encoder) else store
    features, reports = cache_folders(((corpus_photos, old), (photo_archive, new)), encoder, place, seen)
    both = (corpus_photos, tested), (photo_archive, fresh)
    compared, champion_reports = cache_folders(both, champion.encoder, base_store, looked)
    return (
        features,
        compared,
        there,
        {
            "candidate": [report.model_dump(mode="json") for report in reports],
            "champion": [report.model_dump(mode="json") for report in champion_reports],
        },
    )


def _holds(store: FeatureStore, encoder: Encoder) -> bool:
    """Whether a store has features of this very encoder: weights, layer, input size and precision."""
    (whole,) = views_named(["whole"])
    return len(store.reader(encoder.fingerprint_of(whole))) > 0


def _photos_of(photos: Json) -> pd.DataFrame:
    chosen = EvaluationSet.model_validate(photos)
    return pd.DataFrame({"sha256": chosen.sha256s, "uri": chosen.uris})
