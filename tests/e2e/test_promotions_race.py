"""Two processes promote at the same time, into SQLite and through an MLflow server: none is overwritten."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import httpx
import pytest
from service_process import free_port

from captionloop.registry import tracking
from captionloop.registry.gate import GateDecision
from captionloop.registry.model_registry import ModelRegistry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
ROUNDS = 6
DEEDS = ("gated", "by hand")


@pytest.fixture(scope="module", params=["sqlite", "server"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow store."""
    folder = tmp_path_factory.mktemp("store")
    file = f"sqlite:///{folder / 'mlflow.db'}"
    tracking.create(file)
    if request.param == "sqlite":
        yield file
        return
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", file, "--port", str(port)]
    command += ["--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    url = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _answers(f"{url}/health"), 300)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def _until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _until_there(folder: Path, *names: str) -> None:
    _until(lambda: all((folder / name).exists() for name in names), 120)


def test_what_the_gate_judged_never_overwrites_what_it_never_met(
    store: str, tmp_path: Path, bundles: list[Path]
) -> None:
    with chdir(tmp_path):
        registry = ModelRegistry(store, "raced", "raced")
        for bundle in bundles:
            registry.register(bundle)
    decision = GateDecision(
        promoted=True, reason="Promoted.", candidate="it", champion="version 1", evaluation_set="e", photos=2,
        margin=0.03, seed=0, difference=None, checks=(),
    )  # fmt: skip
    registry.record_decision(2, decision, "")
    folder = tmp_path / "race"
    folder.mkdir()
    script = Path(__file__).with_name("promoting_process.py")
    racers = [
        subprocess.Popen([sys.executable, str(script), store, registry.name, deed, str(folder)], cwd=tmp_path)
        for deed in DEEDS
    ]
    reasons: Counter[str] = Counter()
    try:
        for round_number in range(ROUNDS):
            registry.promote(1)
            _until_there(folder, *(f"{deed}.{round_number}.ready" for deed in DEEDS))
            (folder / f"{round_number}.go").touch()
            _until_there(folder, *(f"{deed}.{round_number}" for deed in DEEDS))
            assert (folder / f"by hand.{round_number}").read_text() == "done"
            gated = (folder / f"gated.{round_number}").read_text()
            assert gated == "done" or "but the champion is now version 3" in gated
            reasons["gated first" if gated == "done" else "refused"] += 1
            assert registry.champion().version == 3
    finally:
        (folder / "stop").touch()
        for racer in racers:
            racer.wait(60)
    lines = [line for line in registry.history() if line.action == "promote"]
    assert all(line.before == 1 for line in lines if line.version == 2), "it met nobody but version 1"
    assert len([line for line in lines if line.version == 3]) == ROUNDS
    print(dict(reasons))


def test_a_promotion_that_is_killed_holds_up_nobody_and_loses_nothing(
    store: str, tmp_path: Path, bundles: list[Path]
) -> None:
    with chdir(tmp_path):
        registry = ModelRegistry(store, "killed", "killed")
        for bundle in bundles:
            registry.register(bundle)
    registry.promote(1)
    program = (
        "import os, sys; from captionloop.registry import history; "
        "from captionloop.registry.model_registry import ModelRegistry; "
        "history.append = lambda *_: os.kill(os.getpid(), 9); "
        "ModelRegistry(sys.argv[1], 'killed').promote(2)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, store], cwd=tmp_path, check=False, env=dict(os.environ)
    )
    assert killed.returncode == -9
    assert registry.promote(3).version == 3
    entries = [(line.action, line.version, line.before) for line in registry.history()][-3:]
    assert entries == [("promote", 1, None), ("found", 2, 1), ("promote", 3, 2)]
    assert [registry.rollback().version, registry.rollback().version] == [2, 1]
