"""Verification of a deployed version: canary photos in; passed, failed, or no verdict out.

All model servers must have taken it over. Canaries are captioned by that version or not at all, so none of
them is judged by what another version said; what the version failed is told by the model servers that tried,
or by a Prometheus that watches them. That the service is full or away is nobody's fault but its own: then
there is no verdict.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

import httpx

from captionloop.captioner.model_config import mean_confidence
from captionloop.client import ServiceError
from captionloop.commands.canaries import (
    FEWEST_TO_COMPARE,
    Canary,
    CanaryResult,
    Limits,
    NotVerifiedError,
    VerificationError,
    find_problems,
)
from captionloop.errors import first_line, without_passwords
from captionloop.serving.schemas import ModelBody, ModelServerBody, StatisticsBody, UnkeptCaption

QUERY = 'sum by (outcome) (captionloop_outcomes_total{{version="{version}"}})'
ANSWER_SECONDS = 10.0


class PrometheusCounts:
    """Asks the Prometheus at `url`."""

    def __init__(self, url: str, version: str) -> None:
        self._url = url.rstrip("/")
        self._query = QUERY.format(version=version.replace("\\", "").replace('"', ""))

    def __call__(self) -> tuple[int, int]:
        """Captioned and failed so far.

        Raises:
            NotVerifiedError: it does not answer.
        """
        try:
            response = httpx.get(
                f"{self._url}/api/v1/query", params={"query": self._query}, timeout=ANSWER_SECONDS
            )
            response.raise_for_status()
            found = {
                each["metric"].get("outcome", ""): float(each["value"][1])
                for each in response.json()["data"]["result"]
            }
        except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
            reason = without_passwords(first_line(error))
            raise NotVerifiedError(
                f"the Prometheus at {without_passwords(self._url)} gives no answer ({reason}): correct "
                "--prometheus, or leave it out"
            ) from error
        return int(found.get("captioned", 0)), int(found.get("failed", 0))


LOOK_SECONDS = 1.0
SETTLED_SECONDS = 5.0
"""All model servers that are known must have served the version for so long: by then others are known."""
FORGET_SECONDS = 60.0
BETWEEN_CANARIES_SECONDS = 5.0
RETRY_SECONDS = 2.0
COUNTED_WITHIN_SECONDS = 15.0
UNREADABLE = "urn:captionloop:problem:image-unreadable"
OF_THE_CALLER = {401, 403}


class Service(Protocol):
    """The calls to the service that verification makes: a `CaptionClient` has them."""

    def model(self) -> ModelBody:
        """What is being served."""
        ...

    def look(self, photo: bytes, *, version: str | None = None) -> UnkeptCaption:
        """A caption by a version."""
        ...

    def statistics(self) -> StatisticsBody:
        """Captions and ratings by version."""
        ...


@dataclass(frozen=True)
class Clock:
    """The clock and the sleep function, replaceable in tests."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Counts(Protocol):
    """How many photos a version captioned and failed so far, over all model servers."""

    def __call__(self) -> tuple[int, int]:
        """Captioned and failed."""
        ...


@dataclass(frozen=True)
class Patience:
    """Seconds to wait for the version, and for a canary's answer; and seconds to watch it afterwards."""

    wait: float = 120.0
    watch_seconds: float = 60.0


@dataclass(frozen=True)
class Verified:
    """The results of a version that passed."""

    version: str
    servers: int
    answers: Sequence[CanaryResult]
    usual_confidence: float | None
    failed: int
    asked: int
    counted: bool
    """False where the canaries alone are known of: the service did not tell of all its requests."""

    @property
    def evidence(self) -> dict[str, str | int | float | None]:
        """For the history."""
        return {
            "model_servers": self.servers,
            "canaries": len(self.answers),
            "as_at_evaluation": self.as_at_evaluation,
            "confidence": round(self.confidence, 4),
            "confidence_before": self.usual_confidence,
            "asked": self.asked,
            "failed": self.failed,
        }

    @property
    def as_at_evaluation(self) -> int:
        """Captions that are word for word those of the evaluation."""
        return sum(answer.caption == answer.canary.expected for answer in self.answers)

    @property
    def confidence(self) -> float:
        """Mean over the canaries."""
        return fmean(answer.confidence for answer in self.answers)


