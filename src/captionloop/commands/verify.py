"""`captionloop verify`: sends canary photos through the service and compares with the deployed version's
captions.

What the new version said of them when it was evaluated is kept in the registry, so the service is held to it.
"""

import sys
from typing import TYPE_CHECKING

import click

from captionloop.client import CaptionClient
from captionloop.commands.canaries import (
    NotVerifiedError,
    VerificationError,
    choose_canaries,
    with_expected_captions,
)
from captionloop.commands.model_lookup import open_registry
from captionloop.commands.option_types import SERVICE_KEY, SERVICE_URL
from captionloop.commands.verification import Patience, PrometheusCounts, Verified, verify_version
from captionloop.config import project_folder
from captionloop.errors import RegistryError

if TYPE_CHECKING:
    from captionloop.registry.model_registry import ModelRegistry

NOT_VERIFIED = 75
"""The exit code where there is no verdict: `EX_TEMPFAIL`, try again later."""


@click.command()
@SERVICE_URL
@SERVICE_KEY
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
    known = with_expected_captions(choose_canaries(project, env, photos, canaries), registry, version)
    counts = PrometheusCounts(prometheus, version) if prometheus else None
    with CaptionClient(url, key=key, attempts=1) as service:
        try:
            found = verify_version(service, registry.name, version, known, Patience(wait, seconds), counts)
        except VerificationError as error:
            note(registry, version, "failed", str(error))
            raise
        except NotVerifiedError as error:
            note(registry, version, "not verified", str(error))
            # One line, for the last one is what a step of Airflow gives as the reason.
            text = f"Version {version} was not verified, which says nothing against it: {error}"
            click.echo(f"captionloop: {text}", err=True)
            sys.exit(NOT_VERIFIED)
    text = sentence(found, seconds)
    note(registry, version, "passed", text, found)
    click.echo(text)


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
    registry: "ModelRegistry", version: str, result: str, why: str, found: Verified | None = None
) -> None:
    """Writes the outcome into the history; where that cannot be done, says so."""
    from captionloop.registry.history import HistoryEntry

    try:
        number = registry.version(version).version
        evidence = found.evidence if found else {}
        registry.note(
            HistoryEntry(action="verify", version=number, outcome=result, why=why, evidence=evidence)
        )
    except RegistryError as error:
        click.echo(f"captionloop: not written into the history: {error}", err=True)
