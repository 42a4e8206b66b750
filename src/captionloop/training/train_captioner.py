"""Trains captioners from tables and cached features; new words start from the concept classifier.

A decoder overfits a word of which there are a handful of corrections; the concept classifier of encoder
adaptation learns nothing else, and generalises better from the same photos. In the deep output layer (Xu et
al. 2015, equation 7) the context z raises the score of a word w by E_w L_z z; so E_w is initialised such that
E_w L_z points where the classifier's weights for w point. Hendricks et al. 2016 (arXiv 1511.05284) give new
words the weights of similar known words; here the photos' features decide. Training goes on from there.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.consensus import NeighbourIndex
from captionloop.captioner.decoders import Decoder, build_decoder
from captionloop.captioner.decoders.ensemble import Ensemble
from captionloop.captioner.decoders.show_attend_tell import ShowAttendTell
from captionloop.captioner.model_config import DecoderConfig, with_dropout
from captionloop.errors import ConfigurationError
from captionloop.languages import ENGLISH, Language
from captionloop.tokenizer import CaptionTokenizer
from captionloop.training.caption_data import CaptionedPhotos, Features
from captionloop.training.caption_module import CaptionData, CrossEntropyModule, ValidationCider
from captionloop.training.self_critical import SelfCriticalModule
from captionloop.training.trainer import fit
from captionloop.training.training_parameters import (
    CrossEntropyParameters,
    SelfCriticalParameters,
    TrainingParameters,
)
from captionloop.training.training_run import TrainingCurves, TrainingRun
from captionloop.vision.concepts import forms_of


def lineage(
    captions: pd.DataFrame, *, corpus: str, features: str, training: dict[str, Any], parent: Captioner | None
) -> dict[str, Any]:
    """Git commit, corpus, features, parameters, the captioner it was trained on from, and feedback used.

    `corpus` and `features` are digests; `parent` is None for a captioner from fresh weights.
    """
    return {
        "git_commit": _git_commit(),
        "corpus_sha256": corpus,
        "encoder_fingerprint": features,
        "training": training,
        "parent": None if parent is None else {"name": parent.name, "lineage": parent.lineage},
        "feedback_rows": int((captions["source"] != "human").sum()),
    }


def _git_commit() -> str | None:
    """The commit of this code, from git, or, in an image without git, as noted when it was built."""
    noted = os.environ.get("CAPTIONLOOP_COMMIT")
    if noted:
        return noted
    command = ["git", "rev-parse", "HEAD"]
    try:
        found = subprocess.run(  # noqa: S603
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False
        )
    except OSError:
        return None
    return found.stdout.strip() or None


_SMALLEST = 0.05
"""Directions that L_z shrinks to less than this, of its largest, are left out: they would blow up E_w."""


@dataclass(frozen=True)
class NewWordInit:
    """The classifier's weights by concept, and how strongly new words are initialised from them.

    Attributes:
        concept_weights: columns `concept` and `weights`, the classifier's `[channels]` for each concept.
        strength: length of E_w L_z along the classifier's weights, as a multiple of that of known words.
    """

    concept_weights: pd.DataFrame
    strength: float

    def digest(self) -> str:
        """SHA-256 of all of it."""
        table = self.concept_weights.to_json(orient="values", double_precision=15)
        return hashlib.sha256(f"{self.strength} {table}".encode()).hexdigest()


def init_new_words(
    decoder: Decoder, tokenizer: CaptionTokenizer, old_size: int, new_word_init: NewWordInit
) -> None:
    """Initialises the words behind the first `old_size` from the classifier's weights, where it has them.

    Only `show_attend_tell` on the encoder's own features has the direct path from features to words that this
    needs; other decoders stay as they are.

    Args:
        decoder: its vocabulary has grown already.
        tokenizer: of that vocabulary.
        old_size: how many words there were before.
        new_word_init: see there.
    """
    if isinstance(decoder, Ensemble):
        for member in decoder.decoders:
            init_new_words(member, tokenizer, old_size, new_word_init)
    elif isinstance(decoder, ShowAttendTell) and decoder.project is None:
        place = {word: token for token, word in enumerate(tokenizer.words)}
        directions = _directions(new_word_init.concept_weights)
        seen = {place[word]: row for word, row in directions.items() if word in place}
        _init_vectors(decoder, seen, old_size, new_word_init.strength)


@torch.no_grad()
def _init_vectors(decoder: ShowAttendTell, seen: Mapping[int, Tensor], size: int, strength: float) -> None:
    old, new = [token for token in seen if token < size], [token for token in seen if token >= size]
    if len(old) < 2 or not new:
        return
    words = decoder.words.vectors if decoder.words.scores is None else decoder.words.scores  # E, [V, E]
    l_z = decoder.output_context.weight  # L_z, [E, C]
    directions = torch.stack([seen[token] for token in old])  # [W, C]
    average = directions.mean(0)
    directions = directions - average
    projected = (words[old] - words[old].mean(0)) @ l_z  # E_w L_z, [W, C]
    slope = (projected * directions).sum() / directions.square().sum().clamp_min(1e-12)  # least squares
    wanted = slope.clamp_min(0) * (torch.stack([seen[token] for token in new]) - average)
    words[new] += strength * wanted @ torch.linalg.pinv(l_z, rtol=_SMALLEST)


def _directions(concept_weights: pd.DataFrame) -> dict[str, Tensor]:
    """The classifier's weights by word, `[C]`: the mean over its concepts, the word and its stem."""
    rows: dict[str, list[Tensor]] = {}
    for concept, weights in zip(concept_weights["concept"], concept_weights["weights"], strict=True):
        for word in forms_of(concept):
            rows.setdefault(word, []).append(torch.from_numpy(np.array(weights, np.float32)))
    return {word: torch.stack(several).mean(0) for word, several in rows.items()}


