"""The nodes of a captioner that somebody else has trained: opened, looked through, taught on where asked."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from captionloop.pipelines.encoder_adaptation import nodes as adapting
from captionloop.pipelines.feature_caching.nodes import cache
from captionloop.pipelines.training.nodes import Results, teach_on_by_words

from captionloop.languages import language_of
from captionloop.photos import PhotoFolder
from captionloop.training.training_parameters import AdaptationParameters, PretrainedParameters
from captionloop.vision.feature_caching import CachingParameters
from captionloop.vision.feature_store import FeatureManifest, FeatureStore

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner
    from captionloop.vision.feature_store import CachedFeatures
else:  # Kedro resolves the hints of nodes; torch is not worth importing for that.
    Captioner = CachedFeatures = Any


def check_packages() -> None:
    """Raises `BundleError` where the extra is not installed; asked before a run computes anything."""
    from captionloop.captioner.pretrained.base_model import need_transformers

    need_transformers()


def open_captioner(  # noqa: PLR0917 - the inputs of the node
    images: pd.DataFrame,
    captions: pd.DataFrame,
    concepts: pd.DataFrame,
    photos: PhotoFolder,
    parameters: PretrainedParameters,
    checkpoints: Path,
    language: str,
) -> Captioner:
    """The model in its folder or on its hub as a captioner; of it, the vision tower is taught where asked."""
    source = parameters.given()
    if parameters.tower is None or parameters.tower.epochs == 0:
        return _opened(source, parameters, language, carries_base=parameters.carries_base)
    from captionloop.captioner.pretrained.base_model import find_base, open_base
    from captionloop.captioner.pretrained.vision_tower import TrainableTower

    folder = checkpoints / "taught"
    tower = TrainableTower.in_folder(open_base(find_base(source)), folder)
    adapting.finetune_encoder(
        images, captions, concepts, photos, tower, parameters.tower, checkpoints, language
    )
    taught = _opened(str(folder), parameters, language, carries_base=True)
    told = {"of": source, "training": parameters.tower.model_dump(mode="json")}
    return replace(taught, lineage=taught.lineage | {"tower": told})


def _opened(source: str, parameters: PretrainedParameters, language: str, *, carries_base: bool) -> Captioner:
    from captionloop.captioner.pretrained.pretrained_family import open_captioner

    return open_captioner(
        source,
        parameters.name,
        parameters.decoding,
        prompt=parameters.prompt,
        lora=parameters.lora,
        precision=parameters.tower_precision,
        language=language_of(language),
        carries_base=carries_base,
    )


def cache_features(
    images: pd.DataFrame,
    photos: PhotoFolder,
    captioner: Captioner,
    store: FeatureStore,
    parameters: CachingParameters,
) -> tuple[FeatureManifest, dict[str, Any]]:
    """What the captioner's own tower sees of every photo, whole; tells what is there now."""
    whole = parameters.model_copy(update={"views": ("whole",)})
    manifest, report = cache(images, photos, captioner.encoder, store, whole)
    return manifest, report


def finetune_captioner(  # noqa: PLR0917 - a node's inputs
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: CachedFeatures,
    start: Captioner,
    parameters: PretrainedParameters,
    checkpoints: Path,
) -> Results:
    """The captioner taught on by the corpus, and its curves; with no epochs it stays as it is: zero-shot."""
    if parameters.epochs == 0:
        from captionloop.training.train_captioner import corpus_digest
        from captionloop.training.training_run import TrainingCurves

        none = TrainingCurves().to_frame()
        lineage = start.lineage | {"corpus_sha256": corpus_digest(images, captions), "parent": None}
        return replace(start, lineage=lineage), none, none
    taught, curves, metrics = teach_on_by_words(
        images=images,
        captions=captions,
        features=features,
        start=start,
        parameters=parameters.of_training(start.decoder.config),
        checkpoints=checkpoints,
    )
    return (
        replace(taught, lineage=taught.lineage | start.lineage, carries_base=start.carries_base),
        curves,
        metrics,
    )


def find_concepts(
    images: pd.DataFrame, captions: pd.DataFrame, parameters: AdaptationParameters, language: str
) -> pd.DataFrame:
    """What the captions name, for a retraining to compare ratings with; a small corpus may name little."""
    untaught = parameters.model_copy(update={"epochs": 0})
    named: pd.DataFrame = adapting.find_concepts(images, captions, untaught, language)
    return named
