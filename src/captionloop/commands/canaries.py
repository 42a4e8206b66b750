"""Canary photos: a sample of the frozen evaluation set, and checks of a version's captions for them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from captionloop.commands.model_lookup import Catalog
from captionloop.errors import CaptionloopError, ConfigurationError
from captionloop.photos import PhotoFolder
from captionloop.workspaces import display_path

if TYPE_CHECKING:
    from captionloop.registry.model_registry import ModelRegistry

FEWEST_TO_COMPARE = 20
"""Captions of the version before, below which their mean confidence says little."""


class VerificationError(CaptionloopError):
    """The version does not answer as it should."""


class NotVerifiedError(CaptionloopError):
    """Nothing can be said about the version: the service is away or full, or serves another one."""


@dataclass(frozen=True)
class Canary:
    """A photo to caption, and the version's caption of it at evaluation, if known."""

    name: str
    photo: bytes
    expected: str | None = None


@dataclass(frozen=True)
class CanaryResult:
    """The service's caption of a canary; None where the model could not make one."""

    canary: Canary
    caption: str | None
    confidence: float


@dataclass(frozen=True)
class Limits:
    """Limits of the checks: shares between 0 and 1."""

    agreement: float = 0.5
    """Answers that are word for word what was said at evaluation. Another processor rounds otherwise, and a
    beam then ends in another caption now and then; a wrong model or broken preprocessing changes nearly all.
    """
    confidence: float = 0.5
    """Of the mean confidence of the version before."""
    lowest_confidence: float = 0.02
    """Where there is no version before."""
    failed_requests: float = 0.01
    fewest_failures: int = 3
    """Fewer requests that failed say nothing: somebody may have sent a photo that breaks any model."""


def choose_canaries(project: Path, env: str | None, photos: str | None, count: int) -> list[Canary]:
    """The first photos of the environment's frozen evaluation set, or of the folder `photos`.

    Raises `ConfigurationError` where there are none.
    """
    if photos is not None:
        folder = PhotoFolder(photos)
        found = [(name, name) for name in folder.names()[:count]]
    else:
        catalog = Catalog(project, env)
        evaluated = catalog.load("evaluation_photos")
        if evaluated is None:
            place = display_path(catalog.location("evaluation_photos"))
            raise ConfigurationError(
                f"There is no evaluation set at {place} to verify with: "
                "evaluate first, or give --photos a folder"
            )
        folder = catalog.load("raw_photos") or PhotoFolder(str(catalog.location("raw_photos")))
        found = list(zip(evaluated["image_ids"], evaluated["uris"], strict=True))[:count]
    if not found:
        raise ConfigurationError(f"There is no photo in {folder.root} to verify with: give --photos a folder")
    return [Canary(name, folder.read(uri)) for name, uri in found]


def with_expected_captions(
    canaries: Sequence[Canary], registry: "ModelRegistry", version: str
) -> list[Canary]:
    """The canaries with the captions of `version` at evaluation, where the registry has them."""
    from captionloop.registry.scored_captions import EvaluationCaptions

    with tempfile.TemporaryDirectory() as scratch:
        folder = registry.fetch_evidence(version, Path(scratch) / "evidence")
        captions = EvaluationCaptions.load(folder).captions if folder else {}
    return [Canary(each.name, each.photo, captions.get(each.name)) for each in canaries]


def find_problems(
    answers: Sequence[CanaryResult], usual_confidence: float | None, limits: Limits
) -> list[str]:
    """The problems of a version's captions, one sentence each; empty: none."""
    problems = []
    captioned = [answer for answer in answers if answer.caption is not None]
    if len(captioned) < len(answers):
        problems.append(f"{len(answers) - len(captioned)} of {len(answers)} photos could not be captioned")
    if not captioned:
        return problems
    empty = sum(not (answer.caption or "").strip() for answer in captioned)
    if empty:
        problems.append(f"{empty} of {len(answers)} captions are empty")
    if len(captioned) > 1 and len({answer.caption for answer in captioned}) == 1:
        problems.append(f"all {len(captioned)} photos got the same caption, {captioned[0].caption!r}")
    confidence = fmean(answer.confidence for answer in captioned)
    lowest = limits.lowest_confidence if usual_confidence is None else limits.confidence * usual_confidence
    if confidence < lowest:
        before = "" if usual_confidence is None else f", it was {usual_confidence:.2f} before"
        problems.append(f"the mean confidence collapsed to {confidence:.2f}{before}")
    comparable = [answer for answer in captioned if answer.canary.expected is not None]
    same = sum(answer.caption == answer.canary.expected for answer in comparable)
    if comparable and same < limits.agreement * len(comparable):
        problems.append(f"only {same} of {len(comparable)} captions are as at evaluation")
    return problems
