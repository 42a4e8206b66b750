"""The model server serves what a trusted key signed, from registry and cache alike, and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from service_process import ServiceProcess, photo

from captionloop.captioner.captioner import Captioner
from captionloop.registry import model_version
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.model_version import checksums, fingerprint
from captionloop.registry.signing import Signing, make_key_pair, signature_of
from captionloop.serving.engine import REFUSED, Engine
from captionloop.serving.model_sources import FolderSource, RegistrySource

pytestmark = [pytest.mark.e2e, pytest.mark.service]


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    private, public = make_key_pair(tmp_path / "keys")
    return Signing(private, public)


@pytest.fixture
def registry(tmp_path: Path, signing: Signing, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    monkeypatch.chdir(tmp_path)
    return ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", signing=signing)


@pytest.fixture
def start(registry: ModelRegistry, tmp_path: Path) -> Callable[[], Engine]:
    """A model server's engine that has looked once; each with the same cache, as after a restart."""

    def started() -> Engine:
        engine = Engine(RegistrySource(registry, tmp_path / "bundles"), Captioner.load, max_batch=2)
        engine.refresh()
        return engine

    return started


def put_in_place_of(registry: ModelRegistry, version: int, evil: Path) -> None:
    """What whoever writes the registry can do: artifacts, checksums and fingerprint, and who is champion."""
    bundle = Path(registry.version(version).source)
    shutil.rmtree(bundle)
    shutil.copytree(evil, bundle)
    client = MlflowClient(registry.tracking_uri)
    changed = {
        model_version.CHECKSUMS: json.dumps(checksums(evil)),
        model_version.FINGERPRINT: fingerprint(evil),
    }
    for key, value in changed.items():
        client.set_model_version_tag(registry.name, str(version), key, value)
    client.set_registered_model_alias(registry.name, "champion", str(version))


def test_a_model_put_in_the_registry_by_somebody_else_is_not_served(
    registry: ModelRegistry, bundles: list[Path], start: Callable[[], Engine], tmp_path: Path
) -> None:
    registry.promote(registry.register(bundles[0]).version)
    registry.register(bundles[1])
    running = start()
    assert running.describe().version == "1" and running.describe().notice == ""
    put_in_place_of(registry, 2, bundles[2])
    running.refresh()
    assert running.describe().version == "1", "what is served stays"
    # After a restart as well: from the cache, whose copy has its signature beside it.
    again = start()
    assert again.describe().version == "1"
    assert again.describe().notice == f"{REFUSED}; version 1 was served here last"
    again.refresh()
    assert again.describe().notice, "for as long as it is so"
    shutil.rmtree(tmp_path / "bundles")
    fresh = start().describe()
    assert not fresh.ready and "is not what key" in fresh.reason


def test_neither_is_one_put_into_the_cache(
    registry: ModelRegistry, bundles: list[Path], start: Callable[[], Engine], tmp_path: Path
) -> None:
    registry.promote(registry.register(bundles[0]).version)
    assert start().describe().ready
    (cached,) = (each for each in (tmp_path / "bundles").iterdir() if each.is_dir())
    shutil.copytree(bundles[1], cached, dirs_exist_ok=True)
    registry.tracking_uri = "http://127.0.0.1:1"  # away
    registry.__dict__.pop("_client")
    description = start().describe()
    assert (
        not description.ready and "is not what key" in description.reason and "\n" not in description.reason
    )
    shutil.copytree(bundles[0], cached, dirs_exist_ok=True)
    assert start().describe().ready, "what was signed is served though the registry is away"
    signature_of(cached).unlink()
    assert "is not signed" in start().describe().reason


def test_a_key_that_is_trusted_no_more_serves_nothing_after_a_restart(
    registry: ModelRegistry, bundles: list[Path], start: Callable[[], Engine], tmp_path: Path
) -> None:
    registry.promote(registry.register(bundles[0]).version)
    running = start()
    registry.signing = Signing(None, make_key_pair(tmp_path / "other")[1])
    running.refresh()
    assert running.describe().ready
    assert "which is not trusted" in start().describe().reason


def test_of_a_folder_the_signature_lies_beside(bundles: list[Path], signing: Signing, tmp_path: Path) -> None:
    shutil.copytree(bundles[0], tmp_path / "model")
    source = FolderSource(tmp_path / "model", signing)
    engine = Engine(source, Captioner.load, max_batch=2)
    engine.refresh()
    assert "is not signed" in engine.describe().reason
    signing.sign(tmp_path / "model", signature_of(tmp_path / "model"))
    engine = Engine(source, Captioner.load, max_batch=2)
    engine.refresh()
    assert engine.describe().ready


def test_the_service_itself_reads_the_setting(
    registry: ModelRegistry, bundles: list[Path], signing: Signing, tmp_path: Path
) -> None:
    registry.promote(registry.register(bundles[0]).version)
    running = ServiceProcess(
        tmp_path / "service",
        CAPTIONLOOP_REGISTRY=registry.tracking_uri,
        CAPTIONLOOP_TRUST_STORE=str(signing.trust_store),
    )
    try:
        running.wait_until_ready()
        made = httpx.post(f"{running.url}/v1/captions", files={"image": photo()}, timeout=60)
        assert made.status_code == 201 and made.json()["model"]["version"] == "1"
        put_in_place_of(registry, 1, bundles[1])
        running.kill()
        shutil.rmtree(running.state / "bundles")
        running.start()
        reason = ""
        while "is not what key" not in reason:
            assert running._process.poll() is None, running.log.read_text()[-3000:]
            try:
                reason = httpx.get(f"{running.url}/readyz", timeout=5).text
            except httpx.HTTPError:
                continue
    finally:
        running.kill()
