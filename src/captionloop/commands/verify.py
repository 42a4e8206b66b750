"""`captionloop verify`: sends canary photos through the service and compares with the deployed version's
captions.

What the new version said of them when it was evaluated is kept in the registry, so the service is held to it.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import click

from captionloop.client import CaptionClient
from captionloop.commands.model_lookup import Catalog, open_registry
from captionloop.commands.verification import Patience, PrometheusCounts, Verified, verified
from captionloop.config import project_folder
from captionloop.errors import CaptionloopError, ConfigurationError, RegistryError
from captionloop.photos import PhotoFolder

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
    """A photo to caption, and what the version said of it when it was evaluated, where that is known."""

    name: str
    photo: bytes
    expected: str | None = None


@dataclass(frozen=True)
class CanaryAnswer:
    """What the service said of a canary; no caption where the model could not make one."""

    canary: Canary
    caption: str | None
    confidence: float


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
    answers: Sequence[CanaryAnswer], usual_confidence: float | None, limits: Limits
) -> list[str]:
    """What is wrong with a version's answers, one plain sentence each; none where they are sane."""
    found = []
    made = [answer for answer in answers if answer.caption is not None]
    if len(made) < len(answers):
        found.append(f"{len(answers) - len(made)} of {len(answers)} photos could not be captioned")
    if not made:
        return found
    silent = sum(not (answer.caption or "").strip() for answer in made)
    if silent:
        found.append(f"{silent} of {len(answers)} captions are empty")
    if len(made) > 1 and len({answer.caption for answer in made}) == 1:
        found.append(f"all {len(made)} photos got the same caption, {made[0].caption!r}")
    confidence = fmean(answer.confidence for answer in made)
    lowest = limits.lowest_confidence if usual_confidence is None else limits.confidence * usual_confidence
    if confidence < lowest:
        before = "" if usual_confidence is None else f", it was {usual_confidence:.2f} before"
        found.append(f"the mean confidence collapsed to {confidence:.2f}{before}")
    known = [answer for answer in made if answer.canary.expected is not None]
    same = sum(answer.caption == answer.canary.expected for answer in known)
    if known and same < limits.agreement * len(known):
        found.append(f"only {same} of {len(known)} captions are as at evaluation")
    return found


NOT_VERIFIED = 75
"""The exit code where there is no verdict: `EX_TEMPFAIL`, try again later."""


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
    help="Seconds for all model servers to take the version over, and for a canary to be answered.",
)
@click.option(
    "--for",
    "seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds to watch it afterwards.",
)
@click.option(
    "--prometheus",
    envvar="CAPTIONLOOP_PROMETHEUS",
    help="A Prometheus that watches all model servers: requests are counted by it. "
    "[env: CAPTIONLOOP_PROMETHEUS]",
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
    prometheus: str | None,
) -> None:
    """Caption canary photos by a deployed version and watch it for a while.

    Exit code 1, with one line that says why, if a model server cannot load the version, if captions are
    empty, all the same, unsure or not those of the evaluation, or if the version fails requests. Exit code 75
    if nothing can be said: the service is away or full, or not all model servers have taken the version over.
    Nothing of the canaries is kept, and none counts as use of the service.
    """
    project = project_folder()
    registry = open_registry(project, env)
    known = expect(choose_canaries(project, env, photos, canaries), registry, version)
    counts = PrometheusCounts(prometheus, version) if prometheus else None
    with CaptionClient(url, key=key, attempts=1) as service:
        try:
            found = verified(service, registry.name, version, known, Patience(wait, seconds), counts)
        except VerificationError as error:
            note(registry, version, "failed", str(error))
            raise
        except NotVerifiedError as error:
            note(registry, version, "not verified", str(error))
            click.echo(f"captionloop: Version {version} was not verified: {error}", err=True)
            click.echo("That says nothing against it: verify it again when that is mended.", err=True)
            sys.exit(NOT_VERIFIED)
    told = sentence(found, seconds)
    note(registry, version, "passed", told, found)
    click.echo(told)


def sentence(found: Verified, seconds: float) -> str:
    """What was found, for people."""
    before = "" if found.usual_confidence is None else f" ({found.usual_confidence:.2f} before)"
    servers = f" on {found.servers} model servers" if found.servers > 1 else ""
    whose = "" if found.counted else " (canaries alone: model servers did not tell)"
    return (
        f"Version {found.version} answers{servers}: {len(found.answers)} canary photos captioned, "
        f"{found.as_at_evaluation} as at evaluation, mean confidence {found.confidence:.2f}{before}; "
        f"{found.failed} of its {found.asked} requests failed within {seconds:.0f} s{whose}."
    )


def note(
    registry: "ModelRegistry", version: str, outcome: str, why: str, found: Verified | None = None
) -> None:
    """Writes the outcome into the history; where that cannot be done, says so."""
    from captionloop.registry.history import Line

    try:
        number = registry.version(version).version
        evidence = found.evidence if found else {}
        registry.note(Line(action="verify", version=number, outcome=outcome, why=why, evidence=evidence))
    except RegistryError as error:
        click.echo(f"captionloop: not written into the history: {error}", err=True)
