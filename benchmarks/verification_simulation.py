"""How often `captionloop verify` errs, where several model servers take a version over one after another.

    python -m benchmarks.verification_simulation --trials 300

Each trial draws a service anew: when each model server switches, how many requests people make, and how many
of all requests strangers make the service turn away with 503. The functions of `captionloop verify` and the
gateway's memory of model servers are the real ones; time, network and models are played. Beside them is what
`verify` did before it knew of several model servers: the first that answers with the version stood for all.
"""

import argparse
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from captionloop.client import ServiceError
from captionloop.commands.canaries import Canary, CanaryResult, Limits, NotVerifiedError, VerificationError
from captionloop.commands.canaries import find_problems as found_in
from captionloop.commands.verification import Clock, Patience, raise_if_problems, verify_version
from captionloop.serving.gateway.model_client import PINNED_ATTEMPTS
from captionloop.serving.gateway.model_servers import ModelServers
from captionloop.serving.gateway.service_routes import server_bodies
from captionloop.serving.schemas import (
    CaptionResult,
    ImageSize,
    ModelBody,
    ModelDescription,
    ModelRef,
    ProblemBody,
    StatisticsBody,
    TallyBody,
    UnkeptCaption,
    VersionBody,
    WordBody,
)

OLD, NEW = "1", "2"
CANARIES = [Canary(str(number), str(number).encode(), f"caption {number}") for number in range(20)]
PATIENCE = Patience(wait=120.0, watch_seconds=60.0)
FAULTS = ("silent", "monotonous", "wrong", "unsure", "breaks", "hangs", "cannot load", "cannot load on one")


@dataclass
class ModelServer:
    """Serves the old version until `switches`, then the new one, with its fault."""

    name: str
    switches: float
    fault: str
    counts: Counter[str] = field(default_factory=Counter)

    def version(self, now: float) -> str:
        loads = self.fault != "cannot load" and (self.fault != "cannot load on one" or self.name != "0")
        return NEW if now >= self.switches and loads else OLD

    def describe(self, now: float) -> ModelDescription:
        version = self.version(now)
        return ModelDescription(
            ready=True, name="captioner", version=version, server=self.name,
            captioned=self.counts[f"{version} captioned"], failed=self.counts[f"{version} failed"],
            refused_version=NEW if now >= self.switches and version == OLD else None,
        )  # fmt: skip

    def caption(self, photo: bytes, now: float, chance: random.Random) -> CaptionResult:
        version = self.version(now)
        caption_text: str | None = f"caption {photo.decode()}" if version == NEW else f"old {photo.decode()}"
        sure = 0.7
        if version == NEW and self.fault == "hangs":
            raise TimeoutError
        if version == NEW:
            caption_text = {"silent": "", "monotonous": "a dog", "wrong": f"a dog {photo.decode()}"}.get(
                self.fault, caption_text
            )
            sure = 0.1 if self.fault == "unsure" else sure
            caption_text = None if self.fault == "breaks" and chance.random() < 0.3 else caption_text
        self.counts[f"{version} {'failed' if caption_text is None else 'captioned'}"] += 1
        return CaptionResult(
            model_name="captioner",
            model_version=version,
            caption=caption_text,
            confidence=sure,
            server=self.name,
        )


@dataclass
class GatewayProcess:
    """Asks one of the model servers every second, and counts its own answers."""

    servers: ModelServers
    latest: ModelDescription | None = None
    statuses: Counter[str] = field(default_factory=Counter)


