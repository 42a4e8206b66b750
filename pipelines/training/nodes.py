"""The nodes of training: a captioner taught by words, or taught on by reward, and several as one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.model_config import DecodingOptions
from captionloop.errors import ConfigurationError
from captionloop.languages import ENGLISH, language_of
from captionloop.training.training_parameters import (
    CrossEntropyParameters,
    EnsembleParameters,
    SelfCriticalParameters,
    in_tokens,
)

if TYPE_CHECKING:
    from captionloop.tokenizer import CaptionTokenizer
    from captionloop.training.train_captioner import NewWordInit, TrainingResult
    from captionloop.vision.encoder import Encoder
    from captionloop.vision.feature_store import CachedFeatures
else:  # Kedro resolves the hints of nodes for every command; torch is not worth importing for that.
    CachedFeatures = CaptionTokenizer = Encoder = NewWordInit = TrainingResult = Any

Results = tuple[Captioner, pd.DataFrame, pd.DataFrame]
"""A captioner and its curves, these twice: for the report, and for MLflow."""


def train_cross_entropy(
    *,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: CachedFeatures,
    encoder: Encoder,
    parameters: CrossEntropyParameters,
    checkpoints: Path,
    language: str = ENGLISH.code,
) -> Results:
    """Teacher forcing from fresh weights: the captioner that did best on validation, and its curves."""
    from captionloop.training.train_captioner import train

    if features.fingerprint != encoder.fingerprint:
        raise ConfigurationError(
            f"The cached features were seen by encoder {features.fingerprint[:12]}, the encoder is now "
            f"{encoder.fingerprint[:12]}: "
            "kedro run --from-nodes feature_caching.cache_features, without --only-missing-outputs"
        )
    spoken = language_of(language)
    parameters = in_tokens(parameters, spoken)
    trained = train(images, captions, features, parameters, checkpoints=checkpoints, language=spoken)
    return _results(
        trained,
        images,
        captions,
        encoder=encoder,
        features=features,
        parameters=parameters,
        decoding=parameters.decoding,
        start=None,
    )


def teach_on_by_words(
    *,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: CachedFeatures,
    start: Captioner,
    parameters: CrossEntropyParameters,
    checkpoints: Path,
    keep_last: bool = False,
    grounding: NewWordInit | None = None,
    tokenizer: CaptionTokenizer | None = None,
) -> Results:
    """Teacher forcing from the weights of another captioner (warm start), its vocabulary grown.

    `tokenizer`: the vocabulary, where it has grown already.
    """
    from captionloop.training.train_captioner import train

    trained = train(
        images,
        captions,
        features,
        parameters,
        checkpoints=checkpoints,
        start=start,
        keep_last=keep_last,
        new_word_init=grounding,
        tokenizer=tokenizer,
    )
    return _results(
        trained,
        images,
        captions,
        encoder=start.encoder,
        features=features,
        parameters=parameters,
        decoding=parameters.decoding,
        start=start,
    )


def train_self_critical(
    *,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: CachedFeatures,
    start: Captioner,
    parameters: SelfCriticalParameters,
    checkpoints: Path,
) -> Results:
    """Self-critical sequence training of a captioner that was taught by words."""
    from captionloop.training.train_captioner import train_self_critically

    parameters = in_tokens(parameters, start.tokenizer.language)
    trained = train_self_critically(
        images, captions, features, parameters, checkpoints=checkpoints, start=start
    )
    decoding = parameters.decoding or start.decoding
    return _results(
        trained,
        images,
        captions,
        encoder=start.encoder,
        features=features,
        parameters=parameters,
        decoding=decoding,
        start=start,
    )


def ensemble_captioners(
    *,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: CachedFeatures,
    encoder: Encoder,
    by_words: Captioner,
    by_reward: Captioner,
    words: CrossEntropyParameters,
    reward: SelfCriticalParameters,
    parameters: EnsembleParameters,
    checkpoints: Path,
) -> Captioner:
    """A captioner, the one taught on from it by reward, and a sibling of the latter for each seed, as one."""
    from captionloop.captioner.ensembling import build_ensemble

    if reward.seed in parameters.seeds:
        raise ConfigurationError(
            f"models.{parameters.name}.seeds: {reward.seed} is the seed of '{by_reward.name}', which is a"
            " member already; give others."
        )
    members = [by_reward, by_words]
    # Their neighbours are those of the first member: nobody asks a sibling for a consensus.
    alone = {"decoding": words.decoding.model_copy(update={"consensus": None})}
    for seed in parameters.seeds:
        place = checkpoints / f"seed_{seed}"
        start, _, _ = train_cross_entropy(
            images=images,
            captions=captions,
            features=features,
            encoder=encoder,
            parameters=words.model_copy(update={"seed": seed, **alone}),
            checkpoints=place / "by_words",
            language=by_words.tokenizer.language.code,
        )
        sibling, _, _ = train_self_critical(
            images=images,
            captions=captions,
            features=features,
            start=start,
            parameters=reward.model_copy(update={"seed": seed, "decoding": None}),
            checkpoints=place / "by_reward",
        )
        members.append(sibling)
    return build_ensemble(members, parameters.name, parameters.decoding or by_reward.decoding)


def join_captioners(parameters: EnsembleParameters, **captioners: Captioner) -> Captioner:
    """The captioners `<member>.captioner` of `parameters.members` as one, in this order."""
    from captionloop.captioner.ensembling import build_ensemble

    members = [captioners[f"{name}.captioner"] for name in parameters.members]
    return build_ensemble(members, parameters.name, parameters.decoding or members[0].decoding)


def _results(
    trained: TrainingResult,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    *,
    encoder: Encoder,
    features: CachedFeatures,
    parameters: CrossEntropyParameters | SelfCriticalParameters,
    decoding: DecodingOptions,
    start: Captioner | None,
) -> Results:
    from captionloop.training.train_captioner import build_index, corpus_digest, lineage

    curves, neighbours = trained.curves, None
    if decoding.consensus is not None:
        neighbours = build_index(
            images,
            captions,
            features,
            trained.tokenizer,
            max_length=parameters.max_length,
            known=None if start is None else start.neighbours,
        )
    captioner = Captioner(
        name=parameters.name,
        encoder=encoder,
        decoder=trained.decoder,
        tokenizer=trained.tokenizer,
        decoding=decoding,
        neighbours=neighbours,
        metrics={"validation": {"CIDEr-D": curves.best_cider, "epoch": curves.best_epoch}},
        lineage=lineage(
            captions,
            corpus=corpus_digest(images, captions),
            features=encoder.fingerprint,
            training=parameters.model_dump(mode="json"),
            parent=start,
        ),
    )
    return captioner, curves.to_frame(), curves.to_frame()
