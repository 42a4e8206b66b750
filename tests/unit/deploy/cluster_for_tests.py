"""What a cluster of our chart, Airflow's values and the task pods needs, and who provides it.

Nothing is installed: manifests and values are read as Kubernetes would read them. `problems` names whatever
nobody provides: a secret or one of its keys, a volume, a file, a variable, an address, a way through the
network policies.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml

ADDRESS = re.compile(r"^[a-z+0-9]+://")
TASK_POD = "captionloop-task-pod"
SHARED = ("CAPTIONLOOP_DATABASE", "CAPTIONLOOP_PHOTOS", "CAPTIONLOOP_DRIFT_REPORT")
"""What task pods and gateways must mean the same by."""
ASKED_BY_TASKS = ("CAPTIONLOOP_URL",)
"""What Airflow's processes are told, and put into the commands of task pods."""

Manifest = dict[str, Any]
Secrets = dict[str, frozenset[str]]


@dataclass(frozen=True)
class Pod:
    """A pod as far as it depends on others."""

    name: str
    labels: dict[str, str]
    spec: Manifest

    @property
    def container(self) -> Manifest:
        return self.spec["containers"][0]

    @property
    def variables(self) -> dict[str, Any]:
        """By name, the value or where it comes from."""
        listed = self.container.get("env", [])
        return {each["name"]: each.get("value", each.get("valueFrom")) for each in listed}

    @property
    def mounts(self) -> dict[str, Manifest]:
        """By path, the volume that is mounted there."""
        volumes = {each["name"]: each for each in self.spec.get("volumes", [])}
        return {
            each["mountPath"]: {key: value for key, value in volumes[each["name"]].items() if key != "name"}
            for each in self.container.get("volumeMounts", [])
            if each["name"] in volumes
        }

    def place_of(self, value: Any) -> Any:
        """A setting as others see it: a path is a place in a volume."""
        if not isinstance(value, str) or not value.startswith("/"):
            return value
        for path, volume in self.mounts.items():
            if value == path or value.startswith(f"{path}/"):
                return volume, value.removeprefix(path)
        return f"{self.name}: {value}"


