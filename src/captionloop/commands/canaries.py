"""Canary photos: a few of the frozen evaluation set, sent through the running service after a deployment.

What the new version said of them when it was evaluated is kept in the registry, so the service is held to it.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from captionloop.commands.project import Catalog
from captionloop.corpus.photos import PhotoFolder
from captionloop.errors import CaptionloopError, ConfigurationError

if TYPE_CHECKING:
    from captionloop.registry import ModelRegistry

FEWEST_TO_COMPARE = 20
"""Captions of the version before, below which their mean confidence says little."""


class VerificationError(CaptionloopError):
    """The service does not answer as the deployed version should."""


@dataclass(frozen=True)
class Canary:
    """A photo to caption, and what the version said of it when it was evaluated, where that is known."""

    name: str
    photo: bytes
    expected: str | None = None


@dataclass(frozen=True)
class CanaryAnswer:
    """What the service said of a canary."""

    canary: Canary
    caption: str
    confidence: float
    version: str


@dataclass(frozen=True)
class Limits:
    """How far the answers may stray: shares between 0 and 1."""

    agreement: float = 0.5
    """Answers that are word for word what was said at evaluation. Another processor rounds otherwise, and a
    beam then ends in another caption now and then; a wrong model or broken preprocessing changes nearly all.
    """
    confidence: float = 0.5
    """Of the mean confidence of the version before."""
    lowest_confidence: float = 0.02
    """Where there is no version before."""
    failed_requests: float = 0.01


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
            raise ConfigurationError(
                f"There is no evaluation set at {catalog.location('evaluation_photos')} to verify with: "
                "evaluate first, or give --photos a folder"
            )
        folder = catalog.load("raw_photos") or PhotoFolder(str(catalog.location("raw_photos")))
        found = list(zip(evaluated["image_ids"], evaluated["uris"], strict=True))[:count]
    if not found:
        raise ConfigurationError(f"There is no photo in {folder.root} to verify with: give --photos a folder")
    return [Canary(name, folder.read(uri)) for name, uri in found]


def expect(canaries: Sequence[Canary], registry: "ModelRegistry", version: str) -> list[Canary]:
    """The canaries with what `version` said of them at evaluation, where the registry knows."""
    from captionloop.registry.evidence import KeptCaptions

    with tempfile.TemporaryDirectory() as scratch:
        folder = registry.fetch_evidence(version, Path(scratch) / "evidence")
        kept = KeptCaptions.load(folder).captions if folder else {}
    return [Canary(each.name, each.photo, kept.get(each.name)) for each in canaries]


def complaints(
    answers: Sequence[CanaryAnswer], version: str, usual_confidence: float | None, limits: Limits
) -> list[str]:
    """What is wrong with the answers, one plain sentence each; none where they are sane."""
    found = []
    others = sorted({answer.version for answer in answers} - {version})
    if others:
        found.append(f"version {', '.join(others)} answered instead of version {version}")
    silent = sum(not answer.caption.strip() for answer in answers)
    if silent:
        found.append(f"{silent} of {len(answers)} captions are empty")
    if len(answers) > 1 and len({answer.caption for answer in answers}) == 1:
        found.append(f"all {len(answers)} photos got the same caption, {answers[0].caption!r}")
    confidence = fmean(answer.confidence for answer in answers)
    lowest = limits.lowest_confidence if usual_confidence is None else limits.confidence * usual_confidence
    if confidence < lowest:
        before = "" if usual_confidence is None else f", it was {usual_confidence:.2f} before"
        found.append(f"the mean confidence collapsed to {confidence:.2f}{before}")
    known = [answer for answer in answers if answer.canary.expected is not None]
    same = sum(answer.caption == answer.canary.expected for answer in known)
    if known and same < limits.agreement * len(known):
        found.append(f"only {same} of {len(known)} captions are as at evaluation")
    return found


def failed_share(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[int, int]:
    """Requests that the service itself failed, and all requests, between two looks at its counters."""
    grown = {status: count - before.get(status, 0.0) for status, count in after.items()}
    if any(count < 0 for count in grown.values()):  # it was restarted in between: its counters began anew
        grown = dict(after)
    return int(sum(count for status, count in grown.items() if status >= "500")), int(sum(grown.values()))


def requests_by_status(exposition: str) -> dict[str, float]:
    """`{"201": 17.0, ...}` from the service's metrics, health checks and metrics themselves left out."""
    from prometheus_client.parser import text_string_to_metric_families

    counted: dict[str, float] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name == "captionloop_requests_total" and sample.labels["route"].startswith("/v1/"):
                status = sample.labels["status"]
                counted[status] = counted.get(status, 0.0) + sample.value
    return counted
