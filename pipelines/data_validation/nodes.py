"""The nodes of data validation."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from captionloop.corpus.expectations import CorpusRules
from captionloop.corpus.photo_checks import PhotoFacts, inspect_photos
from captionloop.corpus.tables import RawCorpus
from captionloop.corpus.validation import validate
from captionloop.errors import CorpusError
from captionloop.languages import language_of
from captionloop.photos import PhotoFolder, found_names
from captionloop.scoring.scores import try_round_trip

logger = logging.getLogger(__name__)


class ValidationParameters(CorpusRules):
    """The rules, and what to do with a corpus that breaks them."""

    on_failure: Literal["stop", "quarantine"] = "quarantine"
    report: str = Field(
        "validation_report.json",
        description="where the report lies, to tell people",
        json_schema_extra={"affects_result": False},
    )


@dataclass(frozen=True)
class InspectedPhotos:
    """What was found in the photo folder: the facts of each image's photo, and the names of all files."""

    facts: list[PhotoFacts]
    names: list[str]


@dataclass(frozen=True)
class CheckedTables:
    """The rows that broke no rule."""

    images: pd.DataFrame
    captions: pd.DataFrame


def inspect_corpus(
    corpus: RawCorpus, photos: PhotoFolder, parameters: ValidationParameters
) -> InspectedPhotos:
    """Reads, decodes and hashes every photo of the corpus once."""
    names = photos.names()
    uris = found_names(corpus.images["uri"], names)
    return InspectedPhotos(inspect_photos(photos, uris, parameters.photo), names)


def check_corpus(
    corpus: RawCorpus, photos: InspectedPhotos, parameters: ValidationParameters, language: str
) -> tuple[CheckedTables, pd.DataFrame, dict[str, Any], Mapping[str, bytes]]:
    """Sorts the rows by the expectations. Reports are written whatever they say; `release_tables` decides."""
    spoken = language_of(language)
    result = validate(corpus, photos.facts, photos.names, parameters, spoken)
    logger.info("Validation: %s", _summary(result.report))
    trip = try_round_trip(result.captions["text"].tolist(), spoken)
    if trip.warning:
        logger.warning("Validation: %s", trip.warning)
    report = result.report | {"round_trip": trip.to_dict()}
    return CheckedTables(result.images, result.captions), result.quarantine, report, result.pages


def release_tables(
    checked: CheckedTables, report: Mapping[str, Any], parameters: ValidationParameters
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Hands the sound rows on: all images and captions, and those of the splits that training sees.

    The latter are tables of their own so that what changes in the test split alone teaches nothing anew.

    Raises:
        CorpusError: none is left; a whole split, or more images than `similarity.max_lost`, went for being
            like others; or rows are in quarantine and `on_failure` is `stop`.
    """
    where = f"see {parameters.report}"
    if checked.images.empty:
        raise CorpusError(f"Nothing is left of the corpus after validation ({_summary(report)}): {where}")
    if problem := _too_alike(report["same_photo"]["lost"], parameters):
        raise CorpusError(f"{problem}; same_photo in {parameters.report} shows the pairs")
    if parameters.on_failure == "stop" and any(report["quarantine"].values()):
        raise CorpusError(
            f"The corpus breaks its rules ({_summary(report)}): mend it, or go on without these rows with "
            f"on_failure: quarantine; {where}"
        )
    broken = [
        each["expectation"]
        for each in report["expectations"]
        if each["suite"].startswith("released") and not each["success"]
    ]
    if broken:
        raise CorpusError(f"The released tables break their contract ({'; '.join(broken)}): {where}")
    for split in ("train", "val"):
        if not (checked.images["split"] == split).any():  # whoever only captions or evaluates needs none
            logger.warning(
                "Validation: no photo is in the split %s, and training needs one: see docs/data.md", split
            )
    seen = checked.images[checked.images["split"].isin(["train", "val"])]
    said = checked.captions[checked.captions["image_id"].isin(seen["image_id"])]
    return checked.images, checked.captions, seen, said


def _too_alike(lost: Mapping[str, Any], parameters: ValidationParameters) -> str:
    """What to do where more would be lost as copies than anybody wants; empty where that is not so."""
    if lost["splits"]:
        what = f"All photos of {' and '.join(lost['splits'])} would be lost as copies of others"
        advice = "take the copies out of the other splits, or leave this one out"
    elif lost["share"] > parameters.similarity.max_lost:
        what = f"{lost['near']} images ({lost['share']:.1%}) would be lost as they are like others"
        advice = "if they are copies, raise data_validation.similarity.max_lost"
    else:
        return ""
    if lost["near"]:
        advice += (
            "; if they are not, set data_validation.similarity.tone_difference=0:"
            " only equal photos count then"
        )
    return f"{what}: {advice}"


def _summary(report: Mapping[str, Any]) -> str:
    released, read = report["released"], report["read"]
    images, captions = sum(released["images"].values()), sum(released["captions"].values())
    parts = [f"{images} of {read['images']} images and {captions} of {read['captions']} captions are sound"]
    for kind, reasons in report["quarantine"].items():
        parts += [f"{count} {kind}{'s' if count > 1 else ''}: {reason}" for reason, count in reasons.items()]
    return "; ".join(parts)
