"""A real Prometheus scrapes the running service: every query of every dashboard and rule has an answer."""

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest
import yaml
from service_process import ServiceProcess, free_port, photo

from captionloop.registry.model_registry import ModelRegistry

MONITORING = Path(__file__).resolve().parents[2] / "deploy/monitoring"
sys.path.insert(0, str(MONITORING))
from draw_dashboards import DASHBOARDS  # noqa: E402

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.service,
    pytest.mark.skipif(which("prometheus") is None, reason="needs the Debian package prometheus"),
]
QUERIES = {
    f"{name}: {panel.title}, {legend}": query
    for name, (_, panels) in DASHBOARDS.items()
    for panel in panels
    for legend, query in panel.queries.items()
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, bundles: list[Path]) -> Iterator[ServiceProcess]:
    """A service that follows a registry and shows a drift report; two versions, the first is champion."""
    folder = tmp_path_factory.mktemp("watched")
    registry = ModelRegistry(f"sqlite:///{folder / 'mlflow.db'}")
    versions = [registry.register(bundle).version for bundle in bundles[:2]]
    registry.promote(versions[0])
    report = {"signals": [{"name": "confidence", "value": 0.4}], "drifted": False}
    (folder / "drift.json").write_text(json.dumps(report))
    running = ServiceProcess(
        folder,
        CAPTIONLOOP_REGISTRY=f"sqlite:///{folder / 'mlflow.db'}",
        CAPTIONLOOP_DRIFT_REPORT=str(folder / "drift.json"),
    )
    try:
        running.wait_until_ready()
        use(running.url)  # counters appear with their first event, and are seen to grow with the next
        registry.promote(versions[1])
        until(lambda: served(running.url) == str(versions[1]), "the second version serves")
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, watched: ServiceProcess) -> Iterator[str]:
    """Prometheus with our rules, which it evaluates every second; people use the service meanwhile."""
    folder = tmp_path_factory.mktemp("prometheus")
    for rules in (MONITORING / "rules").glob("*.yaml"):
        quick = re.sub(r"^( +interval:) .*$", r"\1 1s", rules.read_text(), flags=re.MULTILINE)
        (folder / rules.name).write_text(quick)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "service.yaml"), str(folder / "quality.yaml")],
        "scrape_configs": [
            {"job_name": "captionloop", "static_configs": [{"targets": [f"127.0.0.1:{watched.port}"]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--web.listen-address={address}"]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            [*command, f"--storage.tsdb.path={folder / 'data'}"], stdout=log, stderr=log
        )
    url = f"http://{address}"
    try:
        until(lambda: values(url, 'up{job="captionloop"}') == [1.0], "the service is scraped")
        for _ in range(4):
            use(watched.url)
            time.sleep(1.5)
        yield url
    finally:
        running.terminate()
        running.wait(30)


def use(url: str) -> None:
    """What people do in a minute: caption, rate, correct, erase, and send what is no photo."""
    with httpx.Client(base_url=url, timeout=60) as person:
        for stars in range(1, 6):
            sent = person.post(
                "/v1/captions", content=photo(stars), headers={"Content-Type": "image/jpeg"}
            ).raise_for_status()
            name = f"/v1/captions/{sent.json()['caption_id']}"
            rating = {"stars": stars} | ({"correction": "a red square"} if stars == 1 else {})
            person.put(f"{name}/rating", json=rating).raise_for_status()
        person.delete(name).raise_for_status()
        refused = person.post("/v1/captions", content=b"text", headers={"Content-Type": "image/jpeg"})
        assert refused.status_code == 422


def served(url: str) -> str:
    return str(httpx.get(f"{url}/v1/model", timeout=10).json().get("version"))


def until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.3)


def values(url: str, query: str) -> list[float]:
    # Until it has begun it answers 503 and a sentence.
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=10).raise_for_status()
    found: dict[str, Any] = answer.json()
    assert found["status"] == "success", found
    return [float(each["value"][1]) for each in found["data"]["result"]]


@pytest.mark.parametrize("which_one", QUERIES)
def test_every_query_of_a_dashboard_has_an_answer(prometheus: str, which_one: str) -> None:
    found = values(prometheus, QUERIES[which_one])
    assert any(math.isfinite(value) for value in found), (QUERIES[which_one], found)


def test_every_rule_is_evaluated_and_no_alert_fires(prometheus: str) -> None:
    def all_rules() -> list[dict[str, Any]]:
        groups = httpx.get(f"{prometheus}/api/v1/rules", timeout=10).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    until(lambda: all(rule["health"] == "ok" for rule in all_rules()), "every rule is evaluated")
    assert len(all_rules()) >= 15
    assert [rule["name"] for rule in all_rules() if rule.get("state") == "firing"] == []
    for rule in all_rules():
        if rule["type"] == "recording" and not rule["name"].startswith("captionloop:stars"):
            assert any(map(math.isfinite, values(prometheus, rule["name"]))), rule["name"]
