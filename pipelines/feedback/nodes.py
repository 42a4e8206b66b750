"""The nodes of feedback: people's ratings become rows to train on, or stand in quarantine with a reason."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from captionloop.errors import RegistryError
from captionloop.feedback.curation import Photos, curate, held_out_set
from captionloop.feedback.feedback_parameters import FeedbackParameters
from captionloop.feedback.feedback_report import Window, summary
from captionloop.feedback.rating_checks import inspect_rated_photos
from captionloop.feedback.rating_filters import AbuseList
from captionloop.languages import ENGLISH, language_of
from captionloop.paths import how_to_make

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner
    from captionloop.photos import PhotoFolder
    from captionloop.ratings.reader import RatingsDatabase
    from captionloop.registry.model_registry import ModelRegistry
else:  # Kedro resolves the hints of nodes; torch, SQLAlchemy and mlflow are not worth importing for that.
    Captioner = PhotoFolder = RatingsDatabase = ModelRegistry = Any

Json = dict[str, Any]


def check_ratings(
    ratings_database: RatingsDatabase,
) -> tuple[pd.DataFrame, pd.DataFrame, list[Json], dict[str, bytes]]:
    """The ratings that are sound by themselves, those that are not, the findings and pages about them."""
    from captionloop.feedback.rating_checks import check_ratings

    checked = check_ratings(ratings_database.ratings(), ratings_database.erased())
    return checked.good, checked.bad, checked.findings, dict(checked.pages)


def tell(checks: dict[str, bytes], findings: list[Json], report: Json) -> dict[str, bytes]:
    """The Data Docs of the ratings: what was examined, what is used, what is in quarantine and why."""
    from captionloop.feedback.rating_checks import feedback_docs

    return feedback_docs(checks, findings, report)


def inspect_photos(
    ratings: pd.DataFrame, photo_archive: PhotoFolder, parameters: FeedbackParameters
) -> pd.DataFrame:
    """What is in the archive for each photo that was rated."""
    return inspect_rated_photos(ratings, photo_archive, parameters)


def fetch_champion(model_registry: ModelRegistry) -> tuple[Captioner, Captioner, Json]:
    """The champion that this whole run is about, its origin, and until when it has learnt from ratings.

    Its language is that of the captions that people rate, and so of their corrections.
    """
    from captionloop.captioner.captioner import Captioner
    from captionloop.registry.model_registry import base_captioner

    champion = model_registry.champion()
    if champion is None:
        raise RegistryError(
            f"{model_registry.name} has no champion to teach on: make one with "
            f"{how_to_make(model_registry.name)}, or promote one with captionloop models promote"
        )
    origin = base_captioner(champion, model_registry)
    with tempfile.TemporaryDirectory() as scratch:
        captioners = {
            version: Captioner.load(model_registry.fetch(version, Path(scratch) / str(version)))
            for version in {champion.version, origin.version}
        }
    known = {
        "version": champion.version,
        "origin": origin.version,
        "language": captioners[champion.version].tokenizer.language.code,
        # What was refused, tried dry or rolled back has used up no rating: nobody is served by it.
        "retrained_version": champion.version if champion.learnt_until else None,
        "feedback_until": champion.learnt_until,
    }
    return captioners[champion.version], captioners[origin.version], known


def curate_ratings(  # noqa: PLR0917 - a node's inputs
    ratings: pd.DataFrame,
    photos: pd.DataFrame,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    abuse: str,
    unsound: pd.DataFrame,
    champion_version: Json,
    parameters: FeedbackParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, Json, pd.DataFrame, pd.DataFrame, Json]:
    """Photos and references to learn from, evidence, verdicts, what is held out; and the rest."""
    language = language_of(champion_version.get("language", ENGLISH.code))
    curated = curate(ratings, Photos(photos), images, captions, AbuseList.parse(abuse), parameters, language)
    window = Window.parse(
        parameters.since, champion_version["feedback_until"], champion_version["retrained_version"]
    )
    everything = pd.concat([ratings, unsound.drop(columns="reason")])
    report = summary(everything, unsound, curated, window, parameters.least_ratings)
    return (
        curated.images,
        curated.references,
        curated.rejections,
        curated.verdicts,
        held_out_set(curated.held_out, parameters.held_out_photos, language).model_dump(mode="json"),
        curated.rater_scores.raters,
        curated.quarantine,
        report,
    )
