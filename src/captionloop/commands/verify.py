"""`captionloop verify`: sends canary photos through the service and compares with the deployed version's
captions.

What the new version said of them when it was evaluated is kept in the registry, so the service is held to it.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import click

from captionloop.captioner.model_config import mean_confidence
from captionloop.client import CaptionClient, ServiceError
from captionloop.commands.model_lookup import Catalog, open_registry
from captionloop.config import project_folder
from captionloop.errors import CaptionloopError, ConfigurationError
from captionloop.photos import PhotoFolder

if TYPE_CHECKING:
    from captionloop.registry.model_registry import ModelRegistry

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
    from captionloop.registry.scored_captions import EvaluationCaptions

    with tempfile.TemporaryDirectory() as scratch:
        folder = registry.fetch_evidence(version, Path(scratch) / "evidence")
        kept = EvaluationCaptions.load(folder).captions if folder else {}
    return [Canary(each.name, each.photo, kept.get(each.name)) for each in canaries]


def find_problems(
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


LOOK_SECONDS = 1.0
BETWEEN_CANARIES_SECONDS = 5.0


@click.command()
@click.option(
    "--url",
    default="http://127.0.0.1:3000",
    show_default=True,
    envvar="CAPTIONLOOP_URL",
    help="Where the service answers. [env: CAPTIONLOOP_URL]",
)
@click.option("--key", envvar="CAPTIONLOOP_KEY", help="API key. [env: CAPTIONLOOP_KEY]")
@click.option("--version", required=True, help="The version that should answer.")
@click.option("--env", help="Kedro environment whose evaluation set the canary photos are taken from.")
@click.option("--photos", help="Take the canary photos from this folder instead.")
@click.option("--canaries", default=20, show_default=True, type=click.IntRange(2, 500), help="How many.")
@click.option(
    "--wait",
    default=120.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds for the service to take the version over.",
)
@click.option(
    "--for",
    "seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds to watch it afterwards.",
)
def verify(  # noqa: PLR0917
    url: str,
    key: str | None,
    version: str,
    env: str | None,
    photos: str | None,
    canaries: int,
    wait: float,
    seconds: float,
) -> None:
    """Caption canary photos through the running service and watch it for a while.

    Fails (exit code 1, one line with the reason) if the service does not take the version over, if captions
    are empty, all the same, unsure or not those of the evaluation, or if requests fail.
    """
    project = project_folder()
    registry = open_registry(project, env)
    known = expect(choose_canaries(project, env, photos, canaries), registry, version)
    limits = Limits()
    with CaptionClient(url, key=key) as service:
        wait_for(service, registry.name, version, wait)
        counted = requests_by_status(service.metrics())
        usual = usual_confidence(service, version)
        answers = [ask(service, canary) for canary in known]
        refuse(version, find_problems(answers, version, usual, limits))
        refuse(version, watch(service, known, version, seconds))
        failed, asked = failed_share(counted, requests_by_status(service.metrics()))
        if failed > limits.failed_requests * asked:
            refuse(version, [f"{failed} of {asked} requests failed since it took over"])
    click.echo(
        f"Version {version} answers: {len(answers)} canary photos captioned, "
        f"{sum(answer.caption == answer.canary.expected for answer in answers)} as at evaluation, "
        f"mean confidence {fmean(answer.confidence for answer in answers):.2f}"
        + ("" if usual is None else f" ({usual:.2f} before)")
        + f"; {failed} of {asked} requests failed within {seconds:.0f} s."
    )


def wait_for(service: CaptionClient, name: str, version: str, seconds: float) -> None:
    """Returns once the service says that it serves `version` of the registered model `name`; raises
    `VerificationError` if it does not.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            model = service.model()
            served = f"{model.name} version {model.version}"
        except ServiceError as error:
            served = str(error)
        if served == f"{name} version {version}":
            return
        if time.monotonic() >= deadline:
            raise VerificationError(
                f"{name} version {version} is not served after {seconds:.0f} s; the service answers: {served}"
            )
        time.sleep(LOOK_SECONDS)


def ask(service: CaptionClient, canary: Canary) -> CanaryAnswer:
    """One canary's answer. Raises `ServiceError`."""
    keeping = service.model().keeping
    keeps = keeping is None or keeping.keep
    made = service.caption(canary.photo) if keeps else service.look(canary.photo)
    # The version before may not have known how often its captions are accepted: its confidence was this.
    sure = mean_confidence([word.confidence for word in made.words])
    return CanaryAnswer(canary, made.caption, max(made.confidence, sure), made.model.version)


def usual_confidence(service: CaptionClient, version: str) -> float | None:
    """Mean confidence of what the other versions served lately, the newest of them that served enough."""
    for tally in service.statistics().by_version:  # the newest first
        if tally.version != version and tally.captions >= FEWEST_TO_COMPARE:
            return tally.mean_confidence
    return None


def watch(service: CaptionClient, canaries: Sequence[Canary], version: str, seconds: float) -> list[str]:
    """Sends a canary every few seconds for a while; what went wrong."""
    end = time.monotonic() + seconds
    turn = 0
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, BETWEEN_CANARIES_SECONDS))
        answer = ask(service, canaries[turn % len(canaries)])
        turn += 1
        if answer.version != version:
            return [f"version {answer.version} answers now"]
        if not answer.caption.strip():
            return [f"photo {answer.canary.name} got an empty caption"]
    return []


def refuse(version: str, found: Sequence[str]) -> None:
    """Raises `VerificationError` if anything is wrong."""
    if found:
        raise VerificationError(f"Version {version} does not pass: {'; '.join(found)}")
