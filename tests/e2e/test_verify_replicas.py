"""`captionloop verify` before two model servers behind nginx and one gateway, and what comes of it."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import httpx
import pytest
from PIL import Image
from service_process import SERVICE, ServiceProcess, free_port, photo
from small_project import ROOT

from captionloop.captioner.captioner import Captioner
from captionloop.registry.gate import GateDecision
from captionloop.registry.model_registry import ModelRegistry

pytestmark = [pytest.mark.e2e, pytest.mark.service, pytest.mark.timeout(1200)]
MODEL_SERVER = "captionloop.serving.service:ModelServer"
NGINX = """
worker_processes 1; daemon off; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream model_servers {{
        least_conn;
        server 127.0.0.1:{one} max_fails=0;
        server 127.0.0.1:{two} max_fails=0;
    }}
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 8m;
        location / {{
            proxy_pass http://model_servers;
            proxy_next_upstream error timeout http_502 http_503 non_idempotent;
        }}
    }}
}}
"""


class Replicas:
    """Two model servers, of which the second looks for another champion later than the first."""

    def __init__(self, folder: Path, registry: ModelRegistry, canaries: list[bytes]) -> None:
        self.registry, self._folder = registry, folder
        ports = {name: free_port() for name in ("one", "two", "port")}
        models = {
            name: ServiceProcess(
                folder / name, MODEL_SERVER, ports[name], CAPTIONLOOP_REGISTRY=registry.tracking_uri,
                CAPTIONLOOP_FOLLOW_SECONDS=seconds,
            )
            for name, seconds in (("one", "0.5"), ("two", "12"))
        }  # fmt: skip
        self.gateway = ServiceProcess(
            folder / "gateway", SERVICE, CAPTIONLOOP_MODEL_SERVER=f"http://127.0.0.1:{ports['port']}"
        )
        self.processes = [*models.values(), self.gateway]
        place = folder / "nginx"
        place.mkdir()
        (place / "balancer.conf").write_text(NGINX.format(**ports))
        command = ["nginx", "-p", str(place), "-c", "balancer.conf"]
        if os.geteuid() == 0:
            command += ["-g", "user root;"]
        with (place / "log").open("wb") as log:
            self._nginx = subprocess.Popen(command, stdout=log, stderr=log)
        self.photos = folder / "canaries"
        self.photos.mkdir()
        for number, canary in enumerate(canaries):
            (self.photos / f"{number}.jpg").write_bytes(canary)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("CAPTIONLOOP_")
        }
        environment |= {
            "MLFLOW_TRACKING_URI": self.registry.tracking_uri, "CAPTIONLOOP_URL": self.gateway.url,
            "CAPTIONLOOP_STATE": str(self._folder / "state"), "CAPTIONLOOP_ACTOR": "test:replicas",
        }  # fmt: skip
        return subprocess.run(
            [str(Path(sys.executable).parent / "captionloop"), *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=400,
        )  # fmt: skip

    def verify(self, version: int, wait: int = 120) -> subprocess.CompletedProcess[str]:
        return self.command(
            "verify", "--version", str(version), "--photos", str(self.photos), "--canaries", "4",
            "--for", "6", "--wait", str(wait),
        )  # fmt: skip

    def stop(self) -> None:
        self._nginx.terminate()
        self._nginx.wait(10)
        for process in self.processes:
            process.kill()


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, bundles: list[Path]) -> Iterator[Replicas]:
    if not shutil.which("nginx"):
        pytest.skip("needs nginx (requirements/debian.txt)")
    folder = tmp_path_factory.mktemp("replicas")
    with chdir(folder):
        registry = ModelRegistry(f"sqlite:///{folder / 'mlflow.db'}")
        for bundle in (*bundles[:2], unloadable(bundles[0], folder / "unloadable")):
            registry.register(bundle)
        registry.promote(1)
    running = Replicas(folder, registry, told_apart(bundles[1]))
    try:
        for process in running.processes:
            process.wait_until_ready()
        yield running
    finally:
        running.stop()


def told_apart(bundle: Path) -> list[bytes]:
    """Four photos, of which a tiny model does not say the same of all."""
    photos = [photo(number, size=(96, 96)) for number in range(40)]
    photos += [flat(colour) for colour in ("black", "white", "red", "green", "blue", "yellow")]
    captions = [each.best.text for each in Captioner.load(bundle).caption(photos)]
    other = next(number for number, text in enumerate(captions) if text != captions[0])
    return [*photos[:3], photos[other]]


def flat(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (96, 96), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def unloadable(bundle: Path, folder: Path) -> Path:
    """A bundle of a format from the future: sound, and of no use to this version."""
    shutil.copytree(bundle, folder)
    config = json.loads((folder / "config.json").read_text())
    config["format_version"] = 99
    (folder / "config.json").write_text(json.dumps(config))
    sums = json.loads((folder / "checksums.json").read_text())
    sums["config.json"] = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    (folder / "checksums.json").write_text(json.dumps(sums, indent=2, sort_keys=True) + "\n")
    return folder


def test_a_promotion_is_verified_on_both_model_servers_and_a_bad_one_is_taken_back(
    replicas: Replicas,
) -> None:
    registry, url = replicas.registry, replicas.gateway.url
    deadline = time.monotonic() + 60
    while len(served := httpx.get(f"{url}/v1/model", timeout=30).json()["servers"]) < 2:
        assert time.monotonic() < deadline, served
        time.sleep(0.5)
    assert {each["version"] for each in served} == {"1"}

    registry.promote(2)
    found = replicas.verify(2)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("Version 2 answers on 2 model servers: 4 canary photos captioned")
    assert "0 of its " in found.stdout and "0 of its 0" not in found.stdout
    statistics = httpx.get(f"{url}/v1/statistics", timeout=30).json()
    assert statistics["totals"]["captions"] == 0, "canaries are no use by people"
    captions = "captionloop_captions_total{"
    assert not [line for line in httpx.get(f"{url}/metrics").text.splitlines() if line.startswith(captions)]

    registry.promote(3)
    found = replicas.verify(3, wait=60)
    assert found.returncode == 1, found.stdout + found.stderr
    assert "model servers cannot load it" in found.stderr
    back = replicas.command("models", "rollback", "--only-from", "3", "--after-verify")
    assert back.stdout.startswith("Version 2 is the champion again."), back.stderr
    assert registry.version(3).rolled_back


def test_a_service_that_is_down_gives_no_verdict_and_the_version_may_come_again(replicas: Replicas) -> None:
    registry = replicas.registry
    registry.promote(2)
    decision = GateDecision(
        promoted=True, reason="Promoted.", candidate="it", champion="version 1", evaluation_set="e", photos=2,
        margin=0.03, seed=0, difference=None, checks=(),
    )  # fmt: skip
    registry.record_decision(2, decision, "")
    replicas.gateway.kill()
    found = replicas.verify(2, wait=3)
    assert found.returncode == 75, found.stderr
    assert (
        "Version 2 was not verified, which says nothing against it: " in found.stderr
        and "Traceback" not in found.stderr
    )
    back = replicas.command("models", "rollback", "--only-from", "2", "--after-verify")
    assert back.returncode == 0, back.stderr
    assert registry.champion().version == 1 and registry.version(2).rolled_back is None
    assert registry.promote_gated(2).is_champion
    lines = json.loads(replicas.command("models", "history", "--json").stdout)
    entries = [(line["action"], line["version"], line["outcome"]) for line in lines]
    assert entries[-4:] == [
        ("pass", 2, ""), ("verify", 2, "not verified"), ("withdraw", 2, ""), ("promote", 2, ""),
    ]  # fmt: skip
    assert {line["by"] for line in lines if line["action"] in {"verify", "withdraw"}} == {"test:replicas"}
