"""Training tables of a retraining: feedback, and a replayed share of the corpus.

Rehearsal of old examples is the plainest remedy for catastrophic forgetting (Robins 1995), and with cached
features it is cheap.
"""

from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from captionloop.corpus.tables import CAPTIONS, IMAGES, table
from captionloop.errors import CorpusError
from captionloop.languages import ENGLISH, Language
from captionloop.training.training_parameters import AdaptationParameters
from captionloop.vision.concepts import extend_concepts


class RetrainingParameters(BaseModel):
    """All of `params:retraining`: how the champion's origin is taught on. All else is as in its bundle.

    Attributes:
        replay: captions of the corpus for each caption of the feedback, as far as there are as many.
        min_captions: but at least so many captions of the corpus; both for each of the decoders.
        repeat: how often an epoch shows each photo of the feedback.
        min_frequency: how often a new word must occur in the feedback to become part of the vocabulary.
        epochs, batch_size, learning_rate, warmup, ema_decay, label_smoothing: of the teaching.
        dropout, feature_dropout: of the decoder while it is taught on; None leaves what it was taught with.
            A few hundred captions are soon known by heart, and take more of it than a corpus.
        new_word_strength: how strongly a new word is led, to begin with, by what the encoder's classifier
            looks for, times as strongly as known words are (`train_captioner.py`); 0 leaves it the average
            word.
        views: of the cached features.
        seed: of the photos that are replayed and of the teaching.
        decoders: how many are taught, each with a seed of its own and other captions of the corpus; the mean
            of them is kept (`captioner/ensembling.py`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    replay: float = Field(3.0, ge=0)
    min_captions: int = Field(2200, ge=0)
    repeat: int = Field(5, ge=1)
    min_frequency: int = Field(2, ge=1)
    epochs: int = Field(16, ge=1)
    batch_size: int = Field(80, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    ema_decay: float = Field(0.98, ge=0, lt=1)
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    dropout: float | None = Field(None, ge=0, lt=1)
    feature_dropout: float | None = Field(None, ge=0, lt=1)
    new_word_strength: float = Field(4.0, ge=0)
    views: tuple[str, ...] = Field(("whole",), min_length=1)
    seed: int = 0
    decoders: int = Field(3, ge=1)

    def of_training(self, decoder: int) -> dict[str, Any]:
        """Those that every training has, by its names for them, of one of the decoders: 0, 1, ..."""
        own = {
            "replay",
            "min_captions",
            "repeat",
            "min_frequency",
            "dropout",
            "feature_dropout",
            "new_word_strength",
            "decoders",
        }
        return self.model_dump(exclude=own) | {"seed": self.seed + decoder}


class ExaminationParameters(BaseModel):
    """How references that do not fit their photos are found (`label_noise.py`).

    Attributes:
        rounds: after each, the next is taught only by what was not doubted; 0 examines nothing.
        folds: the photos are divided into so many, each examined by what the others taught.
        min_photos: fewer teach too little to tell.
        epochs, replay: of these teachings, which need not be as good as the one that is kept.
        max_noise_rate: the largest share of wrong references that is believed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rounds: int = Field(1, ge=0)
    folds: int = Field(4, ge=2)
    min_photos: int = Field(30, ge=2)
    epochs: int = Field(8, ge=1)
    replay: int = Field(200, ge=0)
    max_noise_rate: float = Field(0.2, gt=0, lt=0.5)


class EncoderRetrainingParameters(AdaptationParameters):
    """All of `params:retraining_encoder`: how the origin's encoder is taught on.

    With no epochs it stays as it is.

    Attributes:
        replay: photos of the corpus, with all their captions.
        repeat: how often an epoch shows each photo of the feedback.
        min_photos: a word that the corpus hardly has becomes a concept when said of so many photos.
        label_noise: how references are examined before anything is learnt from them.
    """

    replay: int = Field(400, ge=0)
    repeat: int = Field(5, ge=1)
    min_photos: int = Field(3, ge=1)
    label_noise: ExaminationParameters = ExaminationParameters()


Tables = tuple[pd.DataFrame, pd.DataFrame]
"""Images and captions."""


def training_tables(
    corpus: Tables,
    feedback: Tables,
    erased: frozenset[str],
    parameters: RetrainingParameters,
    replay_seed: int = 0,
) -> Tables:
    """Images and captions (canonical columns): feedback, a share of `train`, and the whole of `val`.

    They are for all decoders together; `tables_of` gives those of one.

    Args:
        corpus: its images and captions.
        feedback: its images and references.
        erased: photos that were erased since the feedback was curated; they are left out.
        parameters: see `RetrainingParameters`.
        replay_seed: another number replays other captions; the version that is fine-tuned, so that in time
            all of the corpus is replayed.

    Raises:
        CorpusError: the feedback teaches nothing.
    """
    images, captions = corpus
    new_images, new_captions = usable_feedback(feedback, erased)
    count = parameters.decoders * _captions_to_replay(len(new_captions), parameters)
    validation = images.loc[images["split"] == "val", "image_id"]
    replayed = _replayed(images, captions, count, (parameters.seed, replay_seed))
    old_captions = captions[captions["image_id"].isin(validation) | captions["caption_id"].isin(replayed)]
    kept = images[images["image_id"].isin(old_captions["image_id"])]
    return _concatenated((kept, old_captions), _repeated(new_images, new_captions, parameters.repeat))