class PlayedService:
    """A service at one address: gateways before model servers, people and strangers.

    Args:
        seed: of everything that is drawn.
        model_servers, gateways: how many there are.
        fault: of the new version; empty: it is good.
    """

    def __init__(self, seed: int, model_servers: int, gateways: int, fault: str = "") -> None:
        self.chance = random.Random(f"{seed} {model_servers} {gateways} {fault}")
        self.now = 0.0
        self._ticked = 0
        self.models = [
            ModelServer(str(number), self.chance.uniform(0, 60), fault) for number in range(model_servers)
        ]
        self.gateways = [GatewayProcess(ModelServers(lambda: self.now)) for _ in range(gateways)]
        self._turned_away = self.chance.uniform(0, 0.4)
        self._strangers_until = self.chance.uniform(0, 240)
        self._people = self.chance.uniform(0, 5)
        for gateway in self.gateways:  # they have run for a while
            for model in self.models:
                gateway.servers.record_description(model.describe(-1))
            gateway.latest = self.models[0].describe(-1)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        while self._ticked < int(self.now):
            self._ticked += 1
            for gateway in self.gateways:
                gateway.latest = self.chance.choice(self.models).describe(self.now)
                gateway.servers.record_description(gateway.latest)
            for _ in range(int(self._people + self.chance.random())):
                with suppress(ServiceError):
                    self._captioned(self.chance.choice(self.gateways), b"1000", "")

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.pass_time)

    def model(self) -> ModelBody:
        self.pass_time(0.02)
        gateway = self.chance.choice(self.gateways)
        if self.chance.random() < self._strangers() / 10:
            raise self._refused(gateway)
        gateway.statuses["200"] += 1
        assert gateway.latest is not None
        description = gateway.latest.model_dump(exclude={"ready", "reason"})
        return ModelBody.model_validate({**description, "servers": server_bodies(gateway.servers)})

    def look(self, photo: bytes, *, version: str | None = None) -> UnkeptCaption:
        self.pass_time(self.chance.uniform(0.05, 0.3))
        result = self._captioned(self.chance.choice(self.gateways), photo, version or "")
        word = WordBody(text="a", confidence=result.confidence, attention=None)
        return UnkeptCaption.model_validate(
            {
                "caption": result.caption, "confidence": result.confidence, "words": [word.model_dump()],
                "alternatives": [], "model": ModelRef(name="captioner", version=result.model_version),
                "image": ImageSize(width=1, height=1), "created_at": "2026-11-30T00:00:00Z",
            }
        )  # fmt: skip

    def statistics(self) -> StatisticsBody:
        empty: dict[str, Any] = {"ratings": 0, "corrections": 0, "mean_stars": None, "stars": {}}
        old = VersionBody(version=OLD, captions=1000, mean_confidence=0.7, **empty)
        totals = TallyBody(captions=1000, mean_confidence=0.7, **empty)
        return StatisticsBody.model_validate(
            {"days": 1, "from": "2026-11-30", "to": "2026-11-30", "totals": totals, "by_day": [],
             "by_version": [old]}
        )  # fmt: skip

    def statuses(self) -> Counter[str]:
        """What `/metrics` of the gateway that happens to answer tells of its requests."""
        self.pass_time(0.02)
        return Counter(self.chance.choice(self.gateways).statuses)

    def _captioned(self, gateway: GatewayProcess, photo: bytes, version: str) -> CaptionResult:
        if self.chance.random() < self._strangers() or (version and not gateway.servers.may_serve(version)):
            raise self._refused(gateway)
        for _ in range(PINNED_ATTEMPTS if version else 1):
            try:
                result = self.chance.choice(self.models).caption(photo, self.now, self.chance)
            except TimeoutError:
                raise self._refused(gateway) from None
            gateway.servers.record_result(result)
            if version in {"", result.model_version}:
                break
        if version not in {"", result.model_version}:
            raise self._refused(gateway)
        if result.caption is None:
            raise self._refused(gateway, 422, "image-unreadable")
        gateway.statuses["200"] += 1
        return result

    def _strangers(self) -> float:
        return self._turned_away if self.now < self._strangers_until else 0.0

    def _refused(self, gateway: GatewayProcess, status: int = 503, kind: str = "overloaded") -> ServiceError:
        gateway.statuses[str(status)] += 1
        problem = ProblemBody(
            type=f"urn:captionloop:problem:{kind}", title="no", status=status, detail="no", instance="/",
            request_id="r",
        )  # fmt: skip
        return ServiceError(f"{status}", problem)


