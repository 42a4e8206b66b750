"""A retraining through to `verify` in pods that reach each other only as the chart's network policies allow.

Object storage instead of shared volumes, PostgreSQL for ratings and MLflow; every pod is a process in a
network namespace, with the variables that the rendered chart gives it.
"""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pods import Network, Place, command_of, needs_namespaces, variables_of
from servers import DebianPostgres, needs_debian_postgres
from shared_storage import BUCKET, KEYS, object_storage, until
from small_project import BIN, ROOT, SmallProject

sys.path.append(str(ROOT / "tests/unit/deploy"))
from charts_for_tests import manifests_of
from cluster_for_tests import Cluster, Pod

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
STORAGE_PORT = 9000
WORKSPACE = f"s3://{BUCKET}/data"
VALUES = {
    "photos": {"uri": f"s3://{BUCKET}/photos", "existingSecret": "captionloop-object-storage"},
    "mlflow": {"artifactsDestination": f"s3://{BUCKET}/mlflow"},
    "pipelines": {"workspace": WORKSPACE},
    "frontend": {"replicas": 1},
}
HOSTS = {
    "gateway": "captionloop-gateway", "model": "captionloop-model", "mlflow": "captionloop-mlflow",
    "postgresql": "captionloop-postgresql", "frontend": "captionloop-frontend",
}  # fmt: skip
KEYS_OF_PEOPLE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from loop_traffic import made_keys
from captionloop.serving.service_settings import Settings
print(json.dumps(made_keys(Settings.from_environment().database_url, seed=1)))
"""
RATE = """
import json, sys
sys.path.insert(0, sys.argv[2])
from loop_traffic import rate_with
rate_with(sys.argv[1], json.loads(sys.argv[3]), seed=1)
"""
CROWN = """
import sys
from pathlib import Path
from captionloop.registry.model_registry import ModelRegistry
registry = ModelRegistry(sys.argv[1])
print(registry.promote(registry.register(Path(sys.argv[2])).version).version)
"""


@dataclass
class Pods:
    """All that runs."""

    network: Network
    cluster: Cluster
    secrets: dict[str, dict[str, str]]
    folder: Path

    def __post_init__(self) -> None:
        self.running: list[subprocess.Popen[bytes]] = []
        self._made: dict[str, tuple[Path, dict[str, str]]] = {}

    def environment(self, name: str, pod: Pod) -> tuple[Path, dict[str, str]]:
        """A pod's folder and variables."""
        if name not in self._made:
            folder = self.folder / name
            volumes = {path: folder / path.strip("/") for path in pod.mounts}
            for volume in [*volumes.values(), folder / "tmp"]:
                volume.mkdir(parents=True, exist_ok=True)
            inherited = {
                key: value for key, value in os.environ.items()
                if not key.startswith(("CAPTIONLOOP_", "AWS_", "MLFLOW_"))
            }  # fmt: skip
            self._made[name] = folder, {
                **inherited, "HOME": str(folder), "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1",
                "KEDRO_DISABLE_TELEMETRY": "1", "GX_ANALYTICS_ENABLED": "false", "COLUMNS": "400",
                **variables_of(pod.container, self.secrets, volumes),
            }  # fmt: skip
        return self._made[name]

    def start(self, name: str, pod: Pod, *more: str, **settings: str) -> None:
        """A pod that stays."""
        folder, variables = self.environment(name, pod)
        command = [*command_of(pod.container, variables), *more]
        with (folder / "log").open("wb") as log:
            self.running.append(
                subprocess.Popen(
                    [*self.network.inside(name), *command],
                    cwd=folder,
                    env={**variables, **settings},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def ready(self, name: str, port: int, path: str) -> None:
        """Waits for a pod's probe, which comes from within."""
        url = f"http://localhost:{port}{path}"
        asked = [*self.network.inside(name), "curl", "-sf", "-o", "/dev/null", "--max-time", "5", url]
        log = self.folder / name / "log"
        until(lambda: not subprocess.run(asked, check=False).returncode, 300, log.read_text()[-3000:])

    def run(self, name: str, pod: Pod, *command: str, cwd: Path | None = None) -> str:
        """A command in a pod that ends."""
        folder, variables = self.environment(name, pod)
        done = subprocess.run(
            [*self.network.inside(name), *command], cwd=cwd or folder, env=variables, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout[-4000:]}"
        return done.stdout

    def task(self, *command: str) -> str:
        """A step of a DAG, in a pod of its own: nothing of the one before is there."""
        pod = self.cluster.task_pod
        assert pod is not None
        project = SmallProject(self.folder / f"task-{uuid.uuid4().hex[:8]}" / "opt")
        project.change(
            "parameters_sample_scenes.yml", {"sample_scenes": {"train": 60, "val": 12, "test": 12}}
        )
        return self.run("task", pod, str(BIN / command[0]), *command[1:], cwd=project.folder)

    def stop(self) -> None:
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with suppress(ProcessLookupError):  # and those that it started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def the_pod(cluster: Cluster, component: str) -> Pod:
    (found,) = [
        pod for pod in cluster.pods if pod.labels.get("app.kubernetes.io/component") == component
        and pod.name != "task pod"
    ]  # fmt: skip
    return found


def place(number: int, name: str, pod: Pod | None = None, **more: Any) -> Place:
    ports = {} if pod is None else {
        each["name"]: each["containerPort"] for each in pod.container.get("ports", [])
    }  # fmt: skip
    services = (HOSTS[name],) if name in HOSTS else (name,)
    description = {"labels": {} if pod is None else pod.labels, "ports": ports, "services": services, **more}
    return Place(name, f"10.213.99.{number}", **description)


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    needs_namespaces()
    needs_debian_postgres()
    manifests = manifests_of(ROOT / "deploy/helm/captionloop", VALUES, "captionloop")
    airflow = yaml.safe_load((ROOT / "deploy/airflow/values.yaml").read_text())
    cluster = Cluster(manifests, airflow, {}, (), anonymous=True)
    task = cluster.task_pod
    assert task is not None
    components = {
        "gateway": "gateway", "model": "model-server", "mlflow": "mlflow", "postgresql": "postgresql",
        "migrations": "migrations", "frontend": "frontend",
    }  # fmt: skip
    places = [
        place(10 + n, name, the_pod(cluster, part)) for n, (name, part) in enumerate(components.items())
    ]
    places += [
        place(20, "task", task),
        place(21, "stranger"),
        place(22, "prometheus", namespace="monitoring"),
        place(23, "storage", namespace="elsewhere", ports={"s3": STORAGE_PORT}),
    ]
    policies = [each for each in manifests if each["kind"] == "NetworkPolicy"]
    secrets = {each["metadata"]["name"]: each["stringData"] for each in manifests if each["kind"] == "Secret"}
    secrets["captionloop-object-storage"] = {**KEYS, "AWS_ENDPOINT_URL": f"http://storage:{STORAGE_PORT}"}
    folder = tmp_path_factory.mktemp("pods")
    with Network(places, policies).up() as network:
        running = Pods(network, cluster, secrets, folder)
        storage = object_storage(
            folder / "storage", host=network.places["storage"].address, port=STORAGE_PORT,
            prefix=network.inside("storage"),
        )  # fmt: skip
        database = DebianPostgres(
            network.places["postgresql"].address, network.inside("postgresql"), port=5432
        )
        try:
            storage.wait_until_ready()
            bring_up(running, database)
            yield running
        finally:
            running.stop()
            database.remove()
            storage.stop()


def bring_up(pods: Pods, database: DebianPostgres) -> None:
    """The cluster as a new installation, without a champion yet."""
    password = pods.secrets["captionloop-database"]["password"]
    database.sql(
        f"CREATE ROLE captionloop LOGIN PASSWORD '{password}'",
        "CREATE DATABASE captionloop OWNER captionloop",
        "CREATE DATABASE mlflow OWNER captionloop",
    )
    cluster = pods.cluster
    make = f"import fsspec; fsspec.filesystem('s3').mkdir('{BUCKET}')"
    pods.run("gateway", the_pod(cluster, "gateway"), sys.executable, "-c", make)
    # One worker, and nobody has jobs for the server: this is to end in minutes on two cores.
    pods.start(
        "mlflow", the_pod(cluster, "mlflow"), "--workers=1", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"
    )
    migrations = the_pod(cluster, "migrations")
    _, variables = pods.environment("migrations", migrations)
    pods.run("migrations", migrations, *command_of(migrations.container, variables))
    pods.start("gateway", the_pod(cluster, "gateway"))
    pods.start("model", the_pod(cluster, "model-server"))
    pods.ready("mlflow", 5000, "/health")
    pods.ready("gateway", 3000, "/livez")
    pods.ready("model", 3000, "/livez")


REACHES = {
    ("task", "gateway", 3000), ("task", "mlflow", 5000), ("task", "postgresql", 5432),
    ("task", "storage", STORAGE_PORT), ("gateway", "model", 3000), ("gateway", "postgresql", 5432),
    ("gateway", "storage", STORAGE_PORT), ("model", "mlflow", 5000), ("mlflow", "postgresql", 5432),
    ("mlflow", "storage", STORAGE_PORT), ("frontend", "gateway", 3000), ("prometheus", "gateway", 3000),
    ("prometheus", "model", 9090),
}  # fmt: skip
KEPT_OUT = {
    *((name, "model", 3000) for name in ("stranger", "frontend", "task", "prometheus", "storage", "mlflow")),
    ("stranger", "gateway", 3000), ("stranger", "mlflow", 5000), ("stranger", "postgresql", 5432),
    ("frontend", "postgresql", 5432), ("frontend", "mlflow", 5000), ("model", "postgresql", 5432),
    ("gateway", "mlflow", 5000), ("prometheus", "mlflow", 5000),
}  # fmt: skip


def test_pods_reach_what_they_need_and_nothing_else(pods: Pods) -> None:
    tried = REACHES | KEPT_OUT
    assert {each for each in tried if pods.network.reaches(*each)} == REACHES


def test_a_retraining_goes_through_to_verify(pods: Pods, bundles: list[Path]) -> None:
    # The first version: the corpus is made in a task pod, and the model is one that nobody taught.
    pods.task(
        "kedro",
        "run",
        "--pipelines",
        "__default__",
        "--to-nodes",
        "evaluation.choose_evaluation_photos,encoder_adaptation.find_concepts",
    )
    crowned = pods.task("python", "-c", CROWN, "http://captionloop-mlflow:5000", str(bundles[0]))
    assert crowned.strip().endswith("1")
    pods.ready("gateway", 3000, "/readyz")

    # People have keys, whom curation believes, and come by the page's pod.
    frontend = the_pod(pods.cluster, "frontend")
    here = str(Path(__file__).parent)
    gateway = the_pod(pods.cluster, "gateway")
    keys = pods.run("gateway", gateway, sys.executable, "-c", KEYS_OF_PEOPLE, here).splitlines()[-1]
    service = "http://captionloop-gateway:3000"
    pods.run("frontend", frontend, sys.executable, "-c", RATE, service, here, keys)

    run = f"{WORKSPACE}/runs/one"
    given = f"workspace={run},mlflow_run=one,least_ratings=10,epochs=1,encoder_epochs=1,decoders=1"
    steps = ("encoder", "caching", "training", "evaluation", "registration")
    learning = ["feedback", *(f"retraining_{step}" for step in steps)]
    for pipelines in (learning[:4], learning[4:]):
        pods.task(
            "kedro", "run", "--only-missing-outputs", "--pipelines", ",".join(pipelines), "--params", given
        )
    pods.task("captionloop", "models", "promote", "2", "--gated")
    output = pods.task(
        "captionloop", "verify", "--url", "http://captionloop-gateway:3000", "--version", "2", "--for", "3",
        "--canaries", "4",
    )  # fmt: skip
    assert "Version 2 answers" in output
