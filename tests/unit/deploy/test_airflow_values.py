"""Our values for Airflow's official chart, rendered with it. It is not ours, and so not in this repository:

helm pull airflow --repo https://airflow.apache.org --version 1.22.0 --untar --untardir build/charts
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts_for_tests import manifests_of

kubernetes = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")

PROJECT = Path(__file__).resolve().parents[3]
CHART = PROJECT / "build/charts/airflow"
OURS = "captionloop-airflow:"


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    if not (CHART / "Chart.yaml").is_file():
        pytest.skip(f"needs Airflow's chart in {CHART.relative_to(PROJECT)}: see the top of this file")
    values = yaml.safe_load((PROJECT / "deploy/airflow/values.yaml").read_text())
    return manifests_of(CHART, values, "airflow")


def containers(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in manifests:
        if each["kind"] in {"Deployment", "StatefulSet", "Job"}:
            pod = each["spec"]["template"]["spec"]
            yield from ((each["metadata"]["name"], one) for one in pod["containers"])


def test_the_chart_takes_our_values_and_makes_valid_manifests(manifests: list[dict[str, Any]]) -> None:
    for each in manifests:
        kubernetes.validate(each, "1.33", strict=True)
    names = {name for name, _ in containers(manifests)}
    components = {"api-server", "dag-processor", "scheduler", "triggerer", "worker", "redis"}
    assert names == {f"airflow-{part}" for part in components} | {"airflow-run-airflow-migrations"}


def test_our_image_is_run_without_rights_and_with_limits(manifests: list[dict[str, Any]]) -> None:
    ours = [(name, one) for name, one in containers(manifests) if one["image"].startswith(OURS)]
    assert len(ours) == 6
    for name, container in ours:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False, (
            name
        )
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}, name
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, name


def test_nothing_runs_that_our_image_has_not(manifests: list[dict[str, Any]]) -> None:
    """The official image has scripts of its own, and a user manager that ours does not install."""
    for name, container in containers(manifests):
        commands = json.dumps([container.get("command"), container.get("args")])
        assert "/clean-logs" not in commands and "users" not in commands, name


def test_no_secret_stands_in_clear(manifests: list[dict[str, Any]]) -> None:
    for name, container in containers(manifests):
        for variable in container.get("env", []):
            secret = any(word in variable["name"] for word in ("PASSWORD", "SECRET", "KEY", "CONN", "BROKER"))
            assert not secret or "secretKeyRef" in variable["valueFrom"], (name, variable["name"])
