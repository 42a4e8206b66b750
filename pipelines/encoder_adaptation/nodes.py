"""The nodes of encoder adaptation."""

from pathlib import Path
from typing import Any

import pandas as pd

from captionloop.languages import language_of
from captionloop.photos import PhotoFolder
from captionloop.training.training_parameters import AdaptationParameters, EncoderParameters
from captionloop.vision.concepts import choose_concepts, rank_concepts
from captionloop.vision.encoder import Encoder, PretrainedWeights


def find_concepts(
    images: pd.DataFrame, captions: pd.DataFrame, parameters: AdaptationParameters, language: str
) -> pd.DataFrame:
    """The words of the training captions that say something about the picture."""
    train = images.loc[images["split"] == "train", "image_id"]
    taught = captions[captions["image_id"].isin(train)]
    choose = rank_concepts if parameters.epochs == 0 else choose_concepts
    return choose(taught, parameters.concepts, language_of(language))


def build_encoder(weights: PretrainedWeights, parameters: EncoderParameters) -> Encoder:
    """The encoder as it is before it has seen the corpus: with the weights it was given, or random ones."""
    spec = parameters.spec().model_copy(update={"licence": weights.licence(parameters.architecture)})
    return Encoder.build(spec, weights.tensors(parameters.architecture), parameters.seed)


def finetune_encoder(  # noqa: PLR0917 - the inputs of the node
    images: pd.DataFrame,
    captions: pd.DataFrame,
    concepts: pd.DataFrame,
    photos: PhotoFolder,
    encoder: Encoder,
    parameters: AdaptationParameters,
    checkpoints: Path,
    language: str,
) -> tuple[Encoder, pd.DataFrame, pd.DataFrame]:
    """Teaches the encoder to name the concepts; with no epochs to teach it in, it stays as it is.

    Its curves are there twice: for the report, and for MLflow.
    """
    from captionloop.training.train_encoder import no_curves, train_encoder

    if parameters.epochs == 0:
        return encoder, no_curves(), no_curves()
    named, folders = concepts["concept"].tolist(), {"corpus": photos}
    spoken = language_of(language)
    taught = train_encoder(images, captions, named, folders, encoder, parameters, checkpoints, spoken)
    return taught.encoder, taught.curves, taught.curves


def draw_curves(curves: pd.DataFrame) -> Any:
    """Loss and mean average precision over the epochs."""
    from captionloop.evaluation.figures import encoder_curves_figure

    return encoder_curves_figure(curves)
