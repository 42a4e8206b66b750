"""The node of retraining that leaves out references which do not fit their photos."""

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from captionloop.feedback.label_noise import NoiseThreshold, fold_of, noise_threshold, reference_fit
from captionloop.feedback.retraining_data import (
    EncoderRetrainingParameters,
    Tables,
    extended_concepts,
    label_noise_tables,
    usable_feedback,
)

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner
    from captionloop.photos import PhotoFolder
    from captionloop.ratings.reader import RatingsDatabase
else:  # Kedro resolves the hints of nodes; torch and SQLAlchemy are not worth importing for that.
    Captioner = PhotoFolder = RatingsDatabase = Any

Json = dict[str, Any]


def filter_noisy_references(  # noqa: PLR0917 - a node's inputs
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
) -> tuple[pd.DataFrame, Json]:
    """The references that fit their photos, and a report on the others."""
    from captionloop.training.processes import results_side_by_side
    from captionloop.training.train_encoder import train_encoder

    rules, corpus = parameters.label_noise, (corpus_images, corpus_captions)
    language = origin.tokenizer.language
    images, said = usable_feedback((feedback_images, references), ratings_database.erased())
    if not parameters.epochs or not rules.rounds or len(images) < rules.min_photos:
        return references, _report(said.head(0).assign(rank=1.0), 0, NoiseThreshold(0.0, None))
    named = extended_concepts(concepts, corpus_captions, said, parameters, language)
    lessons = parameters.model_copy(update={"epochs": rules.epochs, "replay": rules.replay})
    folders = {"corpus": corpus_photos, "feedback": photo_archive}
    part = fold_of(said["image_id"], rules.folds)
    believed, rank = pd.Series(True, index=said.index), pd.Series(1.0, index=said.index)
    for turn in range(rules.rounds):
        trainings, parts = {}, []
        for number in range(rules.folds):
            examined = said[part == number]
            if examined.empty:
                continue
            tables = label_noise_tables(
                corpus,
                _with(images, said[(part != number) & believed]),
                _with(images, examined),
                lessons,
                replay_seed=champion_version["version"],
            )
            place = checkpoints / f"round_{turn}" / f"part_{number}"
            trainings[f"part {number + 1} of {rules.folds}"] = partial(
                train_encoder, *tables, named, folders, origin.encoder, lessons, place, language
            )
            parts.append((examined, tables[0].loc[tables[0]["split"] == "val", "image_id"]))
        results = results_side_by_side(trainings, "examination")
        for taught, (examined, looked) in zip(results, parts, strict=True):
            rank[examined.index] = reference_fit(taught.logits, looked, examined, named, language)
        verdict = noise_threshold(np.asarray(rank, np.float64), rules.max_noise_rate)
        believed = rank >= verdict.bound
    shutil.rmtree(checkpoints, ignore_errors=True)
    doubted = said.assign(rank=rank)[~believed]
    kept = references[~references["caption_id"].isin(doubted["caption_id"])]
    return kept, _report(doubted, len(said), verdict)


def _with(images: pd.DataFrame, references: pd.DataFrame) -> Tables:
    return images[images["image_id"].isin(references["image_id"])], references


def _report(doubted: pd.DataFrame, examined: int, verdict: NoiseThreshold) -> Json:
    columns = ["caption_id", "image_id", "text", "source", "ratings", "rank"]
    left_out = (
        f"{len(doubted)} of {examined} references are left out: they fit other photos better than their own"
    )
    return {
        "sentence": left_out if examined else "The references were not examined",
        "examined": examined,
        "doubted": len(doubted),
        "bound": verdict.bound,
        "wrong": verdict.wrong,
        "references": doubted.sort_values(["rank", "caption_id"])[columns].to_dict("records"),
    }
