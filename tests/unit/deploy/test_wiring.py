"""Chart, Airflow's values and pod template together: nobody waits for what nobody provides."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts_for_tests import ChartError, manifests_of
from cluster_for_tests import TASK_POD, Cluster

pytestmark = pytest.mark.integration

kubernetes = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")

PROJECT = Path(__file__).resolve().parents[3]
CHART = PROJECT / "deploy/helm/captionloop"
VALUES = {
    "defaults": {},
    **{name: yaml.safe_load((CHART / f"values-{name}.yaml").read_text()) for name in ("local", "production")},
    "storage": {
        "photos": {"uri": "s3://captionloop/photos", "existingSecret": "captionloop-object-storage"},
        "pipelines": {"workspace": "s3://captionloop/data"},
    },
    "signed": {
        "signing": {"trustSecret": "captionloop-trust"},
        "pipelines": {"signingSecret": "captionloop-signing"},
    },
}  # fmt: skip


def documented() -> dict[str, frozenset[str]]:
    """The secrets that docs/how-to/cluster.md tells people to create."""
    page = (PROJECT / "docs/how-to/cluster.md").read_text()
    rows = re.findall(r"^\| (`captionloop-[^|]*) \| ([^|]*) \|$", page, re.MULTILINE)
    return {
        name: frozenset(re.findall(r"`([^`]+)`", keys))
        for names, keys in rows
        for name in re.findall(r"`([^`]+)`", names)
    }


def in_airflow_image() -> tuple[str, ...]:
    recipe = (PROJECT / "deploy/images/airflow/Dockerfile").read_text()
    return tuple(re.findall(r"^COPY \S+ (/opt/\S+)$", recipe, re.MULTILINE))


def cluster(values: dict[str, Any]) -> Cluster:
    airflow = yaml.safe_load((PROJECT / "deploy/airflow/values.yaml").read_text())
    workspace = values.get("pipelines", {}).get("workspace")
    if workspace:  # docs/how-to/cluster.md says to
        airflow["env"].append({"name": "CAPTIONLOOP_WORKSPACE", "value": workspace})
    return Cluster(
        manifests=manifests_of(CHART, values, "captionloop"),
        airflow=airflow,
        documented=documented(),
        in_airflow_image=in_airflow_image(),
        anonymous=values.get("settings", {}).get("anonymous", True),
    )


@pytest.mark.parametrize("case", VALUES)
def test_everything_that_a_pod_reads_is_provided_and_everything_it_asks_lets_it_in(case: str) -> None:
    assert cluster(VALUES[case]).problems() == []


def test_every_step_of_a_dag_finds_its_template() -> None:
    """And it is the pod that the rest of the chart is made for."""
    pod = cluster({}).task_pod
    assert pod is not None and pod.container["name"] == "base", "what KubernetesPodOperator looks for"
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.container["securityContext"]["readOnlyRootFilesystem"] is True
    assert set(pod.mounts) == {"/opt/captionloop/data", "/tmp", "/photos"}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "step"}, "spec": pod.spec}
    kubernetes.validate(manifest, "1.33", strict=True)


def test_a_service_that_wants_keys_and_gives_the_pipelines_none_is_refused() -> None:
    with pytest.raises(ChartError, match=r"pipelines\.keySecret"):
        cluster({"settings": {"anonymous": False}})


def drop(kind: str, name: str) -> Callable[[dict[str, Any]], None]:
    def change(inputs: dict[str, Any]) -> None:
        manifests = inputs["manifests"]
        (found,) = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name)]
        manifests.remove(found)

    return change


def in_template(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(inputs: dict[str, Any]) -> None:
        for each in inputs["manifests"]:
            if each["kind"] == "ConfigMap" and each["metadata"]["name"] == TASK_POD:
                assert old in each["data"]["pod.yaml"]
                each["data"]["pod.yaml"] = each["data"]["pod.yaml"].replace(old, new)

    return change


def forget_secret(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda inputs: inputs["documented"].pop(name)


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no claim": (drop("PersistentVolumeClaim", "captionloop-data"), "persistentVolumeClaim captionloop-data"),
    "no photos": (drop("PersistentVolumeClaim", "captionloop-photos"), "captionloop-photos"),
    "no template": (drop("ConfigMap", TASK_POD), "nobody provides the pod template"),
    "no database secret": (
        drop("Secret", "captionloop-database"),
        "key password of secret captionloop-database",
    ),
    "no way to the gateway": (
        in_template("captionloop.io/service-client", "nobody"),
        "CAPTIONLOOP_URL=http://captionloop-gateway:3000, but a network policy keeps it",
    ),
    "no way to MLflow": (
        in_template("captionloop.io/registry-client", "nobody"),
        "keeps it from captionloop-mlflow",
    ),
    "no way to PostgreSQL": (
        in_template("captionloop.io/database-client", "nobody"),
        "captionloop-postgresql",
    ),
    "no archive": (in_template("CAPTIONLOOP_PHOTOS", "CAPTIONLOOP_PICTURES"), "CAPTIONLOOP_PHOTOS is None"),
    "another archive": (
        in_template("mountPath: /photos", "mountPath: /pictures"),
        "CAPTIONLOOP_PHOTOS is /photos",
    ),
    "report elsewhere": (
        in_template("/photos/reports", "/tmp"),
        "CAPTIONLOOP_DRIFT_REPORT is /tmp/drift.json",
    ),
    "no conf": (
        lambda inputs: inputs.update(in_airflow_image=("/opt/venv",)),
        "the form offers `base` alone",
    ),
    "no account": (lambda inputs: inputs["airflow"]["secret"].clear(), "no account to write notes with"),
    "no password": (forget_secret("captionloop-airflow-passwords"), "secret captionloop-airflow-passwords"),
    "no fernet key": (forget_secret("captionloop-airflow-fernet"), "secret captionloop-airflow-fernet"),
    "another service": (
        lambda inputs: inputs["airflow"]["env"].append(
            {"name": "CAPTIONLOOP_URL", "value": "http://shop-gateway:3000"}
        ),
        "CAPTIONLOOP_URL=http://shop-gateway:3000 leads nowhere",
    ),
    "no volume": (lambda inputs: inputs["airflow"]["volumes"].pop(0), "names no file that is mounted"),
    "another workspace": (
        lambda inputs: inputs["airflow"]["env"].append(
            {"name": "CAPTIONLOOP_WORKSPACE", "value": "s3://captionloop/data"}
        ),
        "Airflow puts runs into s3://captionloop/data, task pods have data",
    ),
    "a key is wanted": (lambda inputs: inputs.update(anonymous=False), "there is no CAPTIONLOOP_KEY"),
}


def test_with_a_workspace_in_object_storage_there_is_no_shared_volume() -> None:
    made = cluster(VALUES["storage"])
    assert made.task_pod is not None and set(made.task_pod.mounts) == {"/tmp"}
    claims = {each["metadata"]["name"] for each in made.manifests if each["kind"] == "PersistentVolumeClaim"}
    assert claims == {"captionloop-mlflow"}
    forgotten = cluster({"pipelines": {"workspace": "s3://captionloop/data"}})
    assert any("the credentials of s3://captionloop/data" in each for each in forgotten.problems())


@pytest.mark.parametrize("what", DAMAGE)
def test_what_nobody_provides_is_noticed(what: str) -> None:
    """The test of the test: each of these was once so, or could be."""
    change, problem = DAMAGE[what]
    inputs = copy.deepcopy(vars(cluster({})))
    change(inputs)
    found = Cluster(**inputs).problems()
    assert any(problem in each for each in found), found
