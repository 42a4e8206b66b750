"""The model server follows a real registry: MLflow on SQLite."""

import time
from pathlib import Path

import httpx
import pytest
from servers import DebianPostgres, needs_debian_postgres
from service_process import SERVICE, ServiceProcess, photo

from captionloop.captioner.captioner import Captioner
from captionloop.registry.model_registry import ModelRegistry
from captionloop.serving.engine import Engine
from captionloop.serving.model_sources import KEPT_BUNDLES, RegistrySource

pytestmark = [pytest.mark.e2e, pytest.mark.service]


def test_promotion_and_rollback_reach_the_engine(tmp_path: Path, bundles: list[Path], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    cache = tmp_path / "bundles"
    engine = Engine(RegistrySource(registry, cache), Captioner.load, max_batch=2)
    engine.refresh()
    assert not engine.describe().ready, "nothing is promoted yet"
    first, second = (registry.register(bundle) for bundle in bundles[:2])
    registry.promote(first.version)
    engine.refresh()
    assert engine.describe().version == "1"
    registry.promote(second.version)
    engine.refresh()
    assert (engine.describe().version, engine.describe().previous_version) == ("2", "1")
    registry.rollback()
    engine.refresh()
    assert (engine.describe().version, engine.describe().previous_version) == ("1", "2")
    assert len([entry for entry in cache.iterdir() if not entry.name.startswith(".")]) <= KEPT_BUNDLES


def test_a_registry_that_goes_away_leaves_the_model_in_place(
    tmp_path: Path, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    registry = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    registry.promote(registry.register(bundles[0]).version)
    source = RegistrySource(registry, tmp_path / "bundles")
    engine = Engine(source, Captioner.load, max_batch=2)
    engine.refresh()
    source._registry = ModelRegistry("http://127.0.0.1:1")
    engine.refresh()
    assert engine.describe().ready


@pytest.mark.parametrize("away", ["stopped", "hanging"])
def test_a_restart_with_mlflow_away_serves_the_last_model_and_says_so(
    tmp_path: Path, bundles: list[Path], monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """Its database is away, and the model server killed; both come back, the model server first."""
    needs_debian_postgres()
    monkeypatch.chdir(tmp_path)
    database = DebianPostgres()
    registry = ModelRegistry(database.url.replace("postgresql:", "postgresql+psycopg:"))
    registry.promote(registry.register(bundles[0]).version)
    running = ServiceProcess(tmp_path / "service", CAPTIONLOOP_REGISTRY=registry.tracking_uri)
    try:
        running.wait_until_ready()
        before = httpx.get(f"{running.url}/v1/model", timeout=10).json()
        assert before["notice"] == ""
        running.kill()
        database.stop() if away == "stopped" else database.hang()
        running.start()
        running.wait_until_ready()
        after = httpx.get(f"{running.url}/v1/model", timeout=10).json()
        assert (after["version"], before["version"]) == ("1", "1")
        assert "registry does not answer" in after["notice"]
        assert '"event": "serving the last model"' in running.log.read_text()
        made = httpx.post(f"{running.url}/v1/captions", files={"image": photo()}, timeout=60)
        assert made.status_code == 201 and made.json()["model"]["version"] == "1"
        database.start() if away == "stopped" else database.go_on()
        deadline = time.monotonic() + 60
        while httpx.get(f"{running.url}/v1/model", timeout=10).json()["notice"]:
            assert time.monotonic() < deadline, "the registry is back, and nobody noticed"
            time.sleep(0.3)
    finally:
        running.kill()
        database.remove()


@pytest.mark.parametrize(
    ("what", "method", "path"),
    [(SERVICE, "GET", "/readyz"), ("captionloop.serving.service:ModelServer", "POST", "/describe")],
    ids=["gateway", "model server apart"],
)
def test_without_a_model_the_answer_is_503_and_says_why(
    tmp_path: Path, what: str, method: str, path: str
) -> None:
    registry = f"sqlite:///{tmp_path / 'mlflow.db'}"
    running = ServiceProcess(tmp_path / "service", what, CAPTIONLOOP_REGISTRY=registry)
    reason = ""
    deadline = time.monotonic() + 120
    try:
        while "no model is registered yet" not in reason:
            assert time.monotonic() < deadline, reason
            time.sleep(0.5)
            try:
                answer = httpx.request(method, running.url + path, timeout=5)
            except httpx.HTTPError:
                continue
            reason = answer.text
            assert answer.status_code == 503, reason
    finally:
        running.kill()