def of_all_replicas(service: PlayedService) -> None:
    """`captionloop verify` as it is."""
    verify_version(service, "captioner", NEW, CANARIES, PATIENCE, clock=service.clock)


def of_the_first_that_answers(service: PlayedService) -> None:
    """`captionloop verify` as it was: whoever answers stands for all, and `/metrics` of one for all."""
    deadline = service.now + PATIENCE.wait
    while True:
        with suppress(ServiceError):
            if service.model().version == NEW:
                break
        if service.now >= deadline:
            raise VerificationError("not served")
        service.pass_time(1)
    before = service.statuses()
    answers = [_asked(service, canary) for canary in CANARIES]
    others = {version for _, version in answers} - {NEW}
    raise_if_problems(NEW, [f"version {OLD} answered instead"] if others else [])
    raise_if_problems(NEW, found_in([answer for answer, _ in answers], 0.7, Limits()))
    end, number = service.now + PATIENCE.watch_seconds, 0
    while service.now < end:
        service.pass_time(5)
        answer, version = _asked(service, CANARIES[number % len(CANARIES)])
        number += 1
        raise_if_problems(NEW, [f"version {version} answers now"] if version != NEW else [])
        raise_if_problems(NEW, [] if (answer.caption or "").strip() else ["an empty caption"])
    after = service.statuses()
    increase = {status: count - before[status] for status, count in after.items()}
    if any(count < 0 for count in increase.values()):
        increase = dict(after)
    failed = sum(count for status, count in increase.items() if status >= "500")
    raise_if_problems(NEW, ["requests failed"] if failed > 0.01 * sum(increase.values()) else [])


def _asked(service: PlayedService, canary: Canary) -> tuple[CanaryResult, str]:
    for attempt in range(3):
        try:
            made = service.look(canary.photo)
        except ServiceError as error:
            status = error.problem.status if error.problem else 0
            if attempt == 2 or status != 503:
                raise VerificationError(str(error)) from error
            service.pass_time(5)
        else:
            return CanaryResult(canary, made.caption, made.confidence), made.model.version
    raise AssertionError("unreachable")


def outcome_of(verify: Callable[[PlayedService], None], service: PlayedService) -> str:
    """What would become of the version: passed, not verified, rolled back."""
    try:
        verify(service)
    except VerificationError:
        return "rolled back"
    except NotVerifiedError:
        return "not verified"
    return "passed"


def play(
    verify: Callable[[PlayedService], None], trials: int, model_servers: int, gateways: int, faulty: bool
) -> Counter[str]:
    """How often what becomes of a version: a good one, or one with the faults in turn."""
    counts: Counter[str] = Counter()
    for seed in range(trials):
        fault = FAULTS[seed % len(FAULTS)] if faulty else ""
        counts[outcome_of(verify, PlayedService(seed, model_servers, gateways, fault))] += 1
    return counts


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=300)
    trials = parser.parse_args().trials
    print(f"seeds 0 to {trials - 1}; passed / not verified / rolled back\n")
    print("| model servers | gateways | good, before | good, now | faulty, before | faulty, now |")
    print("|---:|---:|---|---|---|---|")
    for model_servers in (1, 2, 3):
        for gateways in (1, 2):
            cells = []
            for faulty in (False, True):
                for verify in (of_the_first_that_answers, of_all_replicas):
                    found = play(verify, trials, model_servers, gateways, faulty)
                    cells.append(" / ".join(str(found[each]) for each in OUTCOMES))
            print(f"| {model_servers} | {gateways} | {' | '.join(cells)} |", flush=True)


OUTCOMES = ("passed", "not verified", "rolled back")

if __name__ == "__main__":
    main()