class Fleet:
    """The model servers, as all gateways together tell of them: behind a balancer another one answers each
    time, and each has heard of them at another moment.
    """

    def __init__(self, service: Service, name: str, clock: Clock) -> None:
        self._service, self._name, self._clock = service, name, clock
        self._seen: dict[str, tuple[float, ModelServerBody]] = {}
        self.trouble = ""
        self.reports_servers = True

    def poll(self) -> None:
        """Ask the service once for its model servers; an error is stored in `trouble`."""
        try:
            model = self._service.model()
        except ServiceError as error:
            if error.problem is not None and error.problem.status in OF_THE_CALLER:
                raise NotVerifiedError(str(error)) from error
            self.trouble = str(error)
            return
        self.trouble = ""
        if model.name != self._name:
            self.trouble = f"the service answers: {model.name} version {model.version}"
            return
        now = self._clock.now()
        self.reports_servers = bool(model.servers)
        for each in model.servers or [_server_of_old_gateway(model)]:
            at = now - each.seconds_ago
            if each.server not in self._seen or at >= self._seen[each.server][0]:
                self._seen[each.server] = (at, each)

    @property
    def servers(self) -> list[ModelServerBody]:
        """The model servers that some gateway had an answer of lately."""
        now = self._clock.now()
        return [each for at, each in self._seen.values() if now - at <= FORGET_SECONDS]

    def updated_since(self, moment: float) -> bool:
        """Whether each of them has answered some gateway since a moment."""
        now = self._clock.now()
        lately = [at for at, _ in self._seen.values() if now - at <= FORGET_SECONDS]
        return bool(lately) and all(at >= moment for at in lately)

    def counts(self, version: str) -> dict[str, tuple[int, int]]:
        """Captioned and failed, by server."""
        return {
            name: (each.captioned, each.failed)
            for name, (_, each) in self._seen.items()
            if each.version == version
        }


def verify_version(  # noqa: PLR0917 - what is verified, and how
    service: Service,
    name: str,
    version: str,
    canaries: Sequence[Canary],
    patience: Patience,
    counts: Counts | None = None,
    limits: Limits | None = None,
    clock: Clock | None = None,
) -> Verified:
    """Compares the captions of a version of the registered model `name` with those expected, for a while.

    Raises:
        VerificationError: it is at fault.
        NotVerifiedError: there is no telling.
    """
    clock, limits = clock or Clock(), limits or Limits()
    fleet = Fleet(service, name, clock)
    wait_for_all(fleet, version, patience.wait, clock)
    counts_before, known_before = fleet.counts(version), counts() if counts else None
    usual = usual_confidence(service, version)
    answers = [caption_canary(service, fleet, canary, version, patience.wait, clock) for canary in canaries]
    raise_if_problems(version, find_problems(answers, usual, limits))
    repeated = repeat_canaries(service, fleet, canaries, version, patience, clock)
    all_results = [*answers, *repeated]
    raise_if_problems(version, find_problems(all_results, None, Limits(agreement=0, lowest_confidence=0)))
    if counts is not None and known_before is not None:
        asked, failed = _counter_increase(counts, known_before, len(all_results), clock)
        if not asked:
            raise NotVerifiedError(f"no request of version {version} was counted, so nothing is known of it")
    else:
        asked, failed = _counted(fleet, counts_before, version, clock)
    is_complete = asked >= len(all_results)
    asked = max(asked, len(all_results))
    if failed >= limits.fewest_failures and failed > limits.failed_requests * asked:
        raise_if_problems(version, [f"{failed} of {asked} requests failed since it took over"])
    return Verified(version, len(fleet.servers), answers, usual, failed, asked, is_complete)


def wait_for_all(fleet: Fleet, version: str, seconds: float, clock: Clock) -> None:
    """Returns once all model servers have served the version for a moment.

    Raises:
        VerificationError: one of them cannot load it.
        NotVerifiedError: not all serve it in time.
    """
    deadline, since = clock.now() + seconds, None
    while True:
        fleet.poll()
        servers = fleet.servers
        refusing = [each for each in servers if each.refused_version == version]
        if not servers or any(each.version != version for each in servers):
            since = None
        elif not fleet.trouble:  # a look that was turned away tells nothing, and ends nothing
            since = clock.now() if since is None else since
            if not fleet.reports_servers or clock.now() - since >= min(SETTLED_SECONDS, seconds):
                return
        if len(refusing) == len(servers) > 0 or (refusing and clock.now() >= deadline):
            raise_if_problems(version, [f"{len(refusing)} of {len(servers)} model servers cannot load it"])
        if clock.now() >= deadline + (0 if since is None else SETTLED_SECONDS):
            raise NotVerifiedError(
                f"version {version} is not served everywhere after {seconds:.0f} s:"
                f" {_servers_summary(fleet, version)}"
            )
        clock.sleep(LOOK_SECONDS)