_RECIPE = 3  # raise it when the same inputs give another result


@dataclass(frozen=True)
class TrainingResult:
    """A decoder with its best weights, its vocabulary, and how training went."""

    decoder: Decoder
    tokenizer: CaptionTokenizer
    curves: TrainingCurves


def train(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: Features,
    parameters: CrossEntropyParameters,
    *,
    checkpoints: Path,
    start: Captioner | None = None,
    keep_last: bool = False,
    new_word_init: NewWordInit | None = None,
    tokenizer: CaptionTokenizer | None = None,
    language: Language = ENGLISH,
) -> TrainingResult:
    """Train a decoder with cross-entropy, from fresh weights or (warm start) from those of `start`.

    The captions are in `language`; a warm start goes on in that of `start`.

    A warm start keeps the decoder's architecture and vocabulary, which is extended by the new words;
    dropout is that of `parameters.decoder`.
    `keep_last` takes the last epoch's weights instead of those that did best on `val`: where `val` does not
    hold what is to be learnt, the first epochs would do best.
    `tokenizer` is that of `start`, extended already: decoders whose weights are averaged need one vocabulary.
    New words of a warm start begin as the average word, or as `new_word_init` says.
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
    if new_word_init is not None:
        digest += f"-{new_word_init.digest()}"
    if tokenizer.language != ENGLISH:
        digest += f"-{tokenizer.language.code}"
    data = _caption_data(images, captions, features, tokenizer, parameters)
    torch.manual_seed(parameters.seed)
    decoder = _decoder(tokenizer, features, parameters, start, new_word_init)
    run = TrainingRun(checkpoints, digest)
    module = CrossEntropyModule(
        decoder,
        data,
        parameters,
        parameters.max_length,
        run,
        captions_per_photo=parameters.captions_per_photo,
        label_smoothing=parameters.label_smoothing,
        doubly_stochastic=parameters.doubly_stochastic,
        keep_last=keep_last,
    )
    curves = fit(module, run)
    decoder.load_state_dict(run.best())
    return TrainingResult(decoder.eval(), tokenizer, curves)


def train_self_critically(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: Features,
    parameters: SelfCriticalParameters,
    *,
    checkpoints: Path,
    start: Captioner,
) -> TrainingResult:
    """Self-critical training of the decoder of `start` (Rennie et al. 2017); resumes as `train` does."""
    _check(features, parameters, start)
    digest = digest_of(images, captions, features, parameters, start)
    tokenizer = start.tokenizer
    data = _caption_data(images, captions, features, tokenizer, parameters)
    torch.manual_seed(parameters.seed)
    decoder = _copy(start, start.decoder.config)
    run = TrainingRun(checkpoints, digest)
    curves = fit(SelfCriticalModule(decoder, data, parameters, run), run)
    decoder.load_state_dict(run.best())
    return TrainingResult(decoder.eval(), tokenizer, curves)


def digest_of(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: Features,
    parameters: TrainingParameters,
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
    used_images = images[images["split"].isin(["train", "val"])].sort_values("image_id")
    used_captions = captions[captions["image_id"].isin(used_images["image_id"])].sort_values("caption_id")
    digest = hashlib.sha256()
    for rows in (used_images[["image_id", "sha256", "split"]], used_captions[["image_id", "text", "weight"]]):
        digest.update(rows.to_csv(index=False).encode())
    return digest.hexdigest()


def _check(features: Features, parameters: TrainingParameters, start: Captioner | None) -> None:
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
    parameters: CrossEntropyParameters,
    start: Captioner | None,
    language: Language,
) -> CaptionTokenizer:
    train_ids = images.loc[images["split"] == "train", "image_id"]
    texts = captions.loc[captions["image_id"].isin(train_ids), "text"].tolist()
    vocabulary = parameters.vocabulary
    if start is not None:
        return start.tokenizer.extended(texts, min_frequency=vocabulary.min_frequency)
    return CaptionTokenizer.train(
        texts, min_frequency=vocabulary.min_frequency, subwords=vocabulary.subwords, language=language
    )


def _decoder(
    tokenizer: CaptionTokenizer,
    features: Features,
    parameters: CrossEntropyParameters,
    start: Captioner | None,
    new_word_init: NewWordInit | None,
) -> Decoder:
    if start is not None:
        if with_dropout(parameters.decoder, 0, 0) != with_dropout(start.decoder.config, 0, 0):
            raise ConfigurationError(
                f"Warm start: '{start.name}' is of another architecture than training.decoder says; only its"
                " dropout may differ."
            )
        decoder = _copy(start, parameters.decoder)
        decoder.extend_vocabulary(tokenizer.vocabulary_size)
        if new_word_init is not None:
            init_new_words(decoder, tokenizer, start.tokenizer.vocabulary_size, new_word_init)
        return decoder
    return build_decoder(
        parameters.decoder, vocabulary_size=tokenizer.vocabulary_size, channels=features.channels
    )


def _copy(start: Captioner, config: DecoderConfig) -> Decoder:
    old = start.decoder
    decoder = build_decoder(config, vocabulary_size=old.vocabulary_size, channels=old.channels)
    decoder.load_state_dict({name: weight.cpu() for name, weight in old.state_dict().items()})
    return decoder


def _caption_data(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: Features,
    tokenizer: CaptionTokenizer,
    parameters: CrossEntropyParameters | SelfCriticalParameters,
) -> CaptionData:
    train = CaptionedPhotos.from_tables(
        images, captions, "train", tokenizer, max_length=parameters.max_length
    )
    photos = parameters.validation.photos
    val = CaptionedPhotos.from_tables(
        images, captions, "val", tokenizer, max_length=parameters.max_length, photos=photos
    )
    return CaptionData(train, val, features, ValidationCider(val, tokenizer))


def build_index(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    features: Features,
    tokenizer: CaptionTokenizer,
    *,
    max_length: int,
    known: NeighbourIndex | None = None,
) -> NeighbourIndex:
    """An index of the training photos of these tables; or the index `known`, extended by those of feedback.

    Retraining reads only a part of the corpus again: the index keeps the rest of it.

    Raises:
        CorpusError: as `NeighbourIndex.collect`, or the training split has no photo with a caption.
    """

    def photos(rows: pd.DataFrame) -> CaptionedPhotos:
        return CaptionedPhotos.from_tables(rows, captions, "train", tokenizer, max_length=max_length)

    if known is None:
        return NeighbourIndex.collect(photos(images), features)
    fresh = images[images["source"] == "feedback"]
    return known if fresh.empty else known.extended_with(photos(fresh), features)
