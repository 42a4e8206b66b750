"""A real Airflow for tests: scheduler, API server, DAG processor, triggerer, as `make airflow` has them."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from service_process import free_port
from small_project import BIN, ROOT

FINISHED = ("success", "failed")


class AirflowProcess:
    """Runs the project's DAGs on a project in a folder.

    Args:
        home: AIRFLOW_HOME, empty.
        project: the folder that the steps run in.
        settings: environment variables.
    """

    def __init__(self, home: Path, project: Path, **settings: str) -> None:
        home.mkdir(parents=True)
        self.home = home
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.log = home / "standalone.log"
        dropped = ("AIRFLOW", "CAPTIONLOOP_", "MLFLOW_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        environment = {
            **inherited, "AIRFLOW_HOME": str(home), "AIRFLOW_PORT": str(port), "CAPTIONLOOP_BIN": str(BIN),
            "CAPTIONLOOP_PROJECT": str(project), "CAPTIONLOOP_RETRY_SECONDS": "1", "OMP_NUM_THREADS": "1",
            **settings,
        }  # fmt: skip
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [ROOT / "deploy/airflow/standalone.sh"], env=environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._http = httpx.Client(base_url=self.url, timeout=60)

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
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self._process.pid).children(recursive=True)
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            for each in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        self._process.kill()
        self._process.wait()

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()[-4000:]
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