def caption_canary(  # noqa: PLR0917
    service: Service, fleet: Fleet, canary: Canary, version: str, seconds: float, clock: Clock
) -> CanaryResult:
    """The version's caption of one canary.

    Raises:
        NotVerifiedError: nobody answers in time, or another version took its place.
    """
    deadline = clock.now() + max(seconds, RETRY_SECONDS)
    while True:
        try:
            response = service.look(canary.photo, version=version)
            if response.model.version == version:
                # The version before may not have known how often its captions are accepted: this was its
                # confidence.
                word_confidence = mean_confidence([word.confidence for word in response.words])
                return CanaryResult(canary, response.caption, max(response.confidence, word_confidence))
            trouble = f"version {response.model.version} answers"  # a gateway from before there was a choice
        except ServiceError as error:
            if error.problem is not None and error.problem.type == UNREADABLE:
                return CanaryResult(canary, None, 0.0)
            if error.problem is not None and error.problem.status in OF_THE_CALLER:
                raise NotVerifiedError(str(error)) from error
            trouble = str(error)
        fleet.poll()
        serving = {each.version for each in fleet.servers}
        if not fleet.trouble and serving and version not in serving:
            raise NotVerifiedError(
                f"version {version} is not served any more: {_servers_summary(fleet, version)}"
            )
        if clock.now() >= deadline:
            raise NotVerifiedError(f"photo {canary.name} got no answer of version {version}: {trouble}")
        clock.sleep(RETRY_SECONDS)


def repeat_canaries(  # noqa: PLR0917
    service: Service,
    fleet: Fleet,
    canaries: Sequence[Canary],
    version: str,
    patience: Patience,
    clock: Clock,
) -> list[CanaryResult]:
    """Sends a canary every few seconds for a while: their answers."""
    end = clock.now() + patience.watch_seconds
    answers: list[CanaryResult] = []
    while (left := end - clock.now()) > 0:
        clock.sleep(min(left, BETWEEN_CANARIES_SECONDS))
        canary = canaries[len(answers) % len(canaries)]
        answers.append(caption_canary(service, fleet, canary, version, patience.wait, clock))
    return answers


def usual_confidence(service: Service, version: str) -> float | None:
    """Mean confidence of what the other versions served lately, the newest of them that served enough."""
    try:
        tallies = service.statistics().by_version
    except ServiceError:
        return None
    for tally in tallies:  # the newest first
        if tally.version != version and tally.captions >= FEWEST_TO_COMPARE:
            return tally.mean_confidence
    return None


def raise_if_problems(version: str, problems: Sequence[str]) -> None:
    """Raises `VerificationError` if anything is wrong."""
    if problems:
        raise VerificationError(f"Version {version} does not pass: {'; '.join(problems)}")


def _counted(
    fleet: Fleet, before: Mapping[str, tuple[int, int]], version: str, clock: Clock
) -> tuple[int, int]:
    """Photos asked and failed since, over all model servers, each heard of once more."""
    began = clock.now()
    fleet.poll()
    while not fleet.updated_since(began) and clock.now() - began < COUNTED_WITHIN_SECONDS:
        clock.sleep(LOOK_SECONDS)
        fleet.poll()
    captioned = failed = 0
    for server, (now_captioned, now_failed) in fleet.counts(version).items():
        was_captioned, was_failed = before.get(server, (0, 0))
        captioned += max(0, now_captioned - was_captioned)
        failed += max(0, now_failed - was_failed)
    return captioned + failed, failed


def _counter_increase(
    counts: Counts, before: tuple[int, int], at_least: int, clock: Clock
) -> tuple[int, int]:
    """Photos asked and failed since, by counters that are looked at now and then only."""
    began = clock.now()
    while True:
        captioned, failed = (max(0, each - earlier) for each, earlier in zip(counts(), before, strict=True))
        if captioned + failed >= at_least or clock.now() - began >= FORGET_SECONDS:
            return captioned + failed, failed
        clock.sleep(LOOK_SECONDS)


def _server_of_old_gateway(model: ModelBody) -> ModelServerBody:
    """The one model server that an older gateway, which does not list them, has."""
    return ModelServerBody(server="", version=model.version, seconds_ago=0, captioned=0, failed=0)


def _servers_summary(fleet: Fleet, version: str) -> str:
    servers = fleet.servers
    if fleet.trouble or not servers:
        return fleet.trouble or "no model server is known"
    others = sorted({each.version for each in servers} - {version})
    serving = sum(each.version == version for each in servers)
    text = f"{serving} of {len(servers)} model servers serve it"
    return text + (f", others serve version {', '.join(others)}" if others else "")