@dataclass(frozen=True)
class Cluster:
    """Everything that is installed.

    Args:
        manifests: of our chart.
        airflow: our values for Airflow's chart.
        documented: secrets that people are told to create, with their keys.
        in_airflow_image: folders that Airflow's image has.
        anonymous: whether the service takes callers without a key.
    """

    manifests: list[Manifest]
    airflow: Manifest
    documented: Secrets
    in_airflow_image: tuple[str, ...]
    anonymous: bool

    def problems(self) -> list[str]:
        """What nobody provides."""
        if self.task_pod is None:
            return [f"ConfigMap {TASK_POD}: nobody provides the pod template"]
        found = [one for pod in self.pods for one in self._sources(pod)]
        found += [one for pod in self.pods for one in self._ways(pod)]
        return found + list(self._of_tasks(self.task_pod)) + list(self._of_airflow(self.task_pod))

    @property
    def task_pod(self) -> Pod | None:
        """A step of a DAG as a pod."""
        for each in self._of_kind("ConfigMap"):
            if each["metadata"]["name"] == TASK_POD:
                made = yaml.safe_load(each["data"]["pod.yaml"])
                return Pod("task pod", made["metadata"]["labels"], made["spec"])
        return None

    @property
    def airflow_pod(self) -> Pod:
        """What Airflow's chart makes of our values, as far as we set it."""
        values, api = self.airflow, self.airflow["apiServer"]
        env = [*values["env"], *(_from_secret(each) for each in values["secret"])]
        container = {"env": env, "volumeMounts": [*values["volumeMounts"], *api["extraVolumeMounts"]]}
        volumes = [*values["volumes"], *api["extraVolumes"]]
        return Pod("Airflow", {}, {"containers": [container], "volumes": volumes})

    @property
    def pods(self) -> list[Pod]:
        """All of them."""
        kinds = ("Deployment", "StatefulSet", "Job")
        made = [
            Pod(each["metadata"]["name"], template["metadata"]["labels"], template["spec"])
            for kind in kinds
            for each in self._of_kind(kind)
            for template in [each["spec"]["template"]]
        ]
        return [*made, *([self.task_pod] if self.task_pod else []), self.airflow_pod]

    def _of_kind(self, kind: str) -> list[Manifest]:
        return [each for each in self.manifests if each["kind"] == kind]

    def _named(self, kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in self._of_kind(kind)}

    def _secrets(self) -> Secrets:
        made = {
            each["metadata"]["name"]: frozenset({**each.get("data", {}), **each.get("stringData", {})})
            for each in self._of_kind("Secret")
        }
        return self.documented | made

    def _sources(self, pod: Pod) -> Iterator[str]:
        """Secrets, ConfigMaps and claims that a pod names and nobody makes."""
        secrets = self._secrets()
        for name, value in pod.variables.items():
            key = value.get("secretKeyRef") if isinstance(value, dict) else None
            if key and key["key"] not in secrets.get(key["name"], frozenset()):
                yield f"{pod.name}: nobody provides {name}, key {key['key']} of secret {key['name']}"
        for each in pod.container.get("envFrom", []):
            if (name := each["secretRef"]["name"]) not in secrets:
                yield f"{pod.name}: nobody provides secret {name}"
        for volume in pod.spec.get("volumes", []):
            wanted = (
                (
                    "persistentVolumeClaim",
                    "claimName",
                    self._named("PersistentVolumeClaim") | self._templates(),
                ),
                ("configMap", "name", self._named("ConfigMap")),
                ("secret", "secretName", set(secrets)),
            )
            for kind, key, known in wanted:
                if kind in volume and volume[kind][key] not in known:
                    yield f"{pod.name}: nobody provides {kind} {volume[kind][key]}"

    def _templates(self) -> set[str]:
        return {
            template["metadata"]["name"]
            for each in self._of_kind("StatefulSet")
            for template in each["spec"].get("volumeClaimTemplates", [])
        }

    def _ways(self, pod: Pod) -> Iterator[str]:
        """Addresses in a pod's variables that lead nowhere, or where a network policy keeps it out."""
        for name, value in pod.variables.items():
            if isinstance(value, str) and value.startswith("http") and name not in ASKED_BY_TASKS:
                yield from self._way(pod, name, value)
            elif isinstance(value, dict) and (url := self._in_secret(value)) is not None:
                yield from self._way(pod, name, url)

    def _in_secret(self, source: Manifest) -> str | None:
        key = source.get("secretKeyRef", {})
        for each in self._of_kind("Secret"):
            value = each.get("stringData", {}).get(key.get("key"), "")
            if each["metadata"]["name"] == key.get("name") and ADDRESS.match(value):
                return str(value)
        return None

    def _way(self, pod: Pod, name: str, url: str) -> Iterator[str]:
        address = urlsplit(url)
        if address.hostname is None or "." in address.hostname or pod.name == "Airflow":
            return  # elsewhere; and Airflow's own processes only make links of it
        services = [each for each in self._of_kind("Service") if each["metadata"]["name"] == address.hostname]
        ports = [port for each in services for port in each["spec"]["ports"] if port["port"] == address.port]
        if not ports:
            yield f"{pod.name}: {name}={url} leads nowhere"
            return
        for target in self.pods:
            if not services[0]["spec"]["selector"].items() <= target.labels.items():
                continue
            if not self._lets_in(target, pod, ports[0].get("targetPort", ports[0]["port"])):
                yield f"{pod.name}: {name}={url}, but a network policy keeps it from {target.name}"

    def _lets_in(self, target: Pod, source: Pod, port: str | int) -> bool:
        policies = [
            each["spec"]
            for each in self._of_kind("NetworkPolicy")
            if each["spec"]["podSelector"]["matchLabels"].items() <= target.labels.items()
        ]
        rules = [rule for policy in policies for rule in policy["ingress"]]
        return not policies or any(
            port in {each["port"] for each in rule["ports"]}
            and any(_is_meant(peer, source) for peer in rule["from"])
            for rule in rules
        )

    def _of_tasks(self, task: Pod) -> Iterator[str]:
        """What the commands of the DAGs read."""
        gateway = next(pod for pod in self.pods if pod.labels.get("app.kubernetes.io/component") == "gateway")
        for name in SHARED:
            ours, theirs = task.variables.get(name), gateway.variables.get(name)
            if ours is None or task.place_of(ours) != gateway.place_of(theirs):
                yield f"task pod: {name} is {ours}, to gateways it is {theirs}"
        if "MLFLOW_TRACKING_URI" not in task.variables:
            yield "task pod: nobody says where the registry is"
        if not self.anonymous and "CAPTIONLOOP_KEY" not in task.variables:
            yield "task pod: the service wants a key, and there is no CAPTIONLOOP_KEY"
        data = task.mounts.get("/opt/captionloop/data", {})
        remote = task.variables.get("CAPTIONLOOP_WORKSPACE")
        if "persistentVolumeClaim" not in data and not remote:
            yield "task pod: what a step writes is lost: no claim is mounted at /opt/captionloop/data"
        if remote and not task.container.get("envFrom"):
            yield f"task pod: nobody provides the credentials of {remote}"

    def _of_airflow(self, task: Pod) -> Iterator[str]:
        """What Airflow's processes read, and what they put into the task pods' commands."""
        airflow = self.airflow_pod
        variables = airflow.variables
        for name in ASKED_BY_TASKS:
            yield from self._way(task, name, str(variables.get(name)))
        ours, theirs = (each.variables.get("CAPTIONLOOP_WORKSPACE") for each in (airflow, task))
        if ours != theirs:
            yield f"Airflow puts runs into {ours or 'data'}, task pods have {theirs or 'data'}"
        if variables.get("CAPTIONLOOP_POD_IMAGE") != task.container["image"].rpartition("/")[2]:
            image = variables.get("CAPTIONLOOP_POD_IMAGE")
            yield f"Airflow runs {image}, the chart {task.container['image']}"
        if variables.get("CAPTIONLOOP_POD_TEMPLATE") not in airflow.mounts:
            yield "Airflow: CAPTIONLOOP_POD_TEMPLATE names no file that is mounted"
        if f"{variables.get('CAPTIONLOOP_PROJECT')}/conf" not in self.in_airflow_image:
            yield "Airflow: its image has no conf/, so the form offers `base` alone"
        if "AIRFLOW_CONN_CAPTIONLOOP_AIRFLOW" not in variables:
            yield "Airflow: no account to write notes with"
        secrets = self._secrets()
        named = [value for key, value in self.airflow.items() if key.endswith("SecretName")]
        for name in [self.airflow["data"]["metadataSecretName"], *named]:
            if name not in secrets:
                yield f"Airflow: nobody provides secret {name}"


def _from_secret(each: Manifest) -> Manifest:
    source = {"secretKeyRef": {"name": each["secretName"], "key": each["secretKey"]}}
    return {"name": each["envName"], "valueFrom": source}


def _is_meant(peer: Manifest, source: Pod) -> bool:
    """Whether a policy's peer is this pod; peers that are whole namespaces are others than ours."""
    pods = peer.get("podSelector")
    return pods is not None and pods["matchLabels"].items() <= source.labels.items()