def tables_of(tables: Tables, decoder: int, parameters: RetrainingParameters) -> Tables:
    """The tables that one of the decoders is trained with: of the replayed captions its share.

    The shares are of the same size, and differ as far as there are enough captions. `decoder` counts from 0.
    """
    images, captions = tables
    feedback = captions["image_id"].isin(images.loc[images["source"] != "corpus", "image_id"])
    count = _captions_to_replay(int(feedback.sum()) // parameters.repeat, parameters)
    replayed = captions["image_id"].isin(images.loc[_is_corpus_training(images), "image_id"])
    ids = np.sort(captions.loc[replayed, "caption_id"].to_numpy(dtype=object))
    order = np.random.default_rng(parameters.seed).permutation(ids)
    share = np.take(order, decoder * count + np.arange(min(count, len(order))), mode="wrap")
    kept = captions[~replayed | captions["caption_id"].isin(share)]
    return images[images["image_id"].isin(kept["image_id"])], kept


def feedback_once(tables: Tables) -> Tables:
    """The photos and captions of the feedback in `training_tables`, each once, however often it is shown."""
    images, captions = tables
    shown_again = images["image_id"].str.contains(r"#\d+$")
    once = images[(images["source"] != "corpus") & ~shown_again]
    return once, captions[captions["image_id"].isin(once["image_id"])]


def all_training_data(corpus: Tables, tables: Tables) -> Tables:
    """All that a captioner that was fine-tuned with `training_tables` has been trained on.

    The whole corpus, which the base captioner was trained on, and the feedback once.
    """
    return _concatenated(corpus, feedback_once(tables))


def encoder_tables(
    corpus: Tables, feedback: Tables, parameters: EncoderRetrainingParameters, replay_seed: int = 0
) -> Tables:
    """Images and captions to fine-tune an encoder with: `usable_feedback`, and photos of the corpus with all
    captions.

    As in `training_tables`, another `replay_seed` replays other photos.
    """
    images, captions = corpus
    available = images[_is_corpus_training(images)]
    order = np.random.default_rng((parameters.seed, replay_seed)).permutation(np.sort(available["image_id"]))
    chosen = images["image_id"].isin(order[: parameters.replay]) | (images["split"] == "val")
    is_chosen = captions["image_id"].isin(images.loc[chosen, "image_id"])
    return _concatenated((images[chosen], captions[is_chosen]), _repeated(*feedback, parameters.repeat))


def label_noise_tables(
    corpus: Tables,
    training: Tables,
    examined: Tables,
    parameters: EncoderRetrainingParameters,
    replay_seed: int = 0,
) -> Tables:
    """As `encoder_tables` of the training part, with the examined part as validation photos."""
    images, captions = encoder_tables(corpus, training, parameters, replay_seed)
    is_training = images["split"] == "train"
    is_training_caption = captions["image_id"].isin(images.loc[is_training, "image_id"])
    return _concatenated(
        (images[is_training], captions[is_training_caption]), (examined[0].assign(split="val"), examined[1])
    )


def extended_concepts(
    concepts: pd.DataFrame,
    corpus_captions: pd.DataFrame,
    references: pd.DataFrame,
    parameters: EncoderRetrainingParameters,
    language: Language = ENGLISH,
) -> list[str]:
    """The concepts of the corpus (column `concept`), and the new words that the references bring."""
    return extend_concepts(
        concepts["concept"].tolist(),
        corpus_captions,
        references,
        minimum_images=parameters.min_photos,
        corpus_images=parameters.concepts.minimum_images,
        language=language,
    )


def usable_feedback(feedback: Tables, erased: frozenset[str]) -> Tables:
    """The feedback without photos that were erased meanwhile, or have no caption.

    Raises:
        CorpusError: it teaches nothing.
    """
    kept = feedback[0][~feedback[0]["sha256"].isin(erased)]
    captions = feedback[1][feedback[1]["image_id"].isin(kept["image_id"])]
    images = kept[kept["image_id"].isin(captions["image_id"])]
    if captions.empty:
        raise CorpusError(
            "the feedback holds no correction and no approved caption to learn from: wait for more ratings; "
            "feedback_report.json says what became of those there are"
        )
    return images, captions


def _captions_to_replay(feedback: int, parameters: RetrainingParameters) -> int:
    """Number of replayed captions for each decoder, given that of the feedback's captions."""
    return max(parameters.min_captions, round(parameters.replay * feedback))


def _is_corpus_training(images: pd.DataFrame) -> "pd.Series[bool]":
    return (images["split"] == "train") & (images["source"] == "corpus")


def _concatenated(old: Tables, new: Tables) -> Tables:
    return table(pd.concat([old[0], new[0]]), IMAGES), table(pd.concat([old[1], new[1]]), CAPTIONS)


def _replayed(images: pd.DataFrame, captions: pd.DataFrame, count: int, seed: tuple[int, int]) -> list[str]:
    """Captions of `train`, drawn at random: from as many photos as there are, not all of a few."""
    train = images.loc[_is_corpus_training(images), "image_id"]
    available = np.sort(captions.loc[captions["image_id"].isin(train), "caption_id"].to_numpy(dtype=object))
    return list(np.random.default_rng(seed).permutation(available)[:count])


def _repeated(images: pd.DataFrame, captions: pd.DataFrame, times: int) -> Tables:
    """Photos and captions repeated under `times` ids each, so that an epoch shows them as often."""
    ids = [("", images, captions)] + [(f"#{number}", images, captions) for number in range(2, times + 1)]
    return (
        pd.concat([rows.assign(image_id=rows["image_id"] + mark) for mark, rows, _ in ids]),
        pd.concat(
            [
                rows_of_captions.assign(
                    image_id=rows_of_captions["image_id"] + mark,
                    caption_id=rows_of_captions["caption_id"] + mark,
                )
                for mark, _, rows_of_captions in ids
            ]
        ),
    )
