"""`captionloop verify`: does the running service answer as the deployed version should."""

import time
from collections.abc import Sequence
from statistics import fmean

import click

from captionloop.captioner.confidence import mean_confidence
from captionloop.client import CaptionClient, ServiceError
from captionloop.commands.canaries import (
    FEWEST_TO_COMPARE,
    Canary,
    CanaryAnswer,
    Limits,
    VerificationError,
    choose_canaries,
    complaints,
    expect,
    failed_share,
    requests_by_status,
)
from captionloop.commands.project import open_registry, project_folder

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
        refuse(version, complaints(answers, version, usual, limits))
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
