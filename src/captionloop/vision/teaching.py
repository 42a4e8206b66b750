"""Teaching an encoder from tables: photos and captions in, a taught encoder out."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from captionloop.corpus.photos import PhotoFolder
from captionloop.errors import CorpusError
from captionloop.language.languages import ENGLISH, Language
from captionloop.vision.adaptation import Adapted, Lessons, adapt
from captionloop.vision.concepts import concept_targets
from captionloop.vision.encoder import Encoder
from captionloop.vision.parameters import AdaptationParameters
from captionloop.vision.pixels import decode_photos

CURVES = ("epoch", "train_loss", "val_loss", "val_map", "learning_rate", "seconds")


def teach(  # noqa: PLR0917 - the tables, then what is done with them
    images: pd.DataFrame,
    captions: pd.DataFrame,
    concepts: Sequence[str],
    photos: Mapping[str, PhotoFolder],
    encoder: Encoder,
    parameters: AdaptationParameters,
    workbench: Path,
    language: Language = ENGLISH,
) -> Adapted:
    """Teaches the encoder the concepts of the training split, and watches the validation split.

    `photos` are the folders by the images' `source`. `workbench` is a folder for decoded photos and the
    checkpoint; with other inputs it begins anew there.

    Raises:
        CorpusError: there are no training photos, or one is missing.
        ImageError: a photo cannot be decoded.
        EncoderError: `parameters.frozen` is not a layer of the encoder.
    """
    chosen = pd.concat([images[images["split"] == "train"], images[images["split"] == "val"]])
    train = int((chosen["split"] == "train").sum())
    if not train:
        raise CorpusError("no photo is in the training split: there is nothing to teach the encoder")
    targets = concept_targets(captions, concepts, chosen["image_id"].tolist(), language)
    size = parameters.input_size or encoder.spec.input_size
    pixels_path = workbench / f"pixels-{_digest(chosen['sha256'].tolist(), size)}.bin"
    digest = _digest(encoder.fingerprint, pixels_path.name, targets.tobytes().hex(), parameters.model_dump())
    checkpoint = workbench / f"checkpoint-{digest}.pt"
    _tidy(workbench, keep=(pixels_path, checkpoint))
    places = [(photos[source], uri) for source, uri in zip(chosen["source"], chosen["uri"], strict=True)]
    pixels = decode_photos(places, size, pixels_path)
    try:
        pupil = encoder.respecified(input_size=size)
        adapted = adapt(pupil, Lessons(pixels, targets, train), parameters, checkpoint)
    finally:
        pixels.close()
    return replace(adapted, encoder=adapted.encoder.respecified(input_size=encoder.spec.input_size))


def no_curves() -> pd.DataFrame:
    """The curves of an encoder that was not taught."""
    return pd.DataFrame({name: np.empty(0) for name in CURVES})


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _tidy(workbench: Path, keep: tuple[Path, ...]) -> None:
    """Removes what teachings of other inputs left."""
    workbench.mkdir(parents=True, exist_ok=True)
    for path in [*workbench.glob("pixels-*.bin"), *workbench.glob("checkpoint-*.pt")]:
        if path not in keep:
            path.unlink()
