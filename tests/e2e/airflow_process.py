"""A real Airflow for tests: scheduler, API server, DAG processor, triggerer, as `make airflow` has them."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
from service_process import free_port
from small_project import BIN, ROOT

FINISHED = ("success", "failed")


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_all(processes: list[psutil.Process]) -> None:
    """SIGKILL."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


class AirflowProcess:
    """Runs the project's DAGs on a project in a folder.

    Args:
        home: AIRFLOW_HOME, empty.
        project: the folder that the steps run in.
        settings: environment variables.
    """

    def __init__(self, home: Path, project: Path, **settings: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.log = home / "airflow.log"
        dropped = ("AIRFLOW", "CAPTIONLOOP_", "MLFLOW_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        environment = {
            **inherited, "AIRFLOW_HOME": str(home), "AIRFLOW_PORT": str(port), "CAPTIONLOOP_BIN": str(BIN),
            "CAPTIONLOOP_PROJECT": str(project), "CAPTIONLOOP_RETRY_SECONDS": "1", "OMP_NUM_THREADS": "1",
            **settings,
        }  # fmt: skip
        self._processes = self._start(environment)
        self._http = httpx.Client(base_url=self.url, timeout=60)

    def _start(self, environment: dict[str, str]) -> list[subprocess.Popen[bytes]]:
        return [self._launch(environment, "standalone.sh")]

    def _launch(self, environment: dict[str, str], script: str, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [ROOT / "deploy/airflow" / script, *arguments], env=environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def wait_until_ready(self, seconds: float = 300) -> "AirflowProcess":
        """Until it takes our login and has read our DAGs."""
        self._until(self._is_ready, seconds, "Airflow did not get ready")
        return self

    def password(self) -> str:
        return str(json.loads((self.home / "passwords.json").read_text())["admin"])

    def call(self, method: str, path: str, body: dict | None = None) -> Any:
        answer = self._http.request(method, f"/api/v2{path}", json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def switch_on(self, dag: str) -> None:
        self.call("PATCH", f"/dags/{dag}", {"is_paused": False})

    def trigger(self, dag: str, **conf: Any) -> str:
        return str(
            self.call("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]
        )

    def runs(self, dag: str) -> list[dict]:
        return list(self.call("GET", f"/dags/{dag}/dagRuns?order_by=run_after")["dag_runs"])

    def run(self, dag: str, run_id: str) -> dict:
        return dict(self.call("GET", f"/dags/{dag}/dagRuns/{quote(run_id, safe='')}"))

    def states(self, dag: str, run_id: str) -> dict[str, str | None]:
        """State by task; a mapped task's by name and index."""
        found = self.call("GET", f"/dags/{dag}/dagRuns/{quote(run_id, safe='')}/taskInstances")
        return {
            task["task_id"] + (f"[{task['map_index']}]" if task["map_index"] >= 0 else ""): task["state"]
            for task in found["task_instances"]
        }

    def tries(self, dag: str, run_id: str, task: str) -> int:
        """How often a task was begun."""
        path = f"/dags/{dag}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task}"
        return int(self.call("GET", path)["try_number"])

    def wait_for(self, dag: str, run_id: str, seconds: float = 1500) -> dict[str, str | None]:
        """The tasks' states when the run has ended."""
        self._until(lambda: self.run(dag, run_id)["state"] in FINISHED, seconds, f"{run_id} did not end")
        return self.states(dag, run_id)

    def wait_for_task(self, dag: str, run_id: str, task: str, state: str, seconds: float = 900) -> None:
        reached = lambda: self.states(dag, run_id).get(task) == state  # noqa: E731
        self._until(reached, seconds, f"{task} did not get {state}")

    def answer(self, dag: str, run_id: str, task: str, option: str) -> None:
        """What a person answers under Required Actions, and not within the same second.

        Airflow 3.3.2 kills a task whose answer comes while its process is still ending, and asks again.
        """
        time.sleep(10)
        path = f"/dags/{dag}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task}/-1/hitlDetails"
        self.call("PATCH", path, {"chosen_options": [option], "params_input": {}})

    def stop(self) -> None:
        self._http.close()
        families = [family(process.pid) for process in self._processes]
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        for each in families:
            kill_all(each)
        for process in self._processes:
            process.wait()

    def _is_ready(self) -> bool:
        assert all(each.poll() is None for each in self._processes), self.log.read_text()[-4000:]
        try:
            login = {"username": "admin", "password": self.password()}
            token = self._http.post("/auth/token", json=login).json()["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
            return len(self.call("GET", "/dags")["dags"]) == 3
        except (OSError, ValueError, KeyError, httpx.HTTPError, AssertionError):
            return False

    def _until(self, reached: Callable[[], bool], seconds: float, complaint: str) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, f"{complaint}:\n{self.log.read_text()[-3000:]}"
            time.sleep(1)


class DistributedAirflow(AirflowProcess):
    """The same with the Celery executor, its parts apart, and two workers."""

    def __init__(self, home: Path, project: Path, *, database: str, broker: str, **settings: str) -> None:
        super().__init__(
            home, project,
            AIRFLOW__CORE__EXECUTOR="CeleryExecutor",
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=database.replace("postgresql:", "postgresql+psycopg2:"),
            AIRFLOW__CELERY__RESULT_BACKEND=f"db+{database}",
            AIRFLOW__CELERY__BROKER_URL=broker,
            AIRFLOW__API_AUTH__JWT_SECRET=secrets.token_urlsafe(48),
            AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT="30",
            AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC="5",
            **settings,
        )  # fmt: skip

    def _start(self, environment: dict[str, str]) -> list[subprocess.Popen[bytes]]:
        assert self._launch(environment, "process.sh", "db", "migrate").wait() == 0, self.log.read_text()[
            -3000:
        ]
        parts = [["api-server"], ["scheduler"], ["dag-processor"], ["triggerer"]]
        parts += [
            [
                "celery",
                "worker",
                "--concurrency",
                "1",
                "--celery-hostname",
                f"{name}@here",
                "--skip-serve-logs",
            ]
            for name in ("first", "second")
        ]
        return [self._launch(environment, "process.sh", *part) for part in parts]

    def kill_worker_of(self, task: psutil.Process) -> None:
        """As if its machine had failed: the worker that runs this process, and all its children."""
        ancestors = {parent.pid for parent in task.parents()}
        (worker,) = [process for process in self._processes if process.pid in ancestors]
        self._processes.remove(worker)
        kill_all(family(worker.pid))
        worker.wait()
