"""The Helm chart: for every set of values it renders, fits Kubernetes' schemas, and keeps our policy."""

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts_for_tests import ChartError, fit, lint, manifests_of

pytestmark = pytest.mark.integration


kubernetes = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")

CHART = Path(__file__).resolve().parents[3] / "deploy/helm/captionloop"
KUBERNETES = "1.33"
OPERATORS_OWN = "monitoring.coreos.com/v1"
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())

# A value that differs from the default, for each switch; what they need besides stands in NEEDS.
OTHERWISE: dict[str, Any] = {
    "pipelines.workspace": "s3://bucket/data",
    "image.pullPolicy": "Always", "postgresql.image": "postgres:18.2",
    "image.pullSecrets": [{"name": "registry"}], "settings.logLevel": "DEBUG",
    "rateLimits.storage": "async+redis://redis:6379", "settings.tracesEndpoint": "http://otel:4318",
    "mlflow.trackingUri": "http://mlflow.elsewhere:5000", "photos.accessModes": ["ReadWriteOnce"],
    "tolerations": [{"key": "gpu", "operator": "Exists"}], "networkPolicy.ingressNamespaces": ["edge"],
    "networkPolicy.monitoringNamespaces": [], "pipelines.accessModes": ["ReadWriteOnce"],
    "serviceMonitor.interval": "30s",
}  # fmt: skip
NEEDS: dict[str, dict[str, Any]] = {
    "mlflow.enabled": {"mlflow": {"trackingUri": "http://mlflow.elsewhere:5000"}},
    "settings.anonymous": {"pipelines": {"keySecret": "verify-key"}},
    "postgresql.embedded": {"postgresql": {"existingSecret": "database"}},
}


