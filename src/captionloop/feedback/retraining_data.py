"""The tables to teach a captioner and its encoder on with: feedback, and the corpus again.

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
    turn: int = 0,
) -> Tables:
    """Images and captions (canonical columns): feedback, a share of `train`, and the whole of `val`.

    It is what all of the decoders are taught with; `tables_of` gives what one of them is.

    Args:
        corpus: its images and captions.
        feedback: its images and references.
        erased: photos that were erased since the feedback was curated; they are left out.
        parameters: see `RetrainingParameters`.
        turn: another number replays other captions; the version that is taught on, so that all of the corpus
            has its turn.

    Raises:
        CorpusError: the feedback teaches nothing.
    """
    images, captions = corpus
    new_images, new_captions = teachable(feedback, erased)
    wanted = parameters.decoders * _captions_to_replay(len(new_captions), parameters)
    examined = images.loc[images["split"] == "val", "image_id"]
    replayed = _replayed(images, captions, wanted, (parameters.seed, turn))
    old_captions = captions[captions["image_id"].isin(examined) | captions["caption_id"].isin(replayed)]
    kept = images[images["image_id"].isin(old_captions["image_id"])]
    return _joined((kept, old_captions), _repeated(new_images, new_captions, parameters.repeat))


def tables_of(tables: Tables, decoder: int, parameters: RetrainingParameters) -> Tables:
    """What one of the decoders is taught with: of the replayed captions in `training_tables` its share.

    The shares are of the same size, and differ as far as there are enough captions. `decoder` counts from 0.
    """
    images, captions = tables
    feedback = captions["image_id"].isin(images.loc[images["source"] != "corpus", "image_id"])
    wanted = _captions_to_replay(int(feedback.sum()) // parameters.repeat, parameters)
    replayed = captions["image_id"].isin(images.loc[_taught_of_corpus(images), "image_id"])
    ids = np.sort(captions.loc[replayed, "caption_id"].to_numpy(dtype=object))
    order = np.random.default_rng(parameters.seed).permutation(ids)
    share = np.take(order, decoder * wanted + np.arange(min(wanted, len(order))), mode="wrap")
    kept = captions[~replayed | captions["caption_id"].isin(share)]
    return images[images["image_id"].isin(kept["image_id"])], kept


def feedback_once(tables: Tables) -> Tables:
    """The photos and captions of the feedback in `training_tables`, each once, however often it is shown."""
    images, captions = tables
    shown_again = images["image_id"].str.contains(r"#\d+$")
    once = images[(images["source"] != "corpus") & ~shown_again]
    return once, captions[captions["image_id"].isin(once["image_id"])]


def all_taught(corpus: Tables, tables: Tables) -> Tables:
    """All that a captioner has been taught that was taught on with `training_tables`.

    The whole corpus, which its origin learnt from and of which a share was replayed, and the feedback once.
    """
    return _joined(corpus, feedback_once(tables))


def encoder_tables(
    corpus: Tables, feedback: Tables, parameters: EncoderRetrainingParameters, turn: int = 0
) -> Tables:
    """What to teach an encoder on with: `teachable` feedback, and photos of the corpus with all captions.

    As in `training_tables`, another `turn` replays other photos.
    """
    images, captions = corpus
    there = images[_taught_of_corpus(images)]
    order = np.random.default_rng((parameters.seed, turn)).permutation(np.sort(there["image_id"]))
    chosen = images["image_id"].isin(order[: parameters.replay]) | (images["split"] == "val")
    said = captions["image_id"].isin(images.loc[chosen, "image_id"])
    return _joined((images[chosen], captions[said]), _repeated(*feedback, parameters.repeat))


def examination_tables(
    corpus: Tables, learnt: Tables, examined: Tables, parameters: EncoderRetrainingParameters, turn: int = 0
) -> Tables:
    """As `encoder_tables` of what is learnt, but the validation photos are those that are examined."""
    images, captions = encoder_tables(corpus, learnt, parameters, turn)
    taught = images["split"] == "train"
    said = captions["image_id"].isin(images.loc[taught, "image_id"])
    return _joined((images[taught], captions[said]), (examined[0].assign(split="val"), examined[1]))


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


def teachable(feedback: Tables, erased: frozenset[str]) -> Tables:
    """The feedback without photos that were erased meanwhile, or have no caption.

    Raises:
        CorpusError: it teaches nothing.
    """
    there = feedback[0][~feedback[0]["sha256"].isin(erased)]
    captions = feedback[1][feedback[1]["image_id"].isin(there["image_id"])]
    images = there[there["image_id"].isin(captions["image_id"])]
    if captions.empty:
        raise CorpusError(
            "the feedback holds no correction and no approved caption to learn from: wait for more ratings; "
            "feedback_report.json says what became of those there are"
        )
    return images, captions


def _captions_to_replay(feedback: int, parameters: RetrainingParameters) -> int:
    """To each of the decoders, beside so many captions of the feedback."""
    return max(parameters.min_captions, round(parameters.replay * feedback))


def _taught_of_corpus(images: pd.DataFrame) -> "pd.Series[bool]":
    return (images["split"] == "train") & (images["source"] == "corpus")


def _joined(old: Tables, new: Tables) -> Tables:
    return table(pd.concat([old[0], new[0]]), IMAGES), table(pd.concat([old[1], new[1]]), CAPTIONS)


def _replayed(images: pd.DataFrame, captions: pd.DataFrame, wanted: int, seed: tuple[int, int]) -> list[str]:
    """Captions of `train`, drawn at random: from as many photos as there are, not all of a few."""
    train = images.loc[_taught_of_corpus(images), "image_id"]
    there = np.sort(captions.loc[captions["image_id"].isin(train), "caption_id"].to_numpy(dtype=object))
    return list(np.random.default_rng(seed).permutation(there)[:wanted])


def _repeated(images: pd.DataFrame, captions: pd.DataFrame, times: int) -> Tables:
    """Each photo under so many ids; a photo's captions are seen once an epoch under each."""
    ids = [("", images, captions)] + [(f"#{number}", images, captions) for number in range(2, times + 1)]
    return (
        pd.concat([rows.assign(image_id=rows["image_id"] + mark) for mark, rows, _ in ids]),
        pd.concat(
            [
                said.assign(image_id=said["image_id"] + mark, caption_id=said["caption_id"] + mark)
                for mark, _, said in ids
            ]
        ),
    )
