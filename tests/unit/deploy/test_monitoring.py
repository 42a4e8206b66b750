"""Alerts and dashboards as files: each alert has its page and its tests, each query real metrics."""

import re
import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from captionloop.serving import telemetry

MONITORING = Path(__file__).resolve().parents[3] / "deploy/monitoring"
sys.path.insert(0, str(MONITORING))
from draw_dashboards import DASHBOARDS, FOLDER, text  # noqa: E402

KINDS = ("service", "quality")
NEEDS_PROMTOOL = pytest.mark.skipif(which("promtool") is None, reason="needs the Debian package prometheus")


def rules(kind: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / f"rules/{kind}.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts(kind: str) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules(kind) if "alert" in rule}


@pytest.mark.e2e
@pytest.mark.named_use
@NEEDS_PROMTOOL
@pytest.mark.parametrize("kind", KINDS)
def test_alerts_fire_and_stay_silent_as_promtool_is_told(kind: str) -> None:
    command = ["promtool", "test", "rules", f"{kind}.test.yaml"]
    done = subprocess.run(command, cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_every_alert_is_tested_firing_and_silent(kind: str) -> None:
    tested: dict[str, set[bool]] = {}
    for test in yaml.safe_load((MONITORING / f"{kind}.test.yaml").read_text())["tests"]:
        for each in test["alert_rule_test"]:
            tested.setdefault(each["alertname"], set()).add(bool(each["exp_alerts"]))
    assert tested == {name: {True, False} for name in alerts(kind)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_alert_has_a_page_that_says_what_to_do(kind: str, project_root: Path) -> None:
    for name, rule in alerts(kind).items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
        page = (project_root / "docs/runbooks" / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n") and "## What to do" in page
        assert rule["labels"]["severity"] in {"page", "ticket"} and rule["annotations"]["summary"]


def exported() -> set[str]:
    names = set()
    for collector in vars(telemetry).values():
        for family in collector.describe() if isinstance(collector, MetricWrapperBase) else []:
            names.add(family.name)
            endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
            names |= {family.name + ending for ending in endings.get(family.type, [])}
    return names


def test_queries_name_metrics_that_the_service_has() -> None:
    queries = [rule["expr"] for kind in KINDS for rule in rules(kind)]
    queries += [
        query for _, panels in DASHBOARDS.values() for panel in panels for query in panel.queries.values()
    ]
    for query in queries:
        unknown = set(re.findall(r"\bcaptionloop_\w+", query)) - exported()
        assert not unknown, query


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards_are_drawn_anew_after_each_change(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == text(name)
