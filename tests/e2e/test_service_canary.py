"""A version beside the champion in a real service: as a canary and as a shadow, killed, judged, promoted."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import httpx
import psutil
import pytest
from service_process import ServiceProcess, photo
from small_project import ROOT

from captionloop.registry.gate import GateDecision
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.promotion import begin_trial, end_trial
from captionloop.registry.trials import Role

pytestmark = [pytest.mark.e2e, pytest.mark.service, pytest.mark.timeout(1200)]
CLIENTS = 32


class Served:
    """A service that follows a registry in which version 1 is champion and version 2 passed the gate."""

    def __init__(self, folder: Path, bundles: list[Path]) -> None:
        self.folder = folder
        with chdir(folder):
            self.registry = ModelRegistry(f"sqlite:///{folder / 'mlflow.db'}")
            for bundle in (bundles[0], bundles[2]):  # the other one sees larger squares
                self.registry.register(bundle)
            self.registry.promote(1)
        decision = GateDecision(
            promoted=True, reason="Promoted.", candidate="it", champion="version 1", evaluation_set="e",
            photos=2, margin=0.03, seed=0, difference=None, checks=(),
        )  # fmt: skip
        self.registry.record_decision(2, decision, "")
        self.service = ServiceProcess(
            folder / "service", CAPTIONLOOP_REGISTRY=self.registry.tracking_uri,
            CAPTIONLOOP_UPLOAD_SECONDS="100", CAPTIONLOOP_CAPTIONS_AT_ONCE="128",
            CAPTIONLOOP_CAPTIONS_AT_ONCE_PER_CALLER="128",
        )  # fmt: skip

    def trial(self) -> dict | None:
        servers = httpx.get(f"{self.service.url}/v1/model", timeout=30).json()["servers"]
        return servers[0]["trial"] if servers else None

    def begin(self, role: Role, share: float) -> None:
        begin_trial(self.registry, 2, role, share, most=60, days=1)
        self.until(lambda trial: trial is not None and trial["ready"] and trial["role"] == role)

    def end(self, role: Role) -> None:
        end_trial(self.registry, role, "stopped")
        self.until(lambda trial: trial is None)

    def until(self, is_so, seconds: float = 150) -> None:
        deadline = time.monotonic() + seconds
        while not is_so(trial := self.trial()):
            assert time.monotonic() < deadline, (trial, self.service.log.read_text()[-3000:])
            time.sleep(0.2)

    def process(self) -> psutil.Process:
        """In which the other version runs."""
        found = [
            process
            for process in map(psutil.Process, self.service.processes())
            if "captionloop.serving.trial_process" in process.cmdline()
        ]
        assert len(found) == 1, found
        return found[0]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("CAPTIONLOOP_")
        }
        environment |= {
            "MLFLOW_TRACKING_URI": self.registry.tracking_uri, "CAPTIONLOOP_URL": self.service.url,
            "CAPTIONLOOP_STATE": str(self.service.state), "CAPTIONLOOP_ACTOR": "test:canary",
        }  # fmt: skip
        return subprocess.run(
            [str(Path(sys.executable).parent / "captionloop"), "models", *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, bundles: list[Path]) -> Iterator[Served]:
    running = Served(tmp_path_factory.mktemp("canary"), bundles)
    try:
        running.service.wait_until_ready()
        yield running
    finally:
        running.service.stop()


def ask(client: httpx.Client, seed: int = 0) -> dict:
    answer = client.post("/v1/captions", files={"image": photo(seed, size=(64, 64))})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_shadow_changes_no_answer_and_tells_how_it_does(served: Served) -> None:
    with httpx.Client(base_url=served.service.url, timeout=60) as client:
        before = [ask(client, seed)["caption"] for seed in range(12)]
        served.begin("shadow", 1.0)
        assert os.sched_getscheduler(served.process().pid) == os.SCHED_IDLE, "everybody else goes first"
        answers = [ask(client, seed) for seed in range(12)]
        assert [each["caption"] for each in answers] == before
        assert {each["model"]["version"] for each in answers} == {"1"}
        served.until(lambda trial: trial["captioned"] + trial["dropped"] == 12)
        trial = served.trial()
        assert trial is not None and trial["captioned"] > 0 and trial["failed"] == 0
        assert len(client.get("/v1/captions?limit=50").json()["captions"]) == 24, (
            "nothing of the shadow's is kept"
        )
    status = served.command("shadow", "--status")
    assert status.returncode == 75, status.stderr
    assert status.stdout.startswith(f"Version 2 as a shadow: {trial['captioned']} photos captioned")
    metrics = httpx.get(f"{served.service.url}/metrics", timeout=30).text
    name = 'captionloop_trial_photos_total{outcome="captioned",role="shadow",version="2"}'
    assert f"{name} {trial['captioned']}.0" in metrics
    assert 'captionloop_trial_ready{role="shadow",version="2"} 1.0' in metrics
    served.end("shadow")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
def test_the_canary_killed_under_32_clients_fails_no_request_and_comes_back(
    served: Served, number: signal.Signals
) -> None:
    served.begin("canary", 0.5)
    answers: Counter[tuple[int, str]] = Counter()
    people: dict[int, set[str]] = {}
    killed, stop = threading.Event(), threading.Event()

    def person(turn: int) -> None:
        with httpx.Client(base_url=served.service.url, timeout=60) as client:
            while not stop.is_set():
                answer = client.post("/v1/captions", files={"image": photo(turn, size=(64, 64))})
                made_by = answer.json().get("model", {}).get("version", "?")
                answers[answer.status_code, made_by] += 1
                if not killed.is_set() and answer.status_code == 201:
                    people.setdefault(turn, set()).add(made_by)

    threads = [threading.Thread(target=person, args=(turn,)) for turn in range(CLIENTS)]
    for each in threads:
        each.start()
    try:
        time.sleep(8)
        killed.set()
        before = served.process().pid
        os.kill(before, number)
        served.until(lambda trial: trial is not None and not trial["ready"])
        served.until(lambda trial: trial is not None and trial["ready"])
        assert served.process().pid != before
        time.sleep(2)
    finally:
        stop.set()
        for each in threads:
            each.join()
    # A client that a busy machine leaves waiting between head and body is told so, before any model is asked.
    assert {status for status, _ in answers} - {408} == {201}, answers
    assert {version for status, version in answers if status == 201} == {"1", "2"}, answers
    consistent = [versions for versions in people.values() if len(versions) == 1]
    assert len(consistent) >= 0.9 * len(people), "whoever is the canary's is so each time"
    trial = served.trial()
    assert trial is not None and trial["captioned"] > 0
    served.end("canary")
    with httpx.Client(base_url=served.service.url, timeout=60) as client:
        assert ask(client)["model"]["version"] == "1"


def test_people_s_ratings_bring_the_canary_into_service(served: Served) -> None:
    begun = served.command("canary", "2", "--share", "0.5", "--ratings", "60", "--why", "a test")
    assert begun.returncode == 0, begun.stderr
    assert begun.stdout.startswith("Version 2 is the canary of 50% of the people beside version 1")
    served.until(lambda trial: trial is not None and trial["ready"])
    assert served.command("canary", "--status").returncode == 75
    for number in range(36):
        with httpx.Client(base_url=served.service.url, timeout=60) as person:
            made = ask(person, number)
            stars = 5 if made["model"]["version"] == "2" else 2
            rated = person.put(f"/v1/captions/{made['caption_id']}/rating", json={"stars": stars})
            assert rated.status_code == 200
    trial = json.loads(served.command("canary", "--status", "--json").stdout)
    assert trial["advice"] == "promote" and trial["measures"]["stars"]["difference"] == pytest.approx(3)
    decided = served.command("canary", "2", "--decide")
    assert decided.returncode == 0, decided.stdout + decided.stderr
    assert decided.stdout.rstrip().endswith("Version 2 is now the champion.")
    again = served.command("canary", "2", "--decide")
    assert again.returncode == 0 and "has ended: better" in again.stdout
    served.until(lambda trial: trial is None)
    lines = json.loads(served.command("history", "--json").stdout)
    assert [(line["action"], line["version"], line["outcome"]) for line in lines][-3:] == [
        ("canary", 2, ""), ("end", 2, "better"), ("promote", 2, ""),
    ]  # fmt: skip
    assert {line["by"] for line in lines[-3:]} == {"test:canary"}
    assert not [
        pid
        for pid in served.service.processes()
        if "trial_process" in " ".join(psutil.Process(pid).cmdline())
    ]
