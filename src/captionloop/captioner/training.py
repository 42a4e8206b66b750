"""Training a captioner: from tables and cached features to a decoder that did best on validation."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from captionloop.captioner.architectures import DecoderConfig, with_dropout
from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders import Decoder, build_decoder
from captionloop.captioner.fitting import fit
from captionloop.captioner.grounding import Grounding, ground_new_words
from captionloop.captioner.judge import Judge
from captionloop.captioner.neighbours import Neighbours
from captionloop.captioner.parameters import FitParameters, SelfCriticalParameters, TrainingParameters
from captionloop.captioner.photos import CaptionedPhotos, Features
from captionloop.captioner.progress import Progress
from captionloop.captioner.self_critical import TeachingByReward
from captionloop.captioner.teaching import Material, TeachingByWords
from captionloop.captioner.workbench import Workbench
from captionloop.errors import ConfigurationError
from captionloop.language.languages import ENGLISH, Language
from captionloop.language.tokenizer import CaptionTokenizer

_RECIPE = 3  # raise it when the same inputs give another result


@dataclass(frozen=True)
class Trained:
    """A decoder with its best weights, its vocabulary, and how training went."""

    decoder: Decoder
    tokenizer: CaptionTokenizer
    progress: Progress


def train(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: Features,
    parameters: TrainingParameters,
    *,
    workbench: Path,
    start: Captioner | None = None,
    keep_last: bool = False,
    grounding: Grounding | None = None,
    tokenizer: CaptionTokenizer | None = None,
    language: Language = ENGLISH,
) -> Trained:
    """Teach a decoder by words, from fresh weights or (warm start) from those of `start`.

    The captions are in `language`; a warm start goes on in that of `start`.

    A warm start keeps the decoder's architecture and vocabulary, which grows by the words that are new; how
    much is dropped while it is taught is up to `parameters.decoder`.
    `keep_last` takes the last epoch's weights instead of those that did best on `val`: where `val` does not
    hold what is to be learnt, it would choose what has learnt least.
    `tokenizer` is that of `start`, grown already: decoders whose weights are averaged need one vocabulary.
    New words of a warm start begin as the average word, or where `grounding` sees them.
    Killed at any moment, the same call goes on from the last whole epoch to the same result; finished, it
    returns at once.

    Raises:
        CorpusError: `train` or `val` has no captioned photo. ConfigurationError: views, features or the
        architecture of `start` do not fit.
    """
    _check(features, parameters, start)
    digest = digest_of(images, captions, features, parameters, start)
    if tokenizer is None:
        tokenizer = _tokenizer(images, captions, parameters, start, language)
    else:
        digest += f"-{hashlib.sha256(json.dumps(tokenizer.words).encode()).hexdigest()}"
    if keep_last:
        digest += "-last"
    if grounding is not None:
        digest += f"-{grounding.digest()}"
    if tokenizer.language != ENGLISH:
        digest += f"-{tokenizer.language.code}"
    material = _material(images, captions, features, tokenizer, parameters)
    torch.manual_seed(parameters.seed)
    decoder = _decoder(tokenizer, features, parameters, start, grounding)
    bench = Workbench(workbench, digest)
    teaching = TeachingByWords(
        decoder,
        material,
        parameters,
        parameters.max_length,
        bench,
        captions_per_photo=parameters.captions_per_photo,
        label_smoothing=parameters.label_smoothing,
        doubly_stochastic=parameters.doubly_stochastic,
        keep_last=keep_last,
    )
    progress = fit(teaching, bench)
    decoder.load_state_dict(bench.best())
    return Trained(decoder.eval(), tokenizer, progress)


def train_self_critically(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: Features,
    parameters: SelfCriticalParameters,
    *,
    workbench: Path,
    start: Captioner,
) -> Trained:
    """Teach the decoder of `start` on by reward (Rennie et al. 2017); resumes as `train` does."""
    _check(features, parameters, start)
    digest = digest_of(images, captions, features, parameters, start)
    tokenizer = start.tokenizer
    material = _material(images, captions, features, tokenizer, parameters)
    torch.manual_seed(parameters.seed)
    decoder = _copy(start, start.decoder.config)
    bench = Workbench(workbench, digest)
    progress = fit(TeachingByReward(decoder, material, parameters, bench), bench)
    decoder.load_state_dict(bench.best())
    return Trained(decoder.eval(), tokenizer, progress)


def digest_of(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: Features,
    parameters: FitParameters,
    start: Captioner | None,
) -> str:
    """A digest of everything that the result of a training depends on: the later search is not."""
    recipe = parameters.model_dump_json(exclude={"decoding"})
    digest = hashlib.sha256(f"{_RECIPE} {features.fingerprint} {recipe}".encode())
    digest.update(corpus_digest(images, captions).encode())
    if start is not None:
        for name, weight in start.decoder.state_dict().items():
            digest.update(name.encode() + weight.cpu().numpy().tobytes())
        digest.update(json.dumps(start.tokenizer.words).encode())
    return digest.hexdigest()


def corpus_digest(images: pd.DataFrame, captions: pd.DataFrame) -> str:
    """SHA-256 over the photos and captions of `train` and `val`."""
    taught = images[images["split"].isin(["train", "val"])].sort_values("image_id")
    said = captions[captions["image_id"].isin(taught["image_id"])].sort_values("caption_id")
    digest = hashlib.sha256()
    for rows in (taught[["image_id", "sha256", "split"]], said[["image_id", "text", "weight"]]):
        digest.update(rows.to_csv(index=False).encode())
    return digest.hexdigest()


def _check(features: Features, parameters: FitParameters, start: Captioner | None) -> None:
    missing = sorted(set(parameters.views) - set(features.views))
    if missing:
        raise ConfigurationError(
            f"training.views: {', '.join(missing)} is not cached (there is {', '.join(features.views)});"
            " add it to feature_caching.views or leave it out."
        )
    if start is not None and start.encoder.fingerprint != features.fingerprint:
        raise ConfigurationError(
            f"Warm start: captioner '{start.name}' sees through encoder {start.encoder.fingerprint[:12]}, the"
            f" features are of {features.fingerprint[:12]}; cache features with the captioner's own encoder."
        )


def _tokenizer(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    parameters: TrainingParameters,
    start: Captioner | None,
    language: Language,
) -> CaptionTokenizer:
    taught = images.loc[images["split"] == "train", "image_id"]
    texts = captions.loc[captions["image_id"].isin(taught), "text"].tolist()
    vocabulary = parameters.vocabulary
    if start is not None:
        return start.tokenizer.grown(texts, min_frequency=vocabulary.min_frequency)
    return CaptionTokenizer.train(
        texts, min_frequency=vocabulary.min_frequency, subwords=vocabulary.subwords, language=language
    )


def _decoder(
    tokenizer: CaptionTokenizer,
    features: Features,
    parameters: TrainingParameters,
    start: Captioner | None,
    grounding: Grounding | None,
) -> Decoder:
    if start is not None:
        if with_dropout(parameters.decoder, 0, 0) != with_dropout(start.decoder.config, 0, 0):
            raise ConfigurationError(
                f"Warm start: '{start.name}' is of another architecture than training.decoder says; only its"
                " dropout may differ."
            )
        decoder = _copy(start, parameters.decoder)
        decoder.grow(tokenizer.vocabulary_size)
        if grounding is not None:
            ground_new_words(decoder, tokenizer, start.tokenizer.vocabulary_size, grounding)
        return decoder
    return build_decoder(
        parameters.decoder, vocabulary_size=tokenizer.vocabulary_size, channels=features.channels
    )


def _copy(start: Captioner, config: DecoderConfig) -> Decoder:
    old = start.decoder
    decoder = build_decoder(config, vocabulary_size=old.vocabulary_size, channels=old.channels)
    decoder.load_state_dict({name: weight.cpu() for name, weight in old.state_dict().items()})
    return decoder


def _material(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: Features,
    tokenizer: CaptionTokenizer,
    parameters: TrainingParameters | SelfCriticalParameters,
) -> Material:
    train = CaptionedPhotos.from_tables(
        images, captions, "train", tokenizer, max_length=parameters.max_length
    )
    photos = parameters.validation.photos
    val = CaptionedPhotos.from_tables(
        images, captions, "val", tokenizer, max_length=parameters.max_length, photos=photos
    )
    return Material(train, val, features, Judge(val, tokenizer))


def remember(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: Features,
    tokenizer: CaptionTokenizer,
    *,
    max_length: int,
    known: Neighbours | None = None,
) -> Neighbours:
    """The training photos of these tables; or those that are `known`, and what came with feedback.

    Whoever is taught on sees a part of the corpus again, and does not forget the rest of it.

    Raises:
        CorpusError: as `Neighbours.collect`, or the training split has no photo with a caption.
    """

    def photos(rows: pd.DataFrame) -> CaptionedPhotos:
        return CaptionedPhotos.from_tables(rows, captions, "train", tokenizer, max_length=max_length)

    if known is None:
        return Neighbours.collect(photos(images), features)
    fresh = images[images["source"] == "feedback"]
    return known if fresh.empty else known.joined_by(photos(fresh), features)