def switches(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, part in schema["properties"].items():
        where = f"{path}.{name}".lstrip(".")
        if where == "global":
            continue
        if "properties" in part and name != "resources":
            yield from switches(part, where)
        else:
            yield where, part


def default(path: str) -> Any:
    found: Any = DEFAULTS
    for name in path.split("."):
        found = found[name]
    return found


def other(path: str, part: dict[str, Any]) -> Any:
    """Another value than the default."""
    if path in OTHERWISE:
        return OTHERWISE[path]
    now = default(path)
    if isinstance(now, bool):
        return not now
    if isinstance(now, int):
        return now + 1
    if isinstance(now, float):
        return now / 2
    if path.endswith("resources"):
        return {"limits": {"cpu": "3", "memory": "5Gi"}}
    if isinstance(now, dict):
        return {"example.org/name": "value"}
    return "7Gi" if path.endswith("storage") else "another"


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            both = isinstance(value, dict) and isinstance(result.get(name), dict)
            result[name] = merged(result[name], value) if both else value
    return result


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def values_file(name: str) -> dict[str, Any]:
    return yaml.safe_load((CHART / f"values-{name}.yaml").read_text())


FILES = {"defaults": {}, "local": values_file("local"), "production": values_file("production")}
CASES = {
    **FILES,
    **{
        path: merged(NEEDS.get(path, {}), nested(path, other(path, part)))
        for path, part in switches(SCHEMA)
    },
}  # fmt: skip


def manifests(values: dict[str, Any]) -> list[dict[str, Any]]:
    return manifests_of(CHART, values, "shop")


def pods(found: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in found:
        if each["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def of_kind(found: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


@pytest.mark.named_use
@pytest.mark.parametrize("case", CASES)
def test_manifests_fit_the_schemas_and_the_policy(case: str) -> None:
    found = manifests(CASES[case])
    for each in found:
        validate(json.dumps(each))
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(names) == len(set(names))
    for name, pod in pods(found):
        check_policy(name, pod)
    for each in found:
        text = json.dumps(each)
        assert each["kind"] == "Secret" or "://captionloop:" not in text, "a password in clear"


@cache
def validate(manifest: str) -> None:
    """Most manifests are the same whatever switch is turned; those are looked at once."""
    each = json.loads(manifest)
    if each["apiVersion"] != OPERATORS_OWN:
        kubernetes.validate(each, KUBERNETES, strict=True)


def check_policy(name: str, pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]["limits"]) == set(container["resources"]["requests"])
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}
        assert not container["image"].endswith(":latest") and ":" in container["image"]
        if "migrations" not in name:
            assert container["livenessProbe"] and container["readinessProbe"]
        for variable in container.get("env", []):
            secret = any(word in variable["name"] for word in ("PASSWORD", "SECRET", "TOKEN", "DATABASE"))
            assert not secret or "secretKeyRef" in variable["valueFrom"], variable["name"]


@pytest.mark.parametrize("case", FILES)
def test_the_chart_lints(case: str) -> None:
    report = lint(CHART, FILES[case])
    worth_reading = [message for message in report["messages"] if "icon is recommended" not in str(message)]
    assert worth_reading == [] and not report["errors"]


def test_every_value_is_described_typed_and_checked() -> None:
    def walk(value: Any, schema: dict[str, Any], path: str) -> None:
        assert path == "" or schema["description"], path
        if "properties" not in schema:
            assert "type" in schema or "enum" in schema, path
            return
        assert schema["additionalProperties"] is False, path
        assert set(value) == set(schema["properties"]) - {"global"}, path
        for name, part in value.items():
            walk(part, schema["properties"][name], f"{path}.{name}".lstrip("."))

    walk(DEFAULTS, SCHEMA, "")


@pytest.mark.parametrize(
    "values",
    [
        {"gateway": {"replica": 3}},
        {"gateway": {"replicas": "three"}},
        {"modelServer": {"replicas": 0}},
        {"settings": {"logLevel": "LOUD"}},
        {"mlflow": {"enabled": False}},
        {"postgresql": {"embedded": False}},
        {"photos": {"storage": "plenty"}},
        {"rateLimits": {"storage": "redis:6379"}},
        {"gateway": {"resources": {"limits": {"cpu": 1}, "requests": {"cpu": 1}, "extra": {}}}},
    ],
    ids=json.dumps,
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ChartError):
        fit(CHART, merged(DEFAULTS, values))


def test_only_gateways_reach_model_servers_and_prometheus_only_their_metrics() -> None:
    policy = of_kind(manifests({}), "NetworkPolicy")["shop-captionloop-model-server"]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    use, look = policy["ingress"]
    labels = use["from"][0]["podSelector"]["matchLabels"]
    assert len(use["from"]) == 1 and labels["app.kubernetes.io/component"] == "gateway"
    assert use["ports"] == [{"protocol": "TCP", "port": "http"}]
    assert [port["port"] for port in look["ports"]] == ["metrics"]
    assert look["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]


def test_probes_ask_the_service_itself() -> None:
    deployments = dict(pods(manifests({})))
    for name in ("shop-captionloop-gateway", "shop-captionloop-model"):
        container = deployments[name]["containers"][0]
        assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


def test_gateways_find_the_model_servers() -> None:
    found = manifests({})
    environment = {
        variable["name"]: variable.get("value")
        for variable in dict(pods(found))["shop-captionloop-gateway"]["containers"][0]["env"]
    }
    address = environment["CAPTIONLOOP_MODEL_SERVER"]
    assert address == "http://shop-captionloop-model:3000"
    service = of_kind(found, "Service")["shop-captionloop-model"]["spec"]
    target = of_kind(found, "Deployment")["shop-captionloop-model"]["spec"]["template"]
    assert service["selector"].items() <= target["metadata"]["labels"].items()
    assert {port["port"] for port in service["ports"]} == {3000, 9090}


@pytest.mark.parametrize(
    ("values", "source"),
    [
        ({"trustSecret": "keys"}, {"secret": {"secretName": "keys", "defaultMode": 0o444}}),
        ({"trustConfigMap": "keys"}, {"configMap": {"name": "keys", "defaultMode": 0o444}}),
    ],
)
def test_model_servers_and_nobody_else_are_given_the_trusted_keys(
    values: dict[str, str], source: dict[str, Any]
) -> None:
    for name, pod in pods(manifests({"signing": values})):
        (container,) = pod["containers"]
        variables = {each["name"]: each.get("value") for each in container.get("env", [])}
        mounts = {each["name"]: each for each in container.get("volumeMounts", [])}
        if name != "shop-captionloop-model":
            assert "CAPTIONLOOP_TRUST_STORE" not in variables and "trusted-keys" not in mounts
            continue
        assert variables["CAPTIONLOOP_TRUST_STORE"] == mounts["trusted-keys"]["mountPath"]
        assert mounts["trusted-keys"]["readOnly"] is True
        assert {"name": "trusted-keys", **source} in pod["volumes"]
    assert "trusted-keys" not in json.dumps(manifests({}))


def test_trusted_keys_lie_in_one_place() -> None:
    with pytest.raises(ChartError, match="give one of them"):
        manifests({"signing": {"trustSecret": "a", "trustConfigMap": "b"}})


def test_every_variable_that_is_set_is_a_setting() -> None:
    from captionloop.serving.service_settings import PREFIX, Settings

    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for values in (*FILES.values(), {"signing": {"trustSecret": "keys"}}):
        for _, pod in pods(manifests(values)):
            for variable in pod["containers"][0].get("env", []):
                assert not variable["name"].startswith(PREFIX) or variable["name"] in known


def test_autoscaling_looks_at_what_is_under_way() -> None:
    found = manifests(merged(FILES["production"]))
    for name, metric in (
        ("gateway", "captionloop_captions_in_flight"),
        ("model", "captionloop_model_queue_images"),
    ):
        scaler = of_kind(found, "HorizontalPodAutoscaler")[f"shop-captionloop-{name}"]["spec"]
        assert [each["type"] for each in scaler["metrics"]] == ["Resource", "Pods"]
        assert scaler["metrics"][1]["pods"]["metric"]["name"] == metric
        assert "replicas" not in of_kind(found, "Deployment")[f"shop-captionloop-{name}"]["spec"]


def test_one_pod_alone_has_no_disruption_budget() -> None:
    assert of_kind(manifests(FILES["local"]), "PodDisruptionBudget") == {}
    assert len(of_kind(manifests({}), "PodDisruptionBudget")) == 2


def test_what_is_installed_is_what_was_tested(project_root: Path) -> None:
    found = manifests(FILES["production"])
    rules = of_kind(found, "PrometheusRule")["shop-captionloop"]["spec"]["groups"]
    files = sorted((project_root / "deploy/monitoring/rules").glob("*.yaml"))
    assert rules == [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    boards = {
        json.loads(text)["uid"]
        for each in of_kind(found, "ConfigMap").values()
        for name, text in each["data"].items()
        if name.endswith(".json")
    }
    kept = (project_root / "deploy/monitoring/dashboards").glob("*.json")
    assert boards == {json.loads(file.read_text())["uid"] for file in kept}


def test_helm_lives_in_a_process_of_its_own() -> None:
    """Once a test of another part ended with its process in the moment a pipe broke: Go had that signal."""
    assert manifests({}) and "helm_python" not in sys.modules
